// Sampling, told: how the logits after one text become one token, filter by filter (sample/filters.hpp has the formulas).
// Legend: V vocabulary, z logits, p probabilities.
// The distribution after each stage, the draw and the random number are the engine's. Only what the reader works out (z/τ, exp, the sum) is
// made here, and held against it: `deviation`.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/decoder.hpp"
#include "glassformer/sample/filters.hpp"
#include "glassformer/story/story.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

struct SamplingQuestion {
  SamplingOptions options;
  std::uint64_t seed = 1;  // number 0 of RandomStream{seed}.at("sample").at(0): the first token of `generate`
  Index token = -1;        // place of the prompt's token after which to draw; −1: the last
  Exec exec{};
};

// What one stage left.
struct StageFigures {
  std::string name;         // as in SamplingStage
  Index tokens = 0;         // that may still be drawn
  double kept_mass = 1;     // Σ of their probabilities before the stage
  double entropy_nats = 0;  // −Σ p·ln p, after it
  std::vector<Token> out;   // tokens that fell out in it, the most probable first
};

struct SamplingSteps {
  std::string model;  // what the logits come from: one line
  bool is_example = false;
  std::vector<std::string> tokens;  // [V] bytes of each token
  std::vector<Token> text;          // ids of what stands before
  SamplingOptions options;
  std::uint64_t seed = 1;

  Vector<double> logits;        // [V]
  Vector<double> penalised;     // [V] after the repetition penalty
  Vector<double> scaled;        // [V] penalised/τ; empty when τ = 0
  double maximum = 0;           // max of scaled
  Vector<double> exponentials;  // [V] exp(scaled − maximum); empty when τ = 0
  double sum = 0;               // of them
  Matrix<double> probability;   // [6, V] after each stage; 0 where a token fell out
  std::vector<StageFigures> stages;  // [6]

  Vector<double> cumulated;  // [kept] where the stretch of each token that is left ends, in the order of ids
  std::vector<Token> kept;   // those tokens
  double uniform = 0;        // in [0, 1)
  Token drawn = 0;
  double deviation = 0;      // of the arithmetic written out from the engine's distribution
  std::vector<std::string> notes;
};

// Eight words after "the cat on the", with logits of one decimal and options for which every stage does something.
SamplingOptions sampling_example_options();
SamplingSteps explain_sampling_example(const SamplingQuestion& = {.options = sampling_example_options()});

// Any logits [V]; tokens [V] are the bytes of each, `text` the ids so far. Throws std::invalid_argument as sampling_distribution does.
SamplingSteps explain_sampling(std::span<const float> logits, std::vector<Token> text, std::vector<std::string> tokens,
                               const SamplingQuestion&);
// The next token after a prompt, as `generate` would draw it. Throws std::invalid_argument, naming the valid ones, for a token that does
// not exist, an empty prompt, one longer than the model's context, and a model that is not causal.
SamplingSteps explain_sampling(const Decoder<float>&, const Tokenizer&, std::string_view prompt, const SamplingQuestion& = {});

Story sampling_story(const SamplingSteps&);

}  // namespace glassformer
