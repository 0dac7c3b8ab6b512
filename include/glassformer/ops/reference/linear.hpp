// Matrix products and the linear layer, as formulas. Contracts and errors: ops/linear.hpp, whose dispatch checks the shapes.
// Legend: N tokens (rows), I inputs, O outputs.
#pragma once
#include "glassformer/core/matrix.hpp"

namespace glassformer::ops::reference {

// Σ_k a_ik·b_kj, coefficient by coefficient as the definition says. (Eigen's `*` would choose a blocked product: the same value, ten times
// the time to compile, and no scalar of one's own.)
template <class A, class B>
auto product(const Eigen::MatrixBase<A>& a, const Eigen::MatrixBase<B>& b) {
  return a.lazyProduct(b.derived());
}

// c = beta·c, where beta = 0 means that c is not read: it may hold NaN.
template <class S>
void scale_output(S beta, MatrixRef<S> c) {
  if (beta == S(0)) {
    c.setZero();
  } else {
    c *= beta;
  }
}

// c = alpha·a·bᵀ + beta·c     a [N, K], b [M, K], c [N, M]
template <class S>
void multiply_nt(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c) {
  scale_output<S>(beta, c);
  c += alpha * product(a, b.transpose());
}

// c = alpha·a·b + beta·c      a [N, K], b [K, M], c [N, M]
template <class S>
void multiply_nn(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c) {
  scale_output<S>(beta, c);
  c += alpha * product(a, b);
}

// c = alpha·aᵀ·b + beta·c     a [K, N], b [K, M], c [N, M]
template <class S>
void multiply_tn(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c) {
  scale_output<S>(beta, c);
  c += alpha * product(a.transpose(), b);
}

// y = x·Wᵀ + b                x [N, I], W [O, I], b [1, O] or absent, y [N, O]
template <class S>
void linear_forward(ConstMatrixRef<S> x, MatrixView<S> weight, MatrixView<S> bias, MatrixRef<S> y) {
  y = product(x, (*weight).transpose());
  if (bias) y.rowwise() += (*bias).row(0);
}

// forward was: y = x·Wᵀ + b, so ∂L/∂x = ∂L/∂y·W
template <class S>
void linear_backward_input(ConstMatrixRef<S> dy, MatrixView<S> weight, MatrixRef<S> dx) {
  dx = product(dy, *weight);
}

// forward was: y = x·Wᵀ + b, so ∂L/∂W = ∂L/∂yᵀ·x and ∂L/∂b = Σ_rows ∂L/∂y; both accumulate, an absent one is left out
template <class S>
void linear_backward_parameters(ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixView<S> dweight, MatrixView<S> dbias) {
  if (dweight) *dweight += product(dy.transpose(), x);
  if (dbias) *dbias += dy.colwise().sum();
}

}  // namespace glassformer::ops::reference
