// What the logits are made of, told: the logit lens, and the attribution of one logit to the parts of the model.
// Legend: T tokens, C channels, V vocabulary, L layers, H heads.
//   lens          logits_l = ln_final(x_l)·Uᵀ for the residual stream x_l after each layer l     (nostalgebraist 2020)
//   attribution   x = embedding + Σ heads + Σ MLPs + biases, and with the final norm's scale r frozen the logit is linear in x:
//                 logit_a = x·d + b·u_a, d = r·(g ⊙ u_a), LayerNorm's mean taken off x            (Elhage et al. 2021)
// Norm, head, heads' outputs and scale are the engine's own; both are held against the logits of its pass.
#pragma once
#include "glassformer/explain/text.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct LensQuestion {
  Index token = -1;   // place of the token whose layers are listed; −1: the last
  Token answer = -1;  // whose rank and probability are followed; −1: what the model predicts there
  Index top = 3;      // first choices that are named
  Exec exec{};
};
// "probability" [L + 1, T] is that of each place's final prediction by layer (row 0: the embedding); "answer_rank" (from 1) and
// "answer_probability" [L + 1, 1] those of the answer; "last_difference" how far the last layer's logits lie from the model's.
// Throws std::invalid_argument for a token or an answer that does not exist, no text, or one beyond the model's context.
template <class S>
Story explain_lens(const Decoder<S>&, const ExplainedText&, const LensQuestion& = {});

struct AttributionQuestion {
  Index token = -1;    // place of the prediction; −1: the last
  Token answer = -1;   // −1: what the model predicts there
  Token against = -1;  // the logit of `answer` less that of this one; −1: the logit alone
  Exec exec{};
};
// "by_layer" [L, H (+ 1)] has the share of each head (and MLP), "parts" is the whole table; "logit" is the engine's, "sum" theirs.
// Throws std::invalid_argument as above, and for a post-norm model: its stream is normalised again and again, so no logit is a sum.
// Throws std::runtime_error when sum and logit differ by more than 1e-4 (relative to the largest part, if that is above 1).
template <class S>
Story explain_attribution(const Decoder<S>&, const ExplainedText&, const AttributionQuestion& = {});

// Both on two layers of four channels that say after each of four words the next one: small enough to redo by hand. In double.
// The text of the example is "the cat sat", its vocabulary "the", "cat", "sat", "down".
ExplainedText logits_example_text();
Story explain_lens_example(const LensQuestion& = {});
Story explain_attribution_example(const AttributionQuestion& = {});

}  // namespace glassformer
