// LoRA, y = x·Wᵀ + (α/r)·(x·Aᵀ)·Bᵀ: a model that counts by ones learns to count by twos. Only A and B are trained; W stays as it is, to the
// bit, and adding (α/r)·B·A to it gives one matrix that says the same.
//   build/release/examples/adapt
#include <fmt/core.h>

#include <algorithm>

#include "glassformer/model/reading.hpp"
#include "glassformer/train/trainer.hpp"

using namespace glassformer;

std::vector<Token> counting(Token from, Token by) {
  std::vector<Token> ids(12);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Token>((from + by * static_cast<Token>(i)) % 16);
  return ids;
}

BatchSource counting_by(Token by) {
  std::vector<Example> examples;  // from each number: the first one is given, the others are to be said
  for (Token from = 0; from < 16; ++from) {
    const std::vector<Token> ids = counting(from, by);
    examples.push_back({{ids[0]}, {ids.begin() + 1, ids.end()}});
  }
  return [batch = pack_examples(examples, 12)](Index, Index) { return batch; };
}

int main() {
  Decoder<float> model =
      make_decoder<float>(resolved({.vocab = 16, .context = 12, .layers = 1, .heads = 2, .width = 32, .position = Position::rope}));
  initialize(model, 1);
  const TrainOptions options{.steps = 200, .rate = 1e-2, .min_rate = 1e-3, .warmup = 10, .weight_decay = 0, .exec = {.threads = 1}};
  const auto finish = [](Trainer<float> t, const BatchSource& data) {
    while (t.steps_done() < t.options().steps) t.step(data);
  };
  const auto report = [&](const char* when) {
    const auto knows = [&](Token by) { return decoder_read_loss<float>(model, counting(3, by)).mean() < 0.1 ? "yes" : "no"; };
    fmt::print("{:30} {:>4} {:>8}\n", when, knows(1), knows(2));
  };
  fmt::print("{:30} by ones  by twos\n", "counts");
  finish(Trainer<float>(model, options), counting_by(1));
  report("trained to count by ones");

  const Arena<float> before = model.arena.clone();
  const Adapter<float> adapter = make_adapter<float>(model.config, {.rank = 4, .alpha = 8, .targets = {}}, 1);  // on all linear layers
  attach(model, adapter);
  report("with a fresh adapter (B = 0)");
  finish(Trainer<float>(model, adapter, options), counting_by(2));
  report("adapter trained");
  fmt::print("parameters trained: {} beside {} of the model\n", adapter.arena.layout().parameters(), model.arena.layout().parameters());
  const auto same = [&] { return std::ranges::equal(before.values(), model.arena.values()) ? "the same bits" : "CHANGED"; };
  fmt::print("the model's own weights: {}\n", same());

  const Matrix<float> apart = decoder_read<float>(model, counting(3, 2));
  const Arena<float> kept = merge(model, adapter, Exec{});
  const float difference = (decoder_read<float>(model, counting(3, 2)) - apart).cwiseAbs().maxCoeff();
  fmt::print("merged, logits differ by less than 1e-4: {}\n", difference < 1e-4F ? "yes" : "NO");
  restore(model, kept);
  fmt::print("restored: {}\n", same());
}
