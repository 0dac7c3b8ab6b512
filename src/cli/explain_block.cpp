// explain block: the residual stream of one token through one block.
#include "cli/explain.hpp"
#include "glassformer/explain/block.hpp"

namespace glassformer::cli {

int explain_block_command(Arguments arguments) {
  Options o("explain block",
            "One token on its way through one block: norm, attention, MLP, and what each adds. Without --model, an example small enough to "
            "redo by hand.");
  declare_model_and_prompt(o);
  o.integer("layer", 0, 0, "layer, counted from 0");
  o.integer("token", std::nullopt, 0, "place of the token that is followed, counted from 0 (the last)");
  o.integer("unit", std::nullopt, 0, "hidden unit of the MLP that is written out (the most active)");
  o.choice("arch", {"gpt2", "llama", "post-norm", "attention-only"}, "block of the example", "gpt2");
  declare_what_if(o);
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer explain block --arch llama");
  o.example("glassformer explain block --model glassformer-demo/model --prompt \"Once upon a time\" --layer 1");
  if (!o.parse(arguments)) return 0;
  require_usage(!(o.given("model") && o.given("arch")), "--arch: expected no --model: it chooses the example");

  BlockQuestion question;
  question.layer = o.integer("layer"), question.token = o.integer_or("token", -1), question.unit = o.integer_or("unit", -1);
  question.exec = o.exec();
  if (const auto model = model_to_explain(o, true)) {
    const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
    print_story(o, explain_block<float>(model->decoder, text, question), model.get());
  } else {
    const std::string arch = o.text("arch");
    print_story(o, explain_block_example(arch == "llama"       ? BlockExample::llama
                                         : arch == "post-norm" ? BlockExample::post_norm
                                         : arch == "gpt2"      ? BlockExample::gpt2
                                                               : BlockExample::attention_only,
                                         question));
  }
  return 0;
}

}  // namespace glassformer::cli
