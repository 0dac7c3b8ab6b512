// explain sampling: from logits to one token, filter by filter.
#include "cli/explain.hpp"
#include "cli/sampling_options.hpp"
#include "glassformer/explain/sampling.hpp"

namespace glassformer::cli {

int explain_sampling_command(Arguments arguments) {
  Options o(
      "explain sampling",
      "From logits to one token: what each filter leaves, and the draw. Without --model, an example small enough to redo by hand; it has "
      "options of its own (every filter on) unless one is given.");
  declare_model_and_prompt(o);
  o.integer("token", std::nullopt, 0, "draw after this token of the prompt, counted from 0 (the last)");
  declare_sampling(o);
  declare_what_if(o);
  o.common(kSeed | kThreads | kJson);
  o.example("glassformer explain sampling");
  o.example("glassformer explain sampling --model model --prompt \"Once upon a time\" --temperature 0.7 --top-p 0.9 --seed 2");
  if (!o.parse(arguments)) return 0;

  SamplingQuestion question;
  question.options = sampling_options(o);
  question.seed = o.seed(), question.token = o.integer_or("token", -1), question.exec = o.exec();
  SamplingSteps steps;
  const auto model = model_to_explain(o, true);
  if (model) {
    steps = explain_sampling(model->decoder, model->tokenizer, o.text("prompt"), question);
    steps.model = model->description;
  } else {
    if (!sampling_given(o)) question.options = sampling_example_options();
    steps = explain_sampling_example(question);
  }
  print_story(o, sampling_story(steps), model.get());
  return 0;
}

}  // namespace glassformer::cli
