// glassformer explain COMPONENT: its story, with every number.
#include "cli/explain.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "cli/terminal.hpp"
#include "glassformer/sample/prompt.hpp"

namespace glassformer::cli {
namespace {

constexpr Command kComponents[] = {
    {"attention", "queries, keys, values, scores, mask, softmax, output of one head", explain_attention_command},
    {"backward", "the chain rule through one block, each gradient beside its difference", explain_backward_command},
    {"block", "the residual stream through one block: norm, attention, MLP, and what each adds", explain_block_command},
    {"cache", "the same decode with the KV cache and without", explain_cache_command},
    {"quantize", "one block of weights in few bits: scale, codes, what comes back, the error", explain_quantize_command},
    {"lora", "a low-rank change: A, B, the merged matrix, what is trained", explain_lora_command},
    {"lens", "the logit lens: what the model would say after each layer", explain_lens_command},
    {"attribution", "how much each head and MLP adds to one logit", explain_attribution_command},
    {"sampling", "from logits to one token: what each filter leaves, and the draw", explain_sampling_command},
    {"tokenizer", "bytes, pre-tokens, each merge with its rank, ids; what training learned", explain_tokenizer_command},
    {"position", "how a token knows where it stands: the encoding, a rotation, what a shift does", explain_position_command}};

// Who explains reads the weights themselves. False when they are in floating point.
bool dequantize(ModelFiles& model, const std::string& name) {
  if (!model.stored) return false;
  fmt::print(stderr, "note: {}: quantized ({}): taken with the numbers that its codes stand for\n", name, quantize_types_name(*model.stored));
  model.decoder = dequantize_decoder(model.decoder);
  return true;
}

}  // namespace

plot::Colour colour_of_output() {
  if (!terminal(stdout).colour) return plot::Colour::none;
  const char* depth = std::getenv("COLORTERM");
  const std::string_view name = depth ? depth : "";
  return name == "truecolor" || name == "24bit" ? plot::Colour::rgb : plot::Colour::ansi256;
}

void declare_model_and_prompt(Options& o, const std::string& prompt_help) {
  o.path("model", "DIR", "model directory, or llama2.c's model.bin; none: the example");
  o.text("prompt", "TEXT", prompt_help);
  declare_adapters(o);
}

ModelFiles load_to_explain(const Options& o, const char* option) {
  ModelFiles model = checked(load_model(o.text(option)));
  for (const std::string& warning : model.warnings) fmt::print(stderr, "note: {}\n", warning);
  dequantize(model, o.text(option));
  return model;
}

std::unique_ptr<ModelToExplain> model_to_explain(const Options& o, std::optional<bool> patches, bool as_stored) {
  const WhatIf what = patches ? what_if(o, *patches) : WhatIf{};
  require_usage(o.given("model") || !o.given("prompt"), "expected --model DIR with --prompt: the example has its own text");
  require_usage(o.given("model") || what.empty(), "expected --model DIR and --prompt TEXT for a what-if: the example is as it is");
  require_usage(o.given("model") || !o.given("adapter"),
                "expected --model DIR and --prompt TEXT with --adapter: the example has none of yours");
  if (!o.given("model")) return {};
  require_usage(o.given("prompt"), "expected --prompt TEXT with --model");
  auto model = std::make_unique<ModelToExplain>(load_adapted_model(o));
  for (const std::string& warning : model->warnings) fmt::print(stderr, "note: {}\n", warning);
  require_usage(as_stored || !model->decoder.prompt,
                "--adapter: expected adapters of the weights, found a soft prompt, which explain lora tells of");
  if (!as_stored && dequantize(*model, o.text("model"))) {
    for (std::size_t i = 0; i < model->adapters.size(); ++i) attach(model->decoder, model->adapters[i].adapter, model->weights[i]);
  }
  if (what.empty()) return model;
  const Prompt prompt = read_prompt(model->decoder.config, model->tokenizer, o.text("prompt"));
  const Reaction before = reaction(model->decoder, prompt.ids, o.exec());
  model->intervention = std::make_unique<Intervention>(model->decoder, model->tokenizer, what, o.exec());
  add_reactions(model->change, model->tokenizer, before, reaction(model->decoder, prompt.ids, o.exec()));
  model->change.opening.push_back(fmt::format("Changed: {}. What that did stands at the end.", what_if_text(what)));
  return model;
}

void print_story(const Options& o, Story story, const ModelToExplain* model) {
  if (model && model->intervention) {
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(story.opening, model->change.opening);
    append(story.sections, model->change.sections);
    append(story.data, model->change.data);
  }
  print_output(story_text(story, colour_of_output(), std::clamp<Index>(terminal(stdout).width, 60, 80)));
  if (o.json()) print_output(story_json(story) + "\n");
}

int explain_command(Arguments arguments) {
  return dispatch("glassformer explain", "Shows what happens inside a component, number by number.", kComponents, arguments);
}

}  // namespace glassformer::cli
