// eval: the loss of a model on a text.
#include <chrono>

#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"
#include "cli/what_if.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer::cli {

namespace {

struct Measurement {
  Score score;
  std::optional<double> agreement;  // share of right answers
  double seconds = 0;               // of the score
  double tokens_per_s() const { return static_cast<double>(score.tokens) / seconds; }
};

Measurement measured(const ModelFiles& files, std::span<const Token> ids, Index context, Index questions, std::uint64_t seed,
                     const Exec& exec) {
  Measurement m;
  const auto start = std::chrono::steady_clock::now();
  m.score = score_tokens(files.decoder, files.tokenizer, ids, context, exec);
  m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (questions > 0) m.agreement = agreement_accuracy(files.decoder, files.tokenizer, agreement_items(questions, seed), exec);
  return m;
}

JsonLine json_of(const Measurement& m, std::optional<double> source_bits_per_byte) {
  JsonLine json;
  json.add("tokens", m.score.tokens).add("loss_nats", m.score.loss_nats()).add("perplexity", m.score.perplexity());
  json.add("bits_per_byte", m.score.bits_per_byte()).add("accuracy", m.score.accuracy());
  json.add("seconds", m.seconds).add("tokens_per_s", m.tokens_per_s());
  if (source_bits_per_byte) json.add("source_bits_per_byte", *source_bits_per_byte);
  if (m.agreement) json.add("agreement", *m.agreement);
  return json;
}

// A line for each figure; with two columns also their difference.
std::string text_of(const std::vector<Measurement>& columns, std::optional<double> source_bits_per_byte) {
  std::string out;
  const auto line = [&](const char* name, int decimals, const char* unit, const auto& figure) {
    out += fmt::format("{:<15}", name);
    if (columns.size() == 1) {
      out += fmt::format("{:.{}f}{}\n", figure(columns[0]), decimals, unit);
    } else {
      const double before = figure(columns[0]), after = figure(columns[1]);
      out += fmt::format("{:<12.{}f}{:<12.{}f}{:+.{}f}{}\n", before, decimals, after, decimals, after - before, decimals, unit);
    }
  };
  line("loss", 4, " nats per token", [](const Measurement& m) { return m.score.loss_nats(); });
  line("perplexity", 3, "", [](const Measurement& m) { return m.score.perplexity(); });
  line("bits per byte", 4, "", [](const Measurement& m) { return m.score.bits_per_byte(); });
  if (source_bits_per_byte)
    line("above source", 4, fmt::format("   (the source has {:.4f})", *source_bits_per_byte).c_str(),
         [&](const Measurement& m) { return m.score.bits_per_byte() - *source_bits_per_byte; });
  line("accuracy", 2, "% of tokens were the first choice", [](const Measurement& m) { return 100 * m.score.accuracy(); });
  if (columns.front().agreement) line("agreement", 2, "% of the questions", [](const Measurement& m) { return 100 * *m.agreement; });
  if (columns.size() == 1) out += fmt::format("speed          {} tokens/s\n", grouped(static_cast<long long>(columns[0].tokens_per_s())));
  return out;
}

}  // namespace

int eval_command(Arguments arguments) {
  Options o("eval", "Measures a model on a text: every token but the first is predicted once, in windows of the context.");
  o.path("model", "DIR", "model directory, or a llama2.c .bin file", required);
  declare_adapters(o);
  declare_text_source(o);
  o.group("Measurement");
  o.integer("context", {}, 1, "tokens of a window; the model's context unless given");
  o.integer("agreement", 0, 0, "also N questions of the corpus stories whose one right answer was last said sentences before; 0: none");
  declare_stretch(o, false);
  declare_what_if(o, false);
  o.common(kSeed | kThreads | kKernels | kActivations | kJson);
  o.example("glassformer eval --model model --data other-stories.txt");
  o.example("glassformer eval --model model --corpus stories --context 1024 --rope-scaling yarn");
  if (!o.parse(arguments)) return 0;

  const WhatIf what = what_if(o, false);
  AdaptedModel files = load_adapted_model(o);
  validate(files.decoder.config, what);
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  rounds_activations(o, files.decoder, o.text("model"));
  const TextSource source = read_text_source(o, o.seed());
  const std::vector<Token> ids = tokens_to_score(files.tokenizer, source, files.decoder.config);
  const Index context = o.integer_or("context", files.decoder.config.context);
  require_usage(files.decoder.config.position != Position::learned || context <= files.decoder.config.context,
                "--context: expected at most {}, the places that the model has learned, found {}", files.decoder.config.context, context);
  if (context > files.decoder.config.context || o.given("rope-scaling") || o.given("rope-factor") || o.given("rope-original-context"))
    stretch_model(o, files.decoder);

  const auto measure = [&] { return measured(files, ids, context, o.integer("agreement"), o.seed(), o.exec()); };
  std::vector<Measurement> columns = {measure()};
  if (!what.empty()) {
    const Intervention change(files.decoder, files.tokenizer, what);
    columns.push_back(measure());
  }
  if (o.json()) {
    JsonLine json = json_of(columns.back(), source.bits_per_byte);
    if (!what.empty()) json.add("before", json_of(columns.front(), source.bits_per_byte));
    json.print();
    return 0;
  }
  print_output(fmt::format("text           {}, {} tokens in windows of {}\n", source.name, grouped(columns.front().score.tokens), context));
  if (!what.empty())
    print_output(fmt::format("what if        {}\n{:<15}{:<12}{:<12}difference\n", what_if_text(what), "", "before", "after"));
  print_output(text_of(columns, source.bits_per_byte));
  return 0;
}

}  // namespace glassformer::cli
