// Legend: N tokens, F hidden width.
#include "glassformer/ops/activation.hpp"

#include <cmath>
#include <numbers>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/activation.hpp"
#include "ops/lanes.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kRows = 16;  // rows a task

template <class S> constexpr S kCubic = S(0.044715);
template <class S> const S kRoot2OverPi = static_cast<S>(std::sqrt(2 / std::numbers::pi));

template <class S> Lanes<S> sigmoid(Lanes<S> x) { return S(1) / (S(1) + exp(-x)); }

// GELU by tanh is a sigmoid, since 1 + tanh(u) = 2σ(2u):   y = 0.5x(1 + tanh(u)) = x·σ(2u),   2u = 2√(2/π)(x + 0.044715x³)
template <class S> Lanes<S> gelu_gate(Lanes<S> x) { return sigmoid<S>(S(2) * kRoot2OverPi<S> * x * (S(1) + kCubic<S> * x * x)); }

template <class S> S normal_cdf(S x) { return S(0.5) * (S(1) + std::erf(x * static_cast<S>(std::numbers::sqrt2 / 2))); }
template <class S> S normal_density(S x) { return std::exp(S(-0.5) * x * x) * static_cast<S>(std::numbers::inv_sqrtpi / std::numbers::sqrt2); }

template <class S> void forward_row(Activation kind, Index F, const S* x, S* y) {
  switch (kind) {
    case Activation::gelu_tanh:
      for_lanes<S>(F, [&](Index i, auto n) {
        const Lanes<S> in = load(x + i, n);
        store<S>(y + i, n, in * gelu_gate<S>(in));
      });
      break;
    case Activation::gelu_exact:
      for (Index i = 0; i < F; ++i) y[i] = x[i] * normal_cdf(x[i]);
      break;
    case Activation::silu:
      for_lanes<S>(F, [&](Index i, auto n) {
        const Lanes<S> in = load(x + i, n);
        store<S>(y + i, n, in * sigmoid<S>(in));
      });
      break;
  }
}

template <class S> void backward_row(Activation kind, Index F, const S* x, const S* dy, S* dx) {
  switch (kind) {
    case Activation::gelu_tanh:  // forward was: y = x·s, s = σ(2u)
      for_lanes<S>(F, [&](Index i, auto n) {
        const Lanes<S> in = load(x + i, n), s = gelu_gate<S>(in);
        const Lanes<S> slope = S(2) * kRoot2OverPi<S> * (S(1) + S(3) * kCubic<S> * in * in);  // d2u/dx
        store<S>(dx + i, n, load(dy + i, n) * s * (S(1) + in * (S(1) - s) * slope));
      });
      break;
    case Activation::gelu_exact:  // forward was: y = x·Φ(x)
      for (Index i = 0; i < F; ++i) dx[i] = dy[i] * (normal_cdf(x[i]) + x[i] * normal_density(x[i]));
      break;
    case Activation::silu:  // forward was: y = x·σ(x)
      for_lanes<S>(F, [&](Index i, auto n) {
        const Lanes<S> in = load(x + i, n), s = sigmoid<S>(in);
        store<S>(dx + i, n, load(dy + i, n) * s * (S(1) + in * (S(1) - s)));
      });
      break;
  }
}

}  // namespace

template <class S> void activation_forward(Activation kind, ConstMatrixRef<S> x, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::activation);
  require_shape("activation: y", y.rows(), y.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) return reference::activation_forward<S>(kind, x, y);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) forward_row<S>(kind, x.cols(), x.row(n).data(), y.row(n).data());
  });
}

template <class S> void activation_backward(Activation kind, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec& exec) {
  const Timed timed(Operation::activation);
  require_shape("activation: dy", dy.rows(), dy.cols(), x.rows(), x.cols());
  require_shape("activation: dx", dx.rows(), dx.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) return reference::activation_backward<S>(kind, x, dy, dx);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) backward_row<S>(kind, x.cols(), x.row(n).data(), dy.row(n).data(), dx.row(n).data());
  });
}

template <class S> void swiglu_forward(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::activation);
  const Index F = y.cols();
  require_shape("swiglu: x", x.rows(), x.cols(), y.rows(), 2 * F);
  if (exec.kernels == Kernels::reference) return reference::swiglu_forward<S>(x, y);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const S *gate = x.row(row).data(), *up = gate + F;
      S* out = y.row(row).data();
      for_lanes<S>(F, [&](Index i, auto n) {
        const Lanes<S> g = load(gate + i, n);
        store<S>(out + i, n, g * sigmoid<S>(g) * load(up + i, n));
      });
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
    for (Index row = begin; row < end; ++row) {  // forward was: y = g·s ⊙ u, s = σ(g)
      const S *gate = x.row(row).data(), *up = gate + F, *in = dy.row(row).data();
      S *dgate = dx.row(row).data(), *dup = dgate + F;
      for_lanes<S>(F, [&](Index i, auto n) {
        const Lanes<S> g = load(gate + i, n), u = load(up + i, n), d = load(in + i, n), s = sigmoid<S>(g);
        store<S>(dup + i, n, d * g * s);
        store<S>(dgate + i, n, d * u * s * (S(1) + g * (S(1) - s)));
      });
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
