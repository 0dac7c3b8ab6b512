// Legend: N tokens, C channels.
#include "glassformer/ops/norm.hpp"

#include <cmath>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/norm.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kRows = 32;  // rows a task; also the rows summed into one partial gradient, so a property of the result's bits

template <class S> void check(ConstMatrixRef<S> x, MatrixView<S> gain, MatrixView<S> bias, Index rows, Index cols) {
  require_shape("norm: gain", gain.rows, gain.cols, 1, x.cols());
  if (bias) require_shape("norm: bias", bias.rows, bias.cols, 1, x.cols());
  require_shape("norm: y", rows, cols, x.rows(), x.cols());
}

}  // namespace

template <class S>
void norm_forward(Norm kind, ConstMatrixRef<S> x, MatrixView<S> gain, MatrixView<S> bias, S epsilon, MatrixRef<S> y, NormStatistics<S>& statistics,
                  const Exec& exec, MatrixView<S> keep) {
  const Timed timed(Operation::norm);
  check<S>(x, gain, bias, y.rows(), y.cols());
  if (keep) require_shape("norm: keep", keep.rows, keep.cols, x.rows(), x.cols());
  if (keep && exec.kernels == Kernels::reference) *keep = x;
  if (exec.kernels == Kernels::reference) return reference::norm_forward<S>(kind, x, gain, bias, epsilon, y, statistics);
  const S C = static_cast<S>(x.cols());
  statistics.mean.resize(x.rows());
  statistics.inverse_deviation.resize(x.rows());
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    const auto g = (*gain).row(0).array();
    // At an aligned address of its own: Eigen's sums depend on the address that they read, and a row must not on its place in the matrix.
    Eigen::Array<S, 1, Eigen::Dynamic, Eigen::RowMajor> row(x.cols());
    for (Index n = begin; n < end; ++n) {
      row = x.row(n).array();
      if (keep) (*keep).row(n).array() = row;
      const S mean = kind == Norm::layer ? row.sum() / C : S(0);
      const S variance = (row - mean).square().sum() / C;
      const S inverse = S(1) / std::sqrt(variance + epsilon);
      statistics.mean(n) = mean;
      statistics.inverse_deviation(n) = inverse;
      row = (row - mean) * inverse * g;
      if (bias) row += (*bias).row(0).array();
      y.row(n).array() = row;
    }
  });
}

// With x̂ = (x − mean)·s and ĝ = dy ⊙ g:  dx = s·(ĝ − mean(ĝ) − x̂·mean(ĝ ⊙ x̂)); RMSNorm leaves out the first mean.
template <class S>
void norm_backward(Norm kind, ConstMatrixRef<S> x, MatrixView<S> gain, const NormStatistics<S>& statistics, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                   MatrixView<S> dgain, MatrixView<S> dbias, const Exec& exec, Into into) {
  const Timed timed(Operation::norm);
  check<S>(x, gain, dbias, dy.rows(), dy.cols());
  if (dgain) require_shape("norm: dgain", dgain.rows, dgain.cols, 1, x.cols());
  require_shape("norm: dx", dx.rows(), dx.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) {
    const Matrix<S> before = into == Into::add ? Matrix<S>(dx) : Matrix<S>();
    reference::norm_backward<S>(kind, x, gain, statistics, dy, dx, dgain, dbias);
    if (into == Into::add) dx += before;
    return;
  }
  const Index N = x.rows(), C = x.cols(), blocks = (N + kRows - 1) / kRows;
  // Gradients of gain and bias are summed over a block of rows, then over the blocks in order.
  Matrix<S> gain_parts(dgain ? blocks : 0, C), bias_parts(dbias ? blocks : 0, C);
  parallel_for(exec.threads, blocks, [&](Index b) {
    if (dgain) gain_parts.row(b).setZero();
    if (dbias) bias_parts.row(b).setZero();
    const auto g = (*gain).row(0).array();
    Vector<S> normalized(C), scaled(C);  // x̂, ĝ
    for (Index n = b * kRows; n < std::min(N, (b + 1) * kRows); ++n) {
      const S inverse = statistics.inverse_deviation(n);
      normalized.array() = (x.row(n).array() - statistics.mean(n)) * inverse;
      if (dgain) gain_parts.row(b).array() += dy.row(n).array() * normalized.array();
      if (dbias) bias_parts.row(b) += dy.row(n);
      scaled.array() = dy.row(n).array() * g;
      const S mean = kind == Norm::layer ? scaled.sum() / static_cast<S>(C) : S(0);
      const S along = scaled.dot(normalized) / static_cast<S>(C);
      scaled.array() = inverse * (scaled.array() - mean - normalized.array() * along);
      into == Into::add ? void(dx.row(n) += scaled) : void(dx.row(n) = scaled);
    }
  });
  for (Index b = 0; b < blocks; ++b) {
    if (dgain) (*dgain).row(0) += gain_parts.row(b);
    if (dbias) (*dbias).row(0) += bias_parts.row(b);
  }
}

template void norm_forward<float>(Norm, ConstMatrixRef<float>, MatrixView<float>, MatrixView<float>, float, MatrixRef<float>, NormStatistics<float>&, const Exec&, MatrixView<float>);
template void norm_backward<float>(Norm, ConstMatrixRef<float>, MatrixView<float>, const NormStatistics<float>&, ConstMatrixRef<float>, MatrixRef<float>, MatrixView<float>, MatrixView<float>, const Exec&, Into);
template void norm_forward<double>(Norm, ConstMatrixRef<double>, MatrixView<double>, MatrixView<double>, double, MatrixRef<double>, NormStatistics<double>&, const Exec&, MatrixView<double>);
template void norm_backward<double>(Norm, ConstMatrixRef<double>, MatrixView<double>, const NormStatistics<double>&, ConstMatrixRef<double>, MatrixRef<double>, MatrixView<double>, MatrixView<double>, const Exec&, Into);

}  // namespace glassformer::ops
