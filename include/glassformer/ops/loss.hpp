// Softmax and cross-entropy over rows; the embedding's lookup. Legend: N tokens, V vocabulary, C channels.
#pragma once
#include <span>

#include "glassformer/core/parallel.hpp"
#include "glassformer/ops/weight.hpp"

namespace glassformer::ops {

// y_ij = exp(x_ij − max_i)/Σ_j exp(x_ij − max_i); x, y [N, V]; y may be x. A row of only −∞ gives NaN.
template <class S> void softmax_forward(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec&);
// dx = y ⊙ (dy − Σ_j dy_j·y_j); dx may be dy.
template <class S> void softmax_backward(ConstMatrixRef<S> y, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec&);

// losses[n] = log Σ_j exp(x_nj) − x_n,target in nats; 0 where the target is −1 (not scored).
// With `gradient`, logits become scale·(softmax(x) − onehot(target)) in place, zero where not scored.
// Throws std::invalid_argument for a target outside −1 … V−1.
// Returns how many scored targets have the largest logit of their row.
template <class S>
Index cross_entropy(MatrixRef<S> logits, std::span<const Token> targets, std::span<double> losses, bool gradient, S scale, const Exec&);

// y_n = table[ids_n]; table [V, C], y [N, C]. Throws std::invalid_argument for an id outside the table.
template <class S> void embedding_forward(const Weight<S>& table, std::span<const Token> ids, MatrixRef<S> y, const Exec&);
// dtable[ids_n] += dy_n
template <class S> void embedding_backward(std::span<const Token> ids, ConstMatrixRef<S> dy, MatrixView<S> dtable, const Exec&);

}  // namespace glassformer::ops
