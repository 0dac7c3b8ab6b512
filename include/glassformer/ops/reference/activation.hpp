// Non-linearities, SwiGLU, dropout, adding, as formulas. Contracts: ops/activation.hpp. Legend: N tokens, F hidden width.
#pragma once
#include <cmath>
#include <numbers>

#include "glassformer/ops/activation.hpp"

namespace glassformer::ops::reference {

// σ(x) = 1/(1 + e^−x)
template <class S>
S sigmoid(const S& x) {
  using std::exp;
  return S(1) / (S(1) + exp(-x));
}

// f(x) of one number
template <class S>
S activation(Activation kind, const S& x) {
  using std::erf;
  using std::tanh;
  switch (kind) {
    case Activation::gelu_tanh:
      return S(0.5) * x * (S(1) + tanh(S(std::sqrt(2 / std::numbers::pi)) * (x + S(0.044715) * x * x * x)));
    case Activation::gelu_exact:
      return S(0.5) * x * (S(1) + erf(x * S(std::sqrt(0.5))));
    case Activation::silu:
      break;
  }
  return x * sigmoid(x);
}

// f'(x) of one number
//   gelu_tanh    with w = tanh(u), u = √(2/π)(x + 0.044715x³): 0.5(1 + w) + 0.5x(1 − w²)·u', u' = √(2/π)(1 + 3·0.044715x²)
//   gelu_exact   Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)
//   silu         σ(x)·(1 + x·(1 − σ(x)))
template <class S>
S activation_derivative(Activation kind, const S& x) {
  using std::erf;
  using std::exp;
  using std::tanh;
  switch (kind) {
    case Activation::gelu_tanh: {
      const S a = S(std::sqrt(2 / std::numbers::pi)), b = S(0.044715);
      const S w = tanh(a * (x + b * x * x * x));
      return S(0.5) * (S(1) + w) + S(0.5) * x * (S(1) - w * w) * a * (S(1) + S(3) * b * x * x);
    }
    case Activation::gelu_exact: {
      const S cumulative = S(0.5) * (S(1) + erf(x * S(std::sqrt(0.5))));
      return cumulative + x * S(1 / std::sqrt(2 * std::numbers::pi)) * exp(-S(0.5) * x * x);
    }
    case Activation::silu:
      break;
  }
  const S s = sigmoid(x);
  return s * (S(1) + x * (S(1) - s));
}

// y = f(x)
template <class S>
void activation_forward(Activation kind, ConstMatrixRef<S> x, MatrixRef<S> y) {
  y = x.unaryExpr([kind](const S& v) { return activation(kind, v); });
}

// forward was: y = f(x), so dx = dy ⊙ f'(x)
template <class S>
void activation_backward(Activation kind, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx) {
  dx = dy.cwiseProduct(x.unaryExpr([kind](const S& v) { return activation_derivative(kind, v); }));
}

// y = silu(g) ⊙ u with g = x[:, :F], u = x[:, F:]
template <class S>
void swiglu_forward(ConstMatrixRef<S> x, MatrixRef<S> y) {
  const Index F = y.cols();
  const auto silu = [](const S& v) { return activation(Activation::silu, v); };
  y = x.leftCols(F).unaryExpr(silu).cwiseProduct(x.rightCols(F));
}

// forward was: y = silu(g) ⊙ u, so dg = dy ⊙ u ⊙ silu'(g) and du = dy ⊙ silu(g). Both are made before dx is written: dx may be x.
template <class S>
void swiglu_backward(ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx) {
  const Index F = dy.cols();
  const auto silu = [](const S& v) { return activation(Activation::silu, v); };
  const auto silu_derivative = [](const S& v) { return activation_derivative(Activation::silu, v); };
  const Matrix<S> dg = dy.cwiseProduct(x.rightCols(F)).cwiseProduct(x.leftCols(F).unaryExpr(silu_derivative));
  const Matrix<S> du = dy.cwiseProduct(x.leftCols(F).unaryExpr(silu));
  dx.leftCols(F) = dg;
  dx.rightCols(F) = du;
}

// x ⊙ mask/(1 − rate); element (row, column) draws number row·width + column
template <class S>
void dropout_apply(const Dropout& d, MatrixRef<S> x) {
  if (d.rate == 0) return;
  const S scale = S(1 / (1 - d.rate));
  for (Index n = 0; n < x.rows(); ++n) {
    for (Index c = 0; c < x.cols(); ++c) x(n, c) = dropout_keeps(d, n * x.cols() + c) ? S(x(n, c) * scale) : S(0);
  }
}

// y += x
template <class S>
void add(ConstMatrixRef<S> x, MatrixRef<S> y) {
  y += x;
}

}  // namespace glassformer::ops::reference
