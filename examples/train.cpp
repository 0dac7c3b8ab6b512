// Training on a task whose best loss is known: four random letters, a bar, and the same letters backwards ("cafb|bfac").
// The random letters cost ln 8 nats each and nothing after the bar costs anything, so no model can get below the floor.
//   build/release/examples/train
#include <fmt/core.h>

#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/train/trainer.hpp"

using namespace glassformer;

constexpr Token kLetters = 8, kBar = 8;
constexpr std::size_t kLength = 4;

std::vector<Token> sequence(const RandomStream& stream, std::uint64_t number) {
  std::vector<Token> ids(2 * kLength + 1, kBar);
  for (std::size_t i = 0; i < kLength; ++i)
    ids[i] = ids[2 * kLength - i] = static_cast<Token>(random_below(stream, number * kLength + i, kLetters));
  return ids;
}

int main() {
  const ModelConfig config = resolved({.vocab = kLetters + 1, .context = 2 * kLength + 1, .layers = 2, .heads = 2, .width = 32});
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  const TrainOptions options{.steps = 600, .batch = 32, .rate = 5e-3, .min_rate = 5e-4, .warmup = 20, .weight_decay = 0};
  Trainer<float> trainer(model, options);

  const auto batch = [&](Index step, Index) {
    std::vector<Example> examples;  // the first letter is given, the rest is scored
    for (Index row = 0; row < options.batch; ++row) {
      const std::vector<Token> ids = sequence(RandomStream{1}.at("train"), static_cast<std::uint64_t>(step * options.batch + row));
      examples.push_back({{ids[0]}, {ids.begin() + 1, ids.end()}});
    }
    return pack_examples(examples, model.config.context);
  };
  const double floor = (kLength - 1) * std::log(kLetters) / (2 * kLength);  // of the 8 scored tokens three are random
  fmt::print("a guess among nine tokens   ln 9 = {:.1f} nats\n", std::log(kLetters + 1));
  fmt::print("floor                   3·ln 8/8 = {:.2f} nats\n", floor);
  fmt::print("loss of the first step             {:.1f}\n", trainer.step(batch).loss_nats);
  while (trainer.steps_done() < options.steps - 50) trainer.step(batch);
  double last = 0;  // mean of the last 50 steps
  while (trainer.steps_done() < options.steps) last += trainer.step(batch).loss_nats / 50;
  fmt::print("last 50 steps within 0.02 of it    {}\n", std::abs(last - floor) < 0.02 ? "yes" : "NO");

  int right = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {  // sequences that it never saw
    const std::vector<Token> ids = sequence(RandomStream{1}.at("test"), i);
    const Matrix<float> logits = decoder_read<float>(model, ids);  // row t speaks of token t + 1
    bool all = true;
    for (std::size_t t = kLength; t + 1 < ids.size(); ++t) {
      Index best = 0;
      logits.row(static_cast<Index>(t)).maxCoeff(&best);
      all = all && best == ids[t + 1];
    }
    right += all;
  }
  fmt::print("new sequences: 195 of 200 reversed {}\n", right >= 195 ? "yes" : fmt::format("NO, {}", right));
}
