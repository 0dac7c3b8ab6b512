// explain cache: the same decode with the KV cache and without.
#include <algorithm>

#include "cli/explain.hpp"
#include "glassformer/explain/cache.hpp"

namespace glassformer::cli {
namespace {

constexpr Index kLongPrompt = 128;  // tokens

}  // namespace

int explain_cache_command(Arguments arguments) {
  Options o("explain cache",
            "The same decode with the KV cache and without: what each step computes, what the cache holds and takes. Without --model, an "
            "example small enough to redo by hand.");
  declare_model_and_prompt(o);
  o.integer("layer", 0, 0, "layer whose cached keys and values are shown, counted from 0");
  o.integer("head", 0, 0, "query head that reads them, counted from 0");
  o.integer("max-tokens", std::nullopt, 1, "tokens to decode after the prompt (8, or as many as fit; in the example 4)");
  o.integer("sinks", std::nullopt, 0, "first tokens that a full cache keeps when it slides (4; in the example 1)");
  o.integer("kv-heads", std::nullopt, 1, "key-value heads of the example, 2 or 1 (2)");
  declare_what_if(o, false);
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer explain cache");
  o.example("glassformer explain cache --model glassformer-demo/model --prompt \"Once upon a time\" --layer 1 --max-tokens 20");
  if (!o.parse(arguments)) return 0;
  require_usage(!(o.given("model") && o.given("kv-heads")), "--kv-heads: expected no --model: it shapes the example");

  const bool example = !o.given("model");
  CacheQuestion question;
  question.layer = o.integer("layer"), question.head = o.integer("head");
  const Index most = example ? 4 : 8;
  question.new_tokens = o.integer_or("max-tokens", most), question.sinks = o.integer_or("sinks", example ? 1 : 4);
  question.exec = o.exec();
  if (const auto model = model_to_explain(o, false)) {
    const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
    const Index T = static_cast<Index>(text.ids.size()), room = model->decoder.config.context - T;
    if (!o.given("max-tokens")) question.new_tokens = std::clamp<Index>(room, 1, most);
    require_usage(room < 1 || question.new_tokens <= room, "--max-tokens: expected 1 … {} (the model's context is {} and the prompt takes {}), found {}",
                  room, model->decoder.config.context, T, question.new_tokens);
    if (T > kLongPrompt) fmt::print(stderr, "note: the prompt has {} tokens, and each step reads all of them again: this may take long\n", T);
    print_story(o, explain_cache(model->decoder, text, question), model.get());
  } else {
    print_story(o, explain_cache_example(o.integer_or("kv-heads", 2), question));
  }
  return 0;
}

}  // namespace glassformer::cli
