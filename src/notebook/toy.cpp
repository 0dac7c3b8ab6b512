#include "glassformer/notebook/toy.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

constexpr double kSecondsBetweenNews = 2;

double seconds_since(std::chrono::steady_clock::time_point start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }

TrainOptions with_notebook(TrainOptions o, const Notebook& nb) {
  if (o.exec.threads == 1) o.exec.threads = nb.exec().threads;
  o.warmup = std::min(o.warmup, o.steps);
  o.min_rate = std::min(o.min_rate, o.rate);
  return o;
}

}  // namespace

ToyText toy_text(CorpusKind kind, Index bytes, std::uint64_t seed) {
  const Corpus corpus = make_corpus(kind, bytes, seed);
  ToyText text = toy_text(corpus.text, character_tokenizer(corpus.text));
  text.source_bits_per_byte = source_bits_per_byte(kind);
  return text;
}

ToyText toy_text(std::string_view text, Tokenizer tokenizer) {
  TokenSplit split = split_tokens(tokenizer.encode(text));
  return {std::move(tokenizer), std::move(split.train), std::move(split.val), 0};
}

BatchSource text_batches(std::span<const Token> ids, Index batch, Index context, std::uint64_t seed) {
  const RandomStream stream = RandomStream{seed}.at("batches");
  return [ids, batch, context, stream](Index step, Index micro) {
    return random_batch(ids, batch, context, stream.at(static_cast<std::uint64_t>(micro)), static_cast<std::uint64_t>(step));
  };
}

std::vector<double> train_more(const Notebook& nb, std::string_view name, Decoder<float>& model, TrainOptions options, const BatchSource& batches) {
  Trainer<float> trainer(model, with_notebook(options, nb));
  std::vector<double> losses;
  auto told = std::chrono::steady_clock::now();
  while (trainer.steps_done() < options.steps) {
    const StepReport r = trainer.step(batches);
    losses.push_back(r.loss_nats);
    if (seconds_since(told) < kSecondsBetweenNews && r.step < options.steps) continue;
    told = std::chrono::steady_clock::now();
    nb.progress(fmt::format("{}: step {}/{}, loss {:.3f}", name, r.step, options.steps, r.loss_nats));
  }
  return losses;
}

ToyRun train_toy(const Notebook& nb, std::string_view name, ModelConfig config, TrainOptions options, const BatchSource& batches) {
  require(config.vocab > 0, "train_toy: expected a vocabulary in the configuration of {}, found none", name);
  const auto start = std::chrono::steady_clock::now();
  ToyRun run{make_decoder<float>(resolved(config)), {}, 0};
  initialize(run.model, options.seed);
  run.losses = train_more(nb, name, run.model, options, batches);
  run.seconds = seconds_since(start);
  return run;
}

ToyRun train_toy(const Notebook& nb, std::string_view name, ModelConfig config, TrainOptions options, const ToyText& text) {
  if (config.vocab == 0) config.vocab = text.tokenizer.vocab_size();
  return train_toy(nb, name, config, options, text_batches(text.train, options.batch, config.context, options.seed));
}

std::vector<double> loss_by_place(const Decoder<float>& model, std::span<const Token> ids, Index length, Index windows, const Exec& exec) {
  const Index n = static_cast<Index>(ids.size());
  require(length >= 1 && n > length, "loss_by_place: expected more than {} tokens for windows of that length, found {}", length, n);
  windows = std::clamp<Index>(windows, 1, (n - 1) / length);
  std::vector<double> sums(static_cast<std::size_t>(length), 0);
  Workspace workspace;
  const Index at_once = std::max<Index>(1, 4096 / length);
  for (Index done = 0; done < windows;) {
    const Index count = std::min(at_once, windows - done);
    std::vector<Token> inputs, targets;
    std::vector<Index> starts = {0};
    for (Index w = done; w < done + count; ++w) {
      const Index begin = windows == 1 ? 0 : (n - 1 - length) * w / (windows - 1);
      inputs.insert(inputs.end(), ids.begin() + begin, ids.begin() + begin + length);
      targets.insert(targets.end(), ids.begin() + begin + 1, ids.begin() + begin + 1 + length);
      starts.push_back(static_cast<Index>(inputs.size()));
    }
    std::vector<double> losses(inputs.size());
    Pass<float> pass;
    pass.exec = exec, pass.starts = starts, pass.workspace = &workspace;
    decoder_loss<float>(model, pass, inputs, targets, nullptr, nullptr, 1.0F, losses);
    for (std::size_t i = 0; i < losses.size(); ++i) sums[i % static_cast<std::size_t>(length)] += losses[i];
    done += count;
  }
  for (double& s : sums) s /= static_cast<double>(windows);
  return sums;
}

double mean_of(std::span<const double> values, Index begin, Index end) {
  require(0 <= begin && begin < end && end <= static_cast<Index>(values.size()), "mean_of: expected a range inside [0, {}), found [{}, {})", values.size(), begin, end);
  return std::accumulate(values.begin() + begin, values.begin() + end, 0.0) / static_cast<double>(end - begin);
}

story::Chart loss_chart(std::string key, std::string title, const std::vector<NamedLosses>& runs, Index points) {
  require(!runs.empty() && points >= 1, "loss_chart: expected a run and a point or more");
  const Index steps = static_cast<Index>(runs.front().losses.size());
  points = std::min(points, steps);
  plot::Chart c;
  c.title = std::move(title), c.x_label = "step", c.y_label = "loss, nats per token";
  for (Index p = 0; p < points; ++p) c.x.push_back(static_cast<double>(steps * (p + 1) / points));
  for (const NamedLosses& run : runs) {
    require(static_cast<Index>(run.losses.size()) == steps, "loss_chart: expected {} losses of {}, found {}", steps, run.name, run.losses.size());
    plot::Series s{run.name, {}};
    for (Index p = 0; p < points; ++p) s.y.push_back(mean_of(run.losses, steps * p / points, steps * (p + 1) / points));
    c.series.push_back(std::move(s));
  }
  return {std::move(key), std::move(c)};
}

}  // namespace glassformer
