// Softmax, cross-entropy, embedding, as formulas. Contracts and errors: ops/loss.hpp, whose dispatch checks targets and ids.
// Legend: N tokens, V vocabulary, C channels.
#pragma once
#include <cmath>
#include <span>

#include "glassformer/core/matrix.hpp"

namespace glassformer::ops::reference {

// y_ij = exp(x_ij − max_i)/Σ_j exp(x_ij − max_i). Taking the maximum off leaves the quotient as it is and keeps exp from overflowing.
template <class S>
void softmax_forward(ConstMatrixRef<S> x, MatrixRef<S> y) {
  for (Index n = 0; n < x.rows(); ++n) {
    const S largest = x.row(n).maxCoeff();
    y.row(n) = (x.row(n).array() - largest).unaryExpr([](const S& a) -> S {
      using std::exp;
      return exp(a);  // 0 for −∞, of which Eigen's exp of a row leaves 4e-309
    });
    const S sum = y.row(n).sum();
    y.row(n) /= sum;
  }
}

// forward was: y = softmax(x), ∂y_j/∂x_i = y_j·(δ_ij − y_i), so dx_i = y_i·(dy_i − Σ_j dy_j·y_j)
template <class S>
void softmax_backward(ConstMatrixRef<S> y, ConstMatrixRef<S> dy, MatrixRef<S> dx) {
  for (Index n = 0; n < y.rows(); ++n) {
    const S inner = y.row(n).cwiseProduct(dy.row(n)).sum();
    dx.row(n) = y.row(n).array() * (dy.row(n).array() - inner);
  }
}

// log Σ_j exp(x_j) = max + log Σ_j exp(x_j − max) of one row
template <class S, class Row>
S log_sum_exp(const Row& x) {
  using std::log;
  const S largest = x.maxCoeff();
  const S sum = (x.array() - largest).exp().sum();
  return largest + log(sum);
}

// losses[n] = log Σ_j exp(x_nj) − x_n,target, 0 where the target is −1. ∂loss_n/∂x_nj = softmax(x_n)_j − [j = target]:
// with `gradient`, logits become scale times that, in place. Loss is double for float and double (a tape's scalar keeps its own).
// Returns how many scored targets have the largest logit.
template <class S, class Loss>
Index cross_entropy(MatrixRef<S> logits, std::span<const Token> targets, std::span<Loss> losses, bool gradient, S scale) {
  Index correct = 0;
  for (Index n = 0; n < logits.rows(); ++n) {
    const Token target = targets[static_cast<std::size_t>(n)];
    Loss& loss = losses[static_cast<std::size_t>(n)];
    if (target < 0) {
      loss = Loss(0);
      if (gradient) logits.row(n).setZero();
      continue;
    }
    const S normalizer = log_sum_exp<S>(logits.row(n));
    correct += logits(n, target) == logits.row(n).maxCoeff();
    loss = static_cast<Loss>(S(normalizer - logits(n, target)));
    if (!gradient) continue;
    logits.row(n) = (logits.row(n).array() - normalizer).exp();  // softmax(x) = exp(x − log Σ exp)
    logits(n, target) -= S(1);
    logits.row(n) *= scale;
  }
  return correct;
}

// y_n = table[ids_n]          table [V, C], y [N, C]
template <class S>
void embedding_forward(MatrixView<S> table, std::span<const Token> ids, MatrixRef<S> y) {
  for (Index n = 0; n < y.rows(); ++n) y.row(n) = (*table).row(ids[static_cast<std::size_t>(n)]);
}

// forward was: y_n = table[ids_n], so dtable[ids_n] += dy_n; a token that occurs twice gets both
template <class S>
void embedding_backward(std::span<const Token> ids, ConstMatrixRef<S> dy, MatrixView<S> dtable) {
  for (Index n = 0; n < dy.rows(); ++n) (*dtable).row(ids[static_cast<std::size_t>(n)]) += dy.row(n);
}

}  // namespace glassformer::ops::reference
