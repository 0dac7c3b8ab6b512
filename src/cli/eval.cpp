// eval: the loss of a model on a text.
#include <chrono>

#include "cli/json_line.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer::cli {

int eval_command(Arguments arguments) {
  Options o("eval", "Measures a model on a text: every token but the first is predicted once, in windows of the context.");
  o.path("model", "DIR", "model directory, or a llama2.c .bin file", required);
  o.path("adapter", "DIR", "LoRA adapter to put on it");
  declare_text_source(o);
  o.group("Measurement");
  o.integer("context", {}, 1, "tokens of a window; the model's context unless given");
  o.integer("agreement", 0, 0, "also N questions of the corpus stories whose one right answer was last said sentences before; 0: none");
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer eval --model model --data other-stories.txt");
  if (!o.parse(arguments)) return 0;

  ModelFiles files = checked(load_model(o.text("model")));
  std::optional<AdapterFiles> adapter;
  if (o.given("adapter")) {
    adapter = checked(load_adapter(o.text("adapter"), files.decoder.config));
    attach(files.decoder, adapter->adapter);
  }
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  const TextSource source = read_text_source(o, o.seed());
  const std::vector<Token> ids = encode_text(files.tokenizer, source, document_separator(files.decoder.config));
  if (ids.size() < 2) throw Failure(fmt::format("{}: expected at least 2 tokens, found {}", source.name, ids.size()));
  const Index context = o.integer_or("context", files.decoder.config.context);
  require_usage(files.decoder.config.position != Position::learned || context <= files.decoder.config.context,
                "--context: expected at most {}, the places that the model has learned, found {}", files.decoder.config.context, context);

  const auto start = std::chrono::steady_clock::now();
  const Score score = score_tokens(files.decoder, files.tokenizer, ids, context, o.exec());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  JsonLine json;
  json.add("tokens", score.tokens)
      .add("loss_nats", score.loss_nats())
      .add("perplexity", score.perplexity())
      .add("bits_per_byte", score.bits_per_byte());
  json.add("accuracy", score.accuracy()).add("seconds", seconds).add("tokens_per_s", static_cast<double>(score.tokens) / seconds);

  std::string text = fmt::format("text           {}, {} tokens in windows of {}\n", source.name, grouped(score.tokens), context);
  text += fmt::format("loss           {:.4f} nats per token\nperplexity     {:.3f}\nbits per byte  {:.4f}", score.loss_nats(),
                      score.perplexity(), score.bits_per_byte());
  if (source.bits_per_byte) {
    text += fmt::format(", {:+.4f} above the source's {:.4f}", score.bits_per_byte() - *source.bits_per_byte, *source.bits_per_byte);
    json.add("source_bits_per_byte", *source.bits_per_byte);
  }
  text += fmt::format("\naccuracy       {:.2f}% of tokens were the first choice\n", 100 * score.accuracy());
  if (const Index n = o.integer("agreement"); n > 0) {
    const double agreement = agreement_accuracy(files.decoder, files.tokenizer, agreement_items(n, o.seed()), o.exec());
    text += fmt::format("agreement      {:.2f}% of {} questions\n", 100 * agreement, n);
    json.add("agreement", agreement);
  }
  text += fmt::format("speed          {} tokens/s\n", grouped(static_cast<long long>(static_cast<double>(score.tokens) / seconds)));
  if (o.json())
    json.print();
  else
    print_output(text);
  return 0;
}

}  // namespace glassformer::cli
