// The smaller model of speculative decoding: what it proposes, and what of that is taken. See generate.hpp.
#pragma once
#include "glassformer/core/random.hpp"
#include "glassformer/sample/reader.hpp"

namespace glassformer {

// The probability of a token: 0 for one that is not left.
double probability_of(const Distribution&, Token);
// max(0, p − q)/Σ max(0, p − q): what a token is drawn from when the one that was drafted from q was not taken. p itself where nothing of
// it is above q, which rounding alone can bring.
Distribution residual(const Distribution& p, const Distribution& q);

class Drafter {
 public:
  // The model must outlive it. Of the vocabulary the first `known` tokens may be drawn.
  Drafter(const Decoder<float>& model, const ReaderOptions&, const SamplingOptions&, std::size_t known);

  void add(Index tokens) { reader_.add(tokens), proposed_.emplace_back(); }
  void make_cache_for_all() { reader_.make_cache_for_all(); }
  // Before the first proposal, so that it takes no longer than others.
  void read_prompt(Index text, std::span<const Token> ids);

  struct Task {
    Index text;
    std::vector<Token>* ids;  // the text, which gets the drafts
    Index count;              // how many
    RandomStream stream;      // of the text
    Index drawn;              // tokens of the text that were drawn before: draft i is number drawn + i
    std::string note = {};    // what was done at the context of the smaller model, or empty
  };
  // Draws all drafts of all texts, one token of each in a pass.
  void propose(std::span<Task>);
  // Is draft i of the text's last proposal taken, where the larger model has p? `number`: how many tokens were drawn before.
  bool accepts(Index text, Index i, Token draft, const Distribution& p, const RandomStream&, Index number) const;
  // What is drawn from instead when it is not.
  Distribution instead(Index text, Index i, const Distribution& p) const { return residual(p, proposed(text, i)); }
  // The text has only `size` tokens.
  void cut(Index text, Index size) { reader_.cut(text, size); }

 private:
  const Distribution& proposed(Index text, Index i) const { return proposed_[static_cast<std::size_t>(text)][static_cast<std::size_t>(i)]; }
  void draw(Task&, Index i, std::span<const float> logits);

  Reader reader_;
  Sampler sampler_;
  std::size_t known_;
  Vector<float> logits_;
  std::vector<std::vector<Distribution>> proposed_;  // [texts][drafts] what each draft was drawn from
};

}  // namespace glassformer
