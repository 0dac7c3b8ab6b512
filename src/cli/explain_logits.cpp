// explain lens, explain attribution: what the logits are made of.
#include "cli/explain.hpp"
#include "glassformer/explain/logits.hpp"

namespace glassformer::cli {
namespace {

void declare(Options& o) {
  declare_model_and_prompt(o);
  o.integer("token", std::nullopt, 0, "place of the token after which is predicted, counted from 0 (the last)");
  o.text("answer", "TEXT", "the token that is followed, as its bytes; a leading space belongs to it (what the model predicts)");
}

}  // namespace

int explain_lens_command(Arguments arguments) {
  Options o(
      "explain lens",
      "The logit lens: what the model would say if it ended after each layer. Without --model, an example small enough to redo by hand.");
  declare(o);
  o.integer("top", 3, 1, "first choices of each layer to show");
  declare_what_if(o);
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer explain lens");
  o.example("glassformer explain lens --model glassformer-demo/model --prompt \"Once upon a time\"");
  if (!o.parse(arguments)) return 0;

  LensQuestion question;
  question.token = o.integer_or("token", -1), question.top = o.integer("top"), question.exec = o.exec();
  const auto answer = [&](const ExplainedText& text) {
    if (o.given("answer")) question.answer = token_named(text, "answer", o.text("answer"));
  };
  if (const auto model = model_to_explain(o, true)) {
    const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
    answer(text);
    print_story(o, explain_lens<float>(model->decoder, text, question), model.get());
  } else {
    answer(logits_example_text());
    print_story(o, explain_lens_example(question));
  }
  return 0;
}

int explain_attribution_command(Arguments arguments) {
  Options o(
      "explain attribution",
      "Direct logit attribution: how much each head and MLP adds to one logit. Without --model, an example small enough to redo by hand.");
  declare(o);
  o.text("against", "TEXT", "another token: the difference of the two logits is explained");
  declare_what_if(o);
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer explain attribution --against cat");
  o.example("glassformer explain attribution --model glassformer-demo/model --prompt \"Once upon a time\"");
  if (!o.parse(arguments)) return 0;

  AttributionQuestion question;
  question.token = o.integer_or("token", -1), question.exec = o.exec();
  const auto tokens = [&](const ExplainedText& text) {
    if (o.given("answer")) question.answer = token_named(text, "answer", o.text("answer"));
    if (o.given("against")) question.against = token_named(text, "against", o.text("against"));
  };
  if (const auto model = model_to_explain(o, true)) {
    const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
    tokens(text);
    print_story(o, explain_attribution<float>(model->decoder, text, question), model.get());
  } else {
    tokens(logits_example_text());
    print_story(o, explain_attribution_example(question));
  }
  return 0;
}

}  // namespace glassformer::cli
