// explain lora: one matrix and the change that an adapter makes to it, or a soft prompt.
#include "cli/explain.hpp"
#include "cli/model_options.hpp"
#include "glassformer/explain/lora.hpp"

namespace glassformer::cli {

int explain_lora_command(Arguments arguments) {
  Options o(
      "explain lora",
      "One layer and its adapter (LoRA, rsLoRA, DoRA): W, A, B, the change, the merged matrix, what is trained; or a soft prompt. Without "
      "--model, an example small enough to redo by hand.");
  declare_model_and_prompt(o);
  o.text("target", "NAME", "which of its matrices, blocks.0.attn.q say (the first)");
  o.integer("token", std::nullopt, 0, "place of the token whose row is shown, counted from 0 (the last)");
  o.path("original", "DIR", "what a quantized model was quantized from: its error beside the change");
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer explain lora");
  o.example("glassformer explain lora --model glassformer-demo/model --adapter glassformer-demo/support --prompt \"Customer: hello\"");
  if (!o.parse(arguments)) return 0;
  require_usage(o.given("adapter") == o.given("model"),
                "expected --model DIR with --prompt TEXT and --adapter DIR together, or none of them");
  for (const char* name : {"target", "token", "original"})
    require_usage(o.given("model") || !o.given(name), "--{}: expected --model: the example has one layer", name);

  const auto model = model_to_explain(o, {}, true);
  if (!model) {
    print_story(o, explain_lora_example(o.exec()));
    return 0;
  }
  require_usage(model->adapters.size() == 1 && model->weights.front() == 1, "--adapter: expected one directory without a weight, found {}",
                o.texts("adapter").back());
  detach(model->decoder);
  LoraQuestion question;
  question.target = o.text("target"), question.token = o.integer_or("token", -1), question.exec = o.exec();
  std::optional<ModelFiles> original;
  if (o.given("original")) {
    require_usage(!model->decoder.quantized.empty(), "--original: expected a quantized --model beside it, found one in floating point");
    original = checked(load_model(o.text("original")));
    question.original = &original->decoder;
  }
  const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
  print_story(o, explain_lora(model->decoder, model->adapters.front().adapter, text, question));
  return 0;
}

}  // namespace glassformer::cli
