// From logits to one token: the distribution that a token is drawn from, stage by stage. Legend: V vocabulary, z logits, p probabilities.
// Stages, in this order, each a probability distribution over the tokens that are left:
//   softmax             p = softmax(z): what the model says
//   repetition penalty  z ← z/θ where z > 0, z·θ where not, once for each token that the text already holds (CTRL, Keskar et al. 2019)
//   temperature         z ← z/τ; τ = 0 keeps the best token alone (greedy)
//   top-k               the k most probable (Fan et al. 2018)
//   top-p               the smallest set of the most probable whose mass reaches P (nucleus, Holtzman et al. 2020)
//   min-p               those with p ≥ m·max p (Nguyen et al. 2024)
// Equally probable tokens count as ordered by id, the lowest first, so every stage is deterministic. See docs/sampling.md.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "glassformer/core/matrix.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

struct SamplingOptions {
  double temperature = 0.8;       // a little below the model's own 1: fewer slips, still varied. 0: greedy
  Index top_k = 0;                // 0: off, all tokens stay
  double top_p = 1;               // 1: off
  double min_p = 0;               // 0: off
  double repetition_penalty = 1;  // 1: off; CTRL uses 1.2
};

// Throws std::invalid_argument, naming the option, unless 0 ≤ temperature < ∞, top_k ≥ 0, 0 < top_p ≤ 1, 0 ≤ min_p ≤ 1 and
// 0 < repetition_penalty < ∞.
void validate(const SamplingOptions&);

// Tokens in ascending order of id; the probabilities sum to 1.
struct Distribution {
  std::vector<Token> ids;
  std::vector<double> probability;
};
struct SamplingStage {
  std::string name;  // as above
  Distribution after;
};

// Distributions over the next token, one after another in memory that is used again: what generation asks once a token.
// The vocabulary is never sorted: top-k and top-p look for the border between what stays and what goes, and order only what may stay.
class Sampler {
 public:
  // Throws as `validate` does.
  explicit Sampler(const SamplingOptions&);

  // The distribution over the next token, until the next call. `text` holds the tokens so far, for the repetition penalty. With `stages`,
  // also what each of the six stages leaves, switched off or not (after greedy decoding chose, they all leave its one token).
  // A logit of −∞ forbids a token. Throws std::invalid_argument for a token of the text outside the vocabulary, a logit that is NaN or +∞,
  // and when there is none above −∞.
  const Distribution& operator()(std::span<const float> logits, std::span<const Token> text, std::vector<SamplingStage>* stages = nullptr);

 private:
  // A token that may stay: its logit less the best one's, divided by the temperature, and p/max p = exp(z).
  struct Candidate {
    Token id;
    double z, p;
  };
  static bool better(const Candidate& a, const Candidate& b) { return a.z != b.z ? a.z > b.z : a.id < b.id; }

  Index left() const { return static_cast<Index>(left_.ids.size()); }
  auto z() { return z_.head(left()); }
  auto p() { return p_.head(left()); }
  void start(std::span<const float> logits);
  void penalise(std::span<const Token> text);
  void shift_and_divide(double temperature);
  void keep_best(Index k);
  void keep_mass();
  void keep_probable();
  template <class F>
  void keep_where(F stays);
  void normalise();
  void show(std::vector<SamplingStage>* stages, const char* name) const;

  SamplingOptions options_;
  Distribution left_;     // ids of what is left, ascending; probabilities at the end
  Vector<double> z_, p_;  // of what is left
  Vector<double> bins_;
  std::vector<Candidate> candidates_;
  std::vector<char> seen_;  // [V] the text has it; all zero between calls
};

// The same, once. Throws as `Sampler` does.
//   logits ln 1, ln 2, ln 5, temperature 1, top-k 2  →  ids 1, 2 with probabilities 2/7, 5/7
Distribution sampling_distribution(std::span<const float> logits, std::span<const Token> text, const SamplingOptions&,
                                   std::vector<SamplingStage>* stages = nullptr);

// The token whose stretch of the cumulated distribution holds `uniform`, in [0, 1). Never one of probability zero.
Token draw(const Distribution&, double uniform);

}  // namespace glassformer
