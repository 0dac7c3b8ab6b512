// explain position: how a token knows where it stands.
#include "cli/explain.hpp"
#include "cli/model_options.hpp"
#include "glassformer/explain/position.hpp"
#include "glassformer/model/config.hpp"

namespace glassformer::cli {

int explain_position_command(Arguments arguments) {
  Options o("explain position",
            "How a token knows where it stands: the encoding, one pair turned, what a shift of the text does. Without --model, an example small "
            "enough to redo by hand.");
  std::vector<std::string> kinds;
  for (const auto& choice : choices<Position>()) kinds.emplace_back(choice.name);
  o.choice("kind", kinds, "of the example; a model has its own", "rope");
  declare_model_and_prompt(o);
  o.integer("layer", 0, 0, "layer, counted from 0");
  o.integer("head", 0, 0, "head, counted from 0");
  o.integer("token", std::nullopt, 0, "place of the token whose query is followed, counted from 0 (the last; in the example, 2)");
  declare_stretch(o, true);
  o.common(kThreads | kJson);
  o.example("glassformer explain position --kind sinusoidal");
  o.example("glassformer explain position --kind rope --rope-scaling yarn --rope-factor 4");
  o.example("glassformer explain position --model model --prompt \"Once upon a time\" --layer 1 --head 2");
  if (!o.parse(arguments)) return 0;

  PositionQuestion question;
  question.layer = o.integer("layer"), question.head = o.integer("head"), question.query = o.integer_or("token", -1);
  question.exec = o.exec();
  PositionSteps steps;
  if (const auto model = model_to_explain(o)) {
    require_usage(!o.given("kind"), "--kind belongs to the example: this model has {}", choice_name(model->decoder.config.position));
    stretch_model(o, model->decoder);
    steps = explain_position(model->decoder, model->tokenizer, o.text("prompt"), question);
    steps.attention.model = model->description;
  } else {
    require_usage(!o.given("context"), "--context: expected --model beside it, found the example, whose context is 16");
    question.stretch = rope_options(o, {});
    if (is_yarn(question.stretch) && question.stretch.trained_context == 0) question.stretch.trained_context = 16;
    steps = explain_position_example(checked(choice_named<Position>(o.text("kind"))), question);
  }
  print_story(o, position_story(steps));
  return 0;
}

}  // namespace glassformer::cli
