// Legend: N tokens, F hidden width.
#include "glassformer/ops/activation.hpp"

#include <cmath>
#include <numbers>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/activation.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kRows = 16;  // rows a task

template <class S> constexpr S kCubic = S(0.044715);
template <class S> const S kRoot2OverPi = static_cast<S>(std::sqrt(2 / std::numbers::pi));

// tanh(u) = 1 − 2/(1 + exp(2u)): Eigen vectorises exp for float and double alike.
template <class A> auto tanh_by_exp(const A& u) {
  using S = typename A::Scalar;
  return S(1) - S(2) / (S(1) + (S(2) * u).exp());
}
template <class A> auto sigmoid(const A& u) {
  using S = typename A::Scalar;
  return S(1) / (S(1) + (-u).exp());
}

template <class S> S normal_cdf(S x) { return S(0.5) * (S(1) + std::erf(x * static_cast<S>(std::numbers::sqrt2 / 2))); }
template <class S> S normal_density(S x) { return std::exp(S(-0.5) * x * x) * static_cast<S>(std::numbers::inv_sqrtpi / std::numbers::sqrt2); }

// A row of one's own. Eigen vectorises by the address that it writes to, and its vector exp differs from the scalar one in the last bit: results are
// computed here, at an aligned address, and then copied, so that they do not depend on where a row lies in its matrix.
template <class S> using Row = Eigen::Array<S, 1, Eigen::Dynamic, Eigen::RowMajor>;

}  // namespace

template <class S> void activation_forward(Activation kind, ConstMatrixRef<S> x, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::activation);
  require_shape("activation: y", y.rows(), y.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) return reference::activation_forward<S>(kind, x, y);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    Row<S> u(x.cols());
    for (Index n = begin; n < end; ++n) {
      const auto row = x.row(n).array();
      auto out = y.row(n).array();
      switch (kind) {
        case Activation::gelu_tanh:
          u = kRoot2OverPi<S> * row * (S(1) + kCubic<S> * row.square());
          u = tanh_by_exp(u);
          out = S(0.5) * row * (S(1) + u);
          break;
        case Activation::gelu_exact: out = row * row.unaryExpr(&normal_cdf<S>); break;
        case Activation::silu:
          u = sigmoid(row);
          out = row * u;
          break;
      }
    }
  });
}

template <class S> void activation_backward(Activation kind, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec& exec) {
  const Timed timed(Operation::activation);
  require_shape("activation: dy", dy.rows(), dy.cols(), x.rows(), x.cols());
  require_shape("activation: dx", dx.rows(), dx.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) return reference::activation_backward<S>(kind, x, dy, dx);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    Row<S> u(x.cols()), t(x.cols());
    for (Index n = begin; n < end; ++n) {
      const auto row = x.row(n).array();
      const auto in = dy.row(n).array();
      auto out = dx.row(n).array();
      switch (kind) {
        case Activation::gelu_tanh:  // forward was: y = 0.5x(1 + t), t = tanh(u), u = √(2/π)(x + 0.044715x³)
          u = kRoot2OverPi<S> * row * (S(1) + kCubic<S> * row.square());
          t = tanh_by_exp(u);
          u = kRoot2OverPi<S> * (S(1) + S(3) * kCubic<S> * row.square());  // du/dx
          out = in * S(0.5) * ((S(1) + t) + row * (S(1) - t.square()) * u);
          break;
        case Activation::gelu_exact:  // forward was: y = x·Φ(x)
          out = in * (row.unaryExpr(&normal_cdf<S>) + row * row.unaryExpr(&normal_density<S>));
          break;
        case Activation::silu:  // forward was: y = x·σ(x)
          t = sigmoid(row);
          out = in * t * (S(1) + row * (S(1) - t));
          break;
      }
    }
  });
}

template <class S> void swiglu_forward(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::activation);
  const Index F = y.cols();
  require_shape("swiglu: x", x.rows(), x.cols(), y.rows(), 2 * F);
  if (exec.kernels == Kernels::reference) return reference::swiglu_forward<S>(x, y);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    Row<S> s(F);
    for (Index n = begin; n < end; ++n) {
      const auto gate = x.row(n).head(F).array(), up = x.row(n).tail(F).array();
      s = sigmoid(gate);
      y.row(n).array() = gate * s * up;
    }
  });
}

template <class S> void swiglu_backward(ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec& exec) {
  const Timed timed(Operation::activation);
  const Index F = dy.cols();
  require_shape("swiglu: x", x.rows(), x.cols(), dy.rows(), 2 * F);
  require_shape("swiglu: dx", dx.rows(), dx.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) return reference::swiglu_backward<S>(x, dy, dx);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    Row<S> s(F), up(F);
    for (Index n = begin; n < end; ++n) {  // forward was: y = g·σ(g) ⊙ u
      const auto gate = x.row(n).head(F).array();
      s = sigmoid(gate);
      up = x.row(n).tail(F).array();
      dx.row(n).tail(F).array() = dy.row(n).array() * gate * s;
      dx.row(n).head(F).array() = dy.row(n).array() * up * s * (S(1) + gate * (S(1) - s));
    }
  });
}

template <class S> void dropout_apply(const Dropout& dropout, MatrixRef<S> x, const Exec& exec) {
  const Timed timed(Operation::activation);
  if (dropout.rate <= 0) return;
  require(dropout.rate < 1, "dropout: expected a rate below 1, found {}", dropout.rate);
  const S keep = static_cast<S>(1 / (1 - dropout.rate));
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      for (Index c = 0; c < x.cols(); ++c) x(n, c) = dropout_keeps(dropout, n * x.cols() + c) ? x(n, c) * keep : S(0);
    }
  });
}

template <class S> void add(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::activation);
  require_shape("add: y", y.rows(), y.cols(), x.rows(), x.cols());
  parallel_blocks(exec.threads, x.rows(), 64, [&](Index begin, Index end) { y.middleRows(begin, end - begin) += x.middleRows(begin, end - begin); });
}

template void activation_forward<float>(Activation, ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template void activation_backward<float>(Activation, ConstMatrixRef<float>, ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template void swiglu_forward<float>(ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template void swiglu_backward<float>(ConstMatrixRef<float>, ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template void dropout_apply<float>(const Dropout&, MatrixRef<float>, const Exec&);
template void add<float>(ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template void activation_forward<double>(Activation, ConstMatrixRef<double>, MatrixRef<double>, const Exec&);
template void activation_backward<double>(Activation, ConstMatrixRef<double>, ConstMatrixRef<double>, MatrixRef<double>, const Exec&);
template void swiglu_forward<double>(ConstMatrixRef<double>, MatrixRef<double>, const Exec&);
template void swiglu_backward<double>(ConstMatrixRef<double>, ConstMatrixRef<double>, MatrixRef<double>, const Exec&);
template void dropout_apply<double>(const Dropout&, MatrixRef<double>, const Exec&);
template void add<double>(ConstMatrixRef<double>, MatrixRef<double>, const Exec&);

}  // namespace glassformer::ops
