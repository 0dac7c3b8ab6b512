// What the notebooks train: small models on small texts, by the engine's own Trainer. Legend: T places of a sequence.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/data/corpus.hpp"
#include "glassformer/notebook/notebook.hpp"
#include "glassformer/score/score.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer {

// A text as ids: the first nine tenths train, the rest validate. Sequences are windows of running text.
struct ToyText {
  Tokenizer tokenizer;
  std::vector<Token> train, val;
  double source_bits_per_byte = 0;  // the floor, where the text comes from a grammar; 0: not known
};
// Generated text, by characters unless another tokenizer is given. 300 KB of stories take 0.1 s.
ToyText toy_text(CorpusKind kind, Index bytes, std::uint64_t seed);
ToyText toy_text(std::string_view text, Tokenizer tokenizer);

struct ToyRun {
  Decoder<float> model;
  std::vector<double> losses;  // nats per token of each step, before its update
  double seconds = 0;
};

// A model of this configuration (its vocabulary the text's, unless given), initialised from options.seed and trained for options.steps.
// options.exec and, unless zero, options.seed are as given; `name` heads the progress. Throws std::runtime_error when the loss is no number.
//   ToyRun run = train_toy(nb, "RoPE", {.context = 64, .layers = 2, .width = 64, .position = Position::rope}, {.steps = 800, .batch = 16}, text);
ToyRun train_toy(const Notebook& nb, std::string_view name, ModelConfig config, TrainOptions options, const ToyText& text);
// The same on batches of your own making (a copying task, say); config.vocab must be given.
ToyRun train_toy(const Notebook& nb, std::string_view name, ModelConfig config, TrainOptions options, const BatchSource& batches);
// Goes on with a model that exists, which is changed; returns the losses.
std::vector<double> train_more(const Notebook& nb, std::string_view name, Decoder<float>& model, TrainOptions options, const BatchSource& batches);
// Windows of `context` tokens at random offsets, of a stream of its own by `seed`. The ids must live as long.
BatchSource text_batches(std::span<const Token> ids, Index batch, Index context, std::uint64_t seed);

// Mean loss in nats at each place 0 … T−1 of windows of `length` tokens, evenly spread over `ids`; `length` may go beyond what the model was
// trained on (not with learned positions: std::invalid_argument). `windows` is cut to what the text has without overlap.
std::vector<double> loss_by_place(const Decoder<float>& model, std::span<const Token> ids, Index length, Index windows, const Exec& exec);
// The mean of values[begin … end).
double mean_of(std::span<const double> values, Index begin, Index end);

// Losses of several runs as one chart of at most `points` points, each the mean of as many steps.
struct NamedLosses {
  std::string name;
  std::vector<double> losses;
};
story::Chart loss_chart(std::string key, std::string title, const std::vector<NamedLosses>& runs, Index points = 60);

}  // namespace glassformer
