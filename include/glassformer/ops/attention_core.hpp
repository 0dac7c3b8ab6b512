// softmax(q·kᵀ/√D + mask)·v for many sequences and heads (Vaswani et al. 2017).
// Legend: T queries, U keys, H query heads, G key-value heads (H a multiple of G), D head width.
// The fused kernel streams over blocks of keys with a running maximum and sum (Milakov, Gimelshein 2018; Dao et al. 2022) and
// never holds T×U scores; the reference materialises them.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "glassformer/ops/activation.hpp"

namespace glassformer::ops {

// Element (t, h, d) of a [T, H, D] tensor lies at data[t·token_stride + h·head_stride + d].
template <class S> struct Heads {
  S* data = nullptr;
  Index token_stride = 0, head_stride = 0;
  S* at(Index token, Index head) const { return data + token * token_stride + head * head_stride; }
};

// One sequence. Its T queries stand at the last T of the U places: query t is at place U − T + t.
template <class S> struct AttentionSequence {
  Index queries = 0, keys = 0;
  Heads<const S> q, k, v;  // [T, H, D], [U, G, D], [U, G, D]
  Heads<S> z;              // [T, H, D] output
  S* logsumexp = nullptr;  // [H, T] log Σ exp(scores); may be null in inference
};

template <class S> struct AttentionGradients {
  Heads<const S> dz;       // [T, H, D]
  Heads<S> dq, dk, dv;     // assigned
};

struct AttentionShape {
  Index heads = 1, kv_heads = 1, head_dim = 1;
  double scale = 1;                  // 1/√D
  bool causal = true;                // a query sees the keys at its own place and before
  Index window = 0;                  // and only the last `window` of them; 0: all
  std::vector<double> slopes;        // ALiBi (Press et al. 2022): −slope_h·|place of query − place of key| is added; empty: none
  Dropout dropout;                   // on the probabilities: see attention_dropout_of

  bool sees(Index query_place, Index key_place) const {
    return (!causal || key_place <= query_place) && (window == 0 || key_place > query_place - window);
  }
};

// The dropout of one sequence and head: a stream of its own, whose element t·U + u belongs to query t and key u.
inline Dropout attention_dropout_of(const AttentionShape& shape, Index sequence, Index head) {
  return {shape.dropout.rate, shape.dropout.stream.at(static_cast<std::uint64_t>(sequence * shape.heads + head))};
}

// Called by the materialising kernel with each matrix [T, U] of a sequence and a head; may edit it.
template <class S> struct AttentionWatch {
  std::function<void(Index sequence, Index head, MatrixRef<S>)> scores, pattern;
  explicit operator bool() const { return scores || pattern; }
};

// Throws std::invalid_argument when heads are no multiple of kv_heads or a sequence has more queries than keys. A watch makes the
// materialising kernel run, whatever exec.kernels says; a masked score is −∞.
template <class S>
void attention_core_forward(const AttentionShape&, std::span<const AttentionSequence<S>>, const AttentionWatch<S>& watch, const Exec&);

// Backward of the above; reads q, k, v, z and logsumexp of the forward pass.
template <class S>
void attention_core_backward(const AttentionShape&, std::span<const AttentionSequence<S>>, std::span<const AttentionGradients<S>>,
                             const AttentionWatch<S>& watch, const Exec&);

}  // namespace glassformer::ops
