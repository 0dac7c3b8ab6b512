// glassformer explain COMPONENT: its story, with every number.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "cli/command.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/explain/attention.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {
namespace {

plot::Colour colour_of(const Terminal& t) {
  if (!t.colour) return plot::Colour::none;
  const char* depth = std::getenv("COLORTERM");
  const std::string_view name = depth ? depth : "";
  return name == "truecolor" || name == "24bit" ? plot::Colour::rgb : plot::Colour::ansi256;
}

int explain_attention_command(Arguments arguments) {
  Options o("explain attention",
            "One head of attention, step by step: formula beside numbers. Without --model, an example small enough to redo by hand.");
  o.path("model", "DIR", "model directory, or llama2.c's model.bin; none: the example");
  o.text("prompt", "TEXT", "what the model reads");
  o.integer("layer", 0, 0, "layer, counted from 0");
  o.integer("head", 0, 0, "head, counted from 0");
  o.integer("query", std::nullopt, 0, "place of the token to follow, counted from 0 (the last; in the example, 2)");
  o.common(kThreads | kJson);
  o.example("glassformer explain attention");
  o.example("glassformer explain attention --model out --prompt \"Once upon a time\" --layer 1 --head 2");
  if (!o.parse(arguments)) return 0;

  AttentionQuestion question;
  question.layer = o.integer("layer"), question.head = o.integer("head"), question.query = o.integer_or("query", -1);
  question.exec = o.exec();
  AttentionStory story;
  if (o.given("model")) {
    require_usage(o.given("prompt"), "expected --prompt TEXT with --model; see glassformer explain attention --help");
    const ModelFiles model = checked(load_model(o.text("model")));
    for (const std::string& warning : model.warnings) fmt::print(stderr, "glassformer: {}\n", warning);
    story = explain_attention(model.decoder, model.tokenizer, o.text("prompt"), question);
    story.model = model.description;
  } else {
    require_usage(!o.given("prompt"), "expected --model DIR with --prompt: the example has its own text");
    story = explain_attention_example(question);
  }
  const Terminal t = terminal(stdout);
  print_output(attention_text(story, colour_of(t), std::clamp<Index>(t.width, 60, 80)));
  if (o.json()) print_output(attention_json(story) + "\n");
  return 0;
}

constexpr Command kComponents[] = {
    {"attention", "queries, keys, values, scores, mask, softmax, output of one head", explain_attention_command}};

}  // namespace

int explain_command(Arguments arguments) {
  return dispatch("glassformer explain", "Shows what happens inside a component, number by number.", kComponents, arguments);
}

}  // namespace glassformer::cli
