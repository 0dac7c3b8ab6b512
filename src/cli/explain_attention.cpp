// explain attention: one head, step by step.
#include "cli/explain.hpp"
#include "glassformer/explain/attention.hpp"

namespace glassformer::cli {

int explain_attention_command(Arguments arguments) {
  Options o("explain attention",
            "One head of attention, step by step: formula beside numbers. Without --model, an example small enough to redo by hand.");
  declare_model_and_prompt(o);
  o.integer("layer", 0, 0, "layer, counted from 0");
  o.integer("head", 0, 0, "head, counted from 0");
  o.integer("token", std::nullopt, 0, "place of the token whose query is followed, counted from 0 (the last; in the example, 2)");
  declare_what_if(o);
  o.common(kThreads | kJson);
  o.example("glassformer explain attention");
  o.example("glassformer explain attention --model glassformer-demo/model --prompt \"Once upon a time\" --layer 1 --head 2");
  if (!o.parse(arguments)) return 0;

  AttentionQuestion question;
  question.layer = o.integer("layer"), question.head = o.integer("head"), question.query = o.integer_or("token", -1);
  question.exec = o.exec();
  AttentionSteps steps;
  const auto model = model_to_explain(o, true);
  if (model) {
    steps = explain_attention(model->decoder, model->tokenizer, o.text("prompt"), question);
    steps.model = model->description;
  } else {
    steps = explain_attention_example(question);
  }
  print_story(o, attention_story(steps), model.get());
  return 0;
}

}  // namespace glassformer::cli
