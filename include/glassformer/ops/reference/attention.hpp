// Attention with every score written out: what the fused kernel must equal, and what runs when somebody watches.
// Contracts and errors: ops/attention_core.hpp. Legend: T queries, U keys (T ≤ U), H query heads, G key-value heads, D head width.
#pragma once
#include <cstdlib>

#include "glassformer/ops/attention_core.hpp"
#include "glassformer/ops/reference/linear.hpp"
#include "glassformer/ops/reference/loss.hpp"

namespace glassformer::ops::reference {

// One head of a [rows, H, D] tensor as the matrix [rows, D] that it is.
template <class S>
auto head_matrix(const Heads<S>& x, Index head, Index rows, Index head_dim) {
  using Plain = std::conditional_t<std::is_const_v<S>, const Matrix<std::remove_const_t<S>>, Matrix<S>>;
  return Eigen::Map<Plain, 0, Eigen::OuterStride<>>(x.at(0, head), rows, head_dim, Eigen::OuterStride<>(x.token_stride));
}

// Query head h reads key-value head h/(H/G).
inline Index key_head(const AttentionShape& shape, Index head) { return head / (shape.heads / shape.kv_heads); }

// scores_tu = scale·q_t·k_u − slope·|place of t − place of u|, −∞ where t does not see u. A query always sees itself when it is causal or
// windowed, and everything when it is neither, so no row is −∞ throughout and the softmax is defined.
template <class S>
Matrix<S> attention_scores(const AttentionShape& shape, const AttentionSequence<S>& s, Index head) {
  const auto q = head_matrix(s.q, head, s.queries, shape.head_dim);                // [T, D]
  const auto k = head_matrix(s.k, key_head(shape, head), s.keys, shape.head_dim);  // [U, D]
  Matrix<S> scores = S(shape.scale) * product(q, k.transpose());                       // [T, U]
  const double slope = shape.slopes.empty() ? 0.0 : shape.slopes[static_cast<std::size_t>(head)];
  for (Index t = 0; t < s.queries; ++t) {
    const Index place = s.keys - s.queries + t;
    for (Index u = 0; u < s.keys; ++u) {
      if (!shape.sees(place, u)) {
        scores(t, u) = S(-Eigen::NumTraits<S>::infinity());
      } else if (slope != 0) {
        scores(t, u) -= S(slope * static_cast<double>(std::abs(place - u)));
      }
    }
  }
  return scores;
}

// The scores and their softmax, both shown to the watch, which may edit them.
template <class S>
struct AttentionMatrices {
  Matrix<S> scores, pattern;  // [T, U]
};
template <class S>
AttentionMatrices<S> attention_matrices(const AttentionShape& shape, const AttentionSequence<S>& s, Index sequence, Index head,
                                        const AttentionWatch<S>& watch) {
  Matrix<S> scores = attention_scores<S>(shape, s, head);
  if (watch.scores) watch.scores(sequence, head, scores);
  Matrix<S> pattern(s.queries, s.keys);
  softmax_forward<S>(scores, pattern);
  if (watch.pattern) watch.pattern(sequence, head, pattern);
  return {std::move(scores), std::move(pattern)};
}

// p ⊙ mask/(1 − rate): of the probabilities forward, of their gradient backward.
template <class S>
void attention_dropout(const AttentionShape& shape, Index sequence, Index head, MatrixRef<S> p) {
  if (shape.dropout.rate == 0) return;
  const S scale = S(1 / (1 - shape.dropout.rate));
  const Dropout dropout = attention_dropout_of(shape, sequence, head);
  const Index T = p.rows(), U = p.cols();
  for (Index t = 0; t < T; ++t) {
    for (Index u = 0; u < U; ++u) {
      const bool keeps = dropout_keeps(dropout, t * U + u);
      p(t, u) = keeps ? S(p(t, u) * scale) : S(0);
    }
  }
}

// z = dropout(softmax(scores))·v for each sequence and head
template <class S>
void attention_core_forward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, const AttentionWatch<S>& watch) {
  for (Index i = 0; i < static_cast<Index>(sequences.size()); ++i) {
    const AttentionSequence<S>& s = sequences[static_cast<std::size_t>(i)];
    for (Index h = 0; h < shape.heads; ++h) {
      AttentionMatrices<S> a = attention_matrices<S>(shape, s, i, h, watch);
      for (Index t = 0; s.logsumexp && t < s.queries; ++t) s.logsumexp[h * s.queries + t] = log_sum_exp<S>(a.scores.row(t));
      attention_dropout<S>(shape, i, h, a.pattern);
      head_matrix(s.z, h, s.queries, shape.head_dim) = product(a.pattern, head_matrix(s.v, key_head(shape, h), s.keys, shape.head_dim));
    }
  }
}

// Forward was, with P = softmax(A), A = scale·q·kᵀ + bias and M the dropout's mask/(1 − rate): z = (P ⊙ M)·v. So
//   dv = (P ⊙ M)ᵀ·dz    dP = (dz·vᵀ) ⊙ M    dA = P ⊙ (dP − Σ_u dP ⊙ P)    dq = scale·dA·k    dk = scale·dAᵀ·q
// k and v of a group serve H/G query heads, so their gradients sum over these. A and P are made again from q and k, and the watch
// is asked again, so an edited pattern stands for P here too.
template <class S>
void attention_core_backward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences,
                             std::span<const AttentionGradients<S>> gradients, const AttentionWatch<S>& watch) {
  const Index D = shape.head_dim;
  const S scale = S(shape.scale);
  for (Index i = 0; i < static_cast<Index>(sequences.size()); ++i) {
    const AttentionSequence<S>& s = sequences[static_cast<std::size_t>(i)];
    const AttentionGradients<S>& d = gradients[static_cast<std::size_t>(i)];
    const Index T = s.queries, U = s.keys;
    for (Index g = 0; g < shape.kv_heads; ++g) {
      head_matrix(d.dk, g, U, D).setZero();
      head_matrix(d.dv, g, U, D).setZero();
    }
    for (Index h = 0; h < shape.heads; ++h) {
      const Index g = key_head(shape, h);
      const Matrix<S> P = attention_matrices<S>(shape, s, i, h, watch).pattern;  // [T, U]
      const auto dz = head_matrix(d.dz, h, T, D);
      Matrix<S> dropped = P;
      attention_dropout<S>(shape, i, h, dropped);
      head_matrix(d.dv, g, U, D) += product(dropped.transpose(), dz);
      Matrix<S> dP = product(dz, head_matrix(s.v, g, U, D).transpose());
      attention_dropout<S>(shape, i, h, dP);
      Matrix<S> dA(T, U);
      softmax_backward<S>(P, dP, dA);
      head_matrix(d.dq, h, T, D) = scale * product(dA, head_matrix(s.k, g, U, D));
      head_matrix(d.dk, g, U, D) += scale * product(dA.transpose(), head_matrix(s.q, h, T, D));
    }
  }
}

}  // namespace glassformer::ops::reference
