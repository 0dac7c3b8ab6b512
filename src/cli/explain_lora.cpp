// explain lora: one layer and the low-rank change that an adapter makes to it.
#include "cli/explain.hpp"
#include "glassformer/explain/lora.hpp"
#include "glassformer/io/adapter_directory.hpp"

namespace glassformer::cli {

int explain_lora_command(Arguments arguments) {
  Options o("explain lora",
            "One layer and its adapter: W, A, B, the change α/r·B·A, the merged matrix, what is trained. Without --model, an example small "
            "enough to redo by hand.");
  declare_model_and_prompt(o);
  o.path("adapter", "DIR", "the model's adapter; required with --model");
  o.text("target", "NAME", "which of its matrices, blocks.0.attn.q say (the first)");
  o.integer("token", std::nullopt, 0, "place of the token whose row is shown, counted from 0 (the last)");
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer explain lora");
  o.example("glassformer explain lora --model glassformer-demo/model --adapter glassformer-demo/support --prompt \"Customer: hello\"");
  if (!o.parse(arguments)) return 0;
  require_usage(o.given("adapter") == o.given("model"), "expected --model DIR with --prompt TEXT and --adapter DIR together, or none of them");
  for (const char* name : {"target", "token"}) require_usage(o.given("model") || !o.given(name), "--{}: expected --model: the example has one layer", name);

  if (const auto model = model_to_explain(o)) {
    const AdapterFiles adapter = checked(load_adapter(o.text("adapter"), model->decoder));
    for (const std::string& warning : adapter.warnings) fmt::print(stderr, "note: {}\n", warning);
    LoraQuestion question;
    question.target = o.text("target"), question.token = o.integer_or("token", -1), question.exec = o.exec();
    const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
    print_story(o, explain_lora(model->decoder, adapter.adapter, text, question));
  } else {
    print_story(o, explain_lora_example(o.exec()));
  }
  return 0;
}

}  // namespace glassformer::cli
