// Attention, told: every step of one head for one text, from the engine's own pass, in the order in which it happens.
// Legend: T tokens, C channels, H query heads, G key-value heads, D head width.
//   q, k, v = x·Wᵀ + b    scores = q·kᵀ/√D (+ bias), −∞ where masked    pattern = softmax(scores)    z = pattern·v    y = Σ_heads z·Woᵀ + b
// The values are those that a Trace saw in decoder_forward or attention_forward. The steps that the engine takes at once (q·k, then scaled,
// then biased) are the same engine, run with the later ones switched off. What only the reader adds up (the terms of a sum) is held against
// it: `deviation`.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/decoder.hpp"
#include "glassformer/story/story.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

struct AttentionQuestion {
  Index layer = 0, head = 0;
  Index query = -1;  // place of the token whose row is written out; −1: the last (in the example: "sat", so that a key is hidden)
  Exec exec{};
};

// One query, term by term. Keys j = 0 … T−1.
struct AttentionQuery {
  Index place = 0;
  Matrix<double> terms;         // [T, D] q_d·k_jd: their sum is q·k_j
  double maximum = 0;           // max_j score_j
  Vector<double> exponentials;  // [T] e_j = exp(score_j − maximum); 0 where masked
  double sum = 0;               // Σ_j e_j
  Matrix<double> weighted;      // [T, D] pattern_j·v_j: their sum is z
};

struct AttentionSteps {
  std::string model;  // what it was computed with: one line
  bool is_example = false;
  std::vector<std::string> tokens;  // [T] bytes of each
  std::vector<Token> ids;           // [T]; empty in the example
  Index layer = 0, layers = 1, head = 0, heads = 1, kv_head = 0, kv_heads = 1, head_dim = 0, width = 0;
  double scale = 1;  // 1/√D
  double slope = 0;  // ALiBi's, of this head
  bool causal = true, rotated = false;
  Index window = 0;  // 0: all keys

  // Rows of the projections that make this head's q, k, v, and its columns of the output's. Biases are empty where there are none.
  Matrix<double> wq, wk, wv;  // [D, C]
  Vector<double> bq, bk, bv;  // [D]
  Matrix<double> wo;          // [C, D]
  bool adapted = false;       // a LoRA adapter adds to these weights

  Matrix<double> x;             // [T, C] what attention reads
  Matrix<double> q, k, v;       // [T, D]
  Matrix<double> rot_q, rot_k;  // [T, D] turned by RoPE; empty without
  Matrix<double> products;      // [T, T] q·kᵀ, row: query, column: key
  Matrix<double> scaled;        // [T, T] products/√D
  Matrix<double> biased;        // [T, T] with ALiBi; empty without
  Matrix<double> scores;        // [T, T] with −∞ where a query does not see a key
  Matrix<double> pattern;       // [T, T] softmax of each row
  Matrix<double> z;             // [T, D]
  Matrix<double> share;         // [T, C] z·Woᵀ: what this head adds to the output
  Matrix<double> output;        // [T, C] of all heads, with the bias

  AttentionQuery query;
  double deviation = 0;  // the largest difference between a sum of `query` and the engine's value, relative to the largest of its kind
  std::vector<std::string> notes;  // sentences for the reader
};

// Four words, four channels, two heads of width two, weights of simple decimals: small enough to redo by hand. In double.
AttentionSteps explain_attention_example(const AttentionQuestion& = {});

// One layer alone, reading x [T, C] from place 0; question.layer is 0. Throws std::invalid_argument as below.
template <class S>
AttentionSteps explain_attention(const AttentionParams<S>&, const Matrix<S>& x, std::vector<std::string> tokens, const AttentionQuestion&);

// The text that `ids` [T] spell, read by the model in one pass; tokens [T] are their bytes. Throws std::invalid_argument, naming the valid
// ones, for a layer, a head or a query that does not exist; for no token, or more than the model's context.
template <class S>
AttentionSteps explain_attention(const Decoder<S>&, std::span<const Token> ids, std::vector<std::string> tokens,
                                 const AttentionQuestion& = {});
// The prompt as `generate` reads it, with the start token where the model was trained with one.
AttentionSteps explain_attention(const Decoder<float>&, const Tokenizer&, std::string_view prompt, const AttentionQuestion& = {});

// The steps as a story, formula beside numbers; its data hold every number.
Story attention_story(const AttentionSteps&);
// The pattern alone: rows are queries, columns keys.
story::Picture attention_picture(const AttentionSteps&);

}  // namespace glassformer
