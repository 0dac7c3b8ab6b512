// explain tokenizer: from text to ids.
#include "cli/explain.hpp"
#include "cli/text_source.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/explain/tokenizer.hpp"

namespace glassformer::cli {
namespace {

// Of --tokenizer: char is built from --data, else from the text itself.
Tokenizer chosen(const Options& o, const std::string& text) {
  const std::string choice = o.text("tokenizer");
  require_usage(choice != "bpe", "--tokenizer: expected char, byte, a directory or a file, found bpe; the example without --tokenizer is one");
  TextSource source{"the text", text, {}};
  if (o.given("data")) source = {o.text("data"), checked(read_text(o.text("data"))), {}};
  return choose_tokenizer(choice, source, 0);
}

}  // namespace

int explain_tokenizer_command(Arguments arguments) {
  Options o("explain tokenizer",
            "From text to ids: bytes, pre-tokens, each merge with its rank, and what training did. Without --model and --tokenizer, a BPE "
            "trained on a few words.");
  o.path("model", "DIR", "model directory, or llama2.c's model.bin: its tokenizer");
  o.path("tokenizer", "NAME", "char, byte, a directory, a tokenizer.json or a llama2.c tokenizer.bin");
  o.path("data", "FILE", "with --tokenizer char: the text that it is built from (the prompt)");
  o.text("prompt", "TEXT", "what is encoded (the example's)");
  o.integer("token", std::nullopt, 0, "number of the pre-token whose merges are written out (the one with the most)");
  o.common(kJson);
  o.example("glassformer explain tokenizer");
  o.example("glassformer explain tokenizer --model model --prompt \"The café costs 12 dollars\" --token 1");
  if (!o.parse(arguments)) return 0;

  require_usage(!o.given("model") || !o.given("tokenizer"), "expected one of --model and --tokenizer, found both");
  require_usage(!o.given("data") || (o.given("tokenizer") && o.text("tokenizer") == "char"), "--data belongs to --tokenizer char");
  require_usage(!o.given("model") || o.given("prompt"), "expected --prompt TEXT with --model");
  const std::string text = o.given("prompt") ? o.text("prompt") : std::string(tokenizer_example_text());
  const Index piece = o.integer_or("token", -1);
  TokenizerSteps steps;
  if (o.given("model")) {
    steps = explain_tokenizer(checked(load_model(o.text("model"))).tokenizer, text, {.piece = piece});
  } else if (o.given("tokenizer")) {
    steps = explain_tokenizer(chosen(o, text), text, {.piece = piece});
  } else {
    steps = explain_tokenizer_example(piece, text);
  }
  print_story(o, tokenizer_story(steps));
  return 0;
}

}  // namespace glassformer::cli
