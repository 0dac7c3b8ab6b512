// Multi-head, grouped-query and multi-query self-attention.
// Legend: N = ΣT tokens of all sequences, C channels, H query heads, G key-value heads, D head width.
//   q, k, v = x·Wᵀ   z = softmax(q·kᵀ/√D + mask)·v   y = z·Woᵀ
#pragma once
#include "glassformer/ops/attention_core.hpp"
#include "glassformer/position/position.hpp"
#include "glassformer/projection/projection.hpp"

namespace glassformer {

struct AttentionConfig {
  ops::AttentionShape core;             // heads, scale, mask, ALiBi slopes
  double dropout = 0;                   // on probabilities and on the output
  Index query_width() const { return core.heads * core.head_dim; }
  Index kv_width() const { return core.kv_heads * core.head_dim; }
};

template <class S> struct AttentionParams {
  Projection<S> qkv;  // [(H + 2G)·D, C]: rows of q, then k, then v
  Projection<S> out;  // [C, H·D]
  AttentionConfig config;
  const RopeTable<S>* rope = nullptr;  // null: q and k are not rotated
};
template <class S> struct AttentionGrads {
  ProjectionGradients<S> qkv, out;
};
// What the backward pass reads again.
template <class S> struct AttentionSaved {
  Matrix<S> x;          // [N, C]
  Matrix<S> qkv;        // [N, (H + 2G)·D], q and k rotated
  Matrix<S> z;          // [N, H·D]
  Vector<S> logsumexp;  // [H·N], of each sequence [H, T]
  ops::AttentionShape shape;  // with the dropout of the pass
};

// x, y [N, C]. Saved is null in inference. Sites: attn.q .k .v .rot_q .rot_k .attn_scores .pattern .z
template <class S>
void attention_forward(const AttentionParams<S>&, const Pass<S>&, ConstMatrixRef<S> x, MatrixRef<S> y, AttentionSaved<S>* saved);
// dy [N, C]; dx is assigned.
template <class S>
void attention_backward(const AttentionParams<S>&, const Pass<S>&, const AttentionSaved<S>&, ConstMatrixRef<S> dy, MatrixRef<S> dx, AttentionGrads<S>&);

}  // namespace glassformer
