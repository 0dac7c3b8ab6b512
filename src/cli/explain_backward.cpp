// explain backward: the chain rule through one block, each gradient beside its difference.
#include "cli/explain.hpp"
#include "glassformer/explain/backward.hpp"

namespace glassformer::cli {
namespace {

constexpr std::size_t kLongPrompt = 128;  // tokens

}  // namespace

int explain_backward_command(Arguments arguments) {
  Options o(
      "explain backward",
      "The chain rule through one block, from the loss to the embedding: each local derivative, the gradient that the engine recorded, "
      "and the same by differences made on the spot. Without --model, an example small enough to redo by hand.");
  declare_model_and_prompt(o, "what the model reads; the loss is that of predicting each of its tokens but the first");
  o.integer("layer", 0, 0, "layer, counted from 0");
  o.integer("head", 0, 0, "head whose softmax is written out, counted from 0");
  o.integer("token", std::nullopt, 0, "place of the token that is followed, counted from 0 (the one whose successor is predicted worst)");
  o.integer("entries", 4, 1, "numbers of each site that are compared one by one; in the example all are");
  o.common(kThreads | kJson);
  o.example("glassformer explain backward");
  o.example("glassformer explain backward --model glassformer-demo/model --prompt \"Once upon a time\" --layer 1");
  if (!o.parse(arguments)) return 0;

  BackwardQuestion question;
  question.layer = o.integer("layer"), question.head = o.integer("head"), question.token = o.integer_or("token", -1);
  question.entries = o.integer("entries"), question.exec = o.exec();
  if (o.given("adapter"))  // the pass is told of in double, of the model's own weights
    throw UsageError(fmt::format("--adapter: expected none here, found {}: merge it first (lora merge)", o.texts("adapter").front()));
  if (const auto model = model_to_explain(o)) {
    const ExplainedText text = explained_text(model->decoder, model->tokenizer, o.text("prompt"), model->description);
    if (const std::size_t T = text.ids.size(); T > kLongPrompt)
      fmt::print(stderr, "note: the prompt has {} tokens, and each difference reads them four times: this may take long\n", T);
    print_story(o, explain_backward(convert_decoder<double>(model->decoder), text, question));
  } else {
    print_story(o, explain_backward_example(question));
  }
  return 0;
}

}  // namespace glassformer::cli
