// Legend: N tokens, C channels.
#include "glassformer/ops/norm.hpp"

#include <algorithm>
#include <cmath>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/core/workspace.hpp"
#include "glassformer/ops/reference/norm.hpp"
#include "ops/lanes.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kRows = 32;  // rows a task; also the rows summed into one partial gradient, so a property of the result's bits

template <class S> void check(ConstMatrixRef<S> x, MatrixView<S> gain, MatrixView<S> bias, Index rows, Index cols) {
  require_shape("norm: gain", gain.rows, gain.cols, 1, x.cols());
  if (bias) require_shape("norm: bias", bias.rows, bias.cols, 1, x.cols());
  require_shape("norm: y", rows, cols, x.rows(), x.cols());
}

// bias and keep may be null; x may be y.
template <class S>
void forward_row(Norm kind, Index C, const S* x, const S* gain, const S* bias, S epsilon, S* y, S* keep, S& mean_out, S& inverse_out) {
  const S mean = kind == Norm::layer ? row_sum<S>(C, [&](Index i, auto n) { return load(x + i, n); }) / static_cast<S>(C) : S(0);
  const S squares = row_sum<S>(C, [&](Index i, auto n) {
    const Lanes<S> v = load(x + i, n), centered = v - mean;
    if (keep) store<S>(keep + i, n, v);
    return only<S>(n, centered * centered);
  });
  const S inverse = S(1) / std::sqrt(squares / static_cast<S>(C) + epsilon);
  for_lanes<S>(C, [&](Index i, auto n) {
    const Lanes<S> normalized = (load(x + i, n) - mean) * inverse * load(gain + i, n);
    store<S>(y + i, n, bias ? normalized + load(bias + i, n) : normalized);
  });
  mean_out = mean;
  inverse_out = inverse;
}

// With x̂ = (x − mean)·s and ĝ = dy ⊙ g:  dx = s·(ĝ − mean(ĝ) − x̂·mean(ĝ ⊙ x̂)); RMSNorm leaves out the first mean.
// dx may be dy; dgain and dbias are added to, and may be null.
template <class S>
void backward_row(Norm kind, Index C, const S* x, const S* gain, S center, S inverse, const S* dy, S* dx, S* dgain, S* dbias, Into into) {
  const auto normalized = [=](Index i, auto n) -> Lanes<S> { return (load(x + i, n) - center) * inverse; };     // x̂
  const auto scaled = [=](Index i, auto n) -> Lanes<S> { return load(dy + i, n) * load(gain + i, n); };  // ĝ
  RowSum<S> sum, dot;
  for_lanes<S>(C, [&](Index i, auto n) {
    const Lanes<S> d = load(dy + i, n), x_hat = normalized(i, n), g_hat = scaled(i, n);
    if (dgain) store<S>(dgain + i, n, load(dgain + i, n) + d * x_hat);
    if (dbias) store<S>(dbias + i, n, load(dbias + i, n) + d);
    sum.add(g_hat);
    dot.add(g_hat * x_hat);
  });
  const S mean = kind == Norm::layer ? sum.total() / static_cast<S>(C) : S(0), along = dot.total() / static_cast<S>(C);
  for_lanes<S>(C, [&](Index i, auto n) {
    const Lanes<S> d = inverse * (scaled(i, n) - mean - normalized(i, n) * along);
    store<S>(dx + i, n, into == Into::add ? load(dx + i, n) + d : d);
  });
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
  const Index C = x.cols();
  statistics.mean.resize(x.rows());
  statistics.inverse_deviation.resize(x.rows());
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      forward_row<S>(kind, C, x.row(n).data(), gain.data, bias.data, epsilon, y.row(n).data(), keep ? keep.data + n * C : nullptr, statistics.mean(n),
                     statistics.inverse_deviation(n));
    }
  });
}

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
  Workspace& scratch = thread_workspace();
  const Workspace::Frame frame(scratch);
  const MatrixView<S> gain_sums = dgain ? scratch.matrix<S>(blocks, C) : MatrixView<S>{}, bias_sums = dbias ? scratch.matrix<S>(blocks, C) : MatrixView<S>{};
  parallel_for(exec.threads, blocks, [&](Index b) {
    S *gain_sum = dgain ? gain_sums.data + b * C : nullptr, *bias_sum = dbias ? bias_sums.data + b * C : nullptr;
    if (gain_sum) std::fill_n(gain_sum, C, S(0));
    if (bias_sum) std::fill_n(bias_sum, C, S(0));
    for (Index n = b * kRows; n < std::min(N, (b + 1) * kRows); ++n) {
      backward_row<S>(kind, C, x.row(n).data(), gain.data, statistics.mean(n), statistics.inverse_deviation(n), dy.row(n).data(), dx.row(n).data(), gain_sum,
                      bias_sum, into);
    }
  });
  for (Index b = 0; b < blocks; ++b) {
    if (dgain) (*dgain).row(0) += (*gain_sums).row(b);
    if (dbias) (*dbias).row(0) += (*bias_sums).row(b);
  }
}

template void norm_forward<float>(Norm, ConstMatrixRef<float>, MatrixView<float>, MatrixView<float>, float, MatrixRef<float>, NormStatistics<float>&, const Exec&, MatrixView<float>);
template void norm_backward<float>(Norm, ConstMatrixRef<float>, MatrixView<float>, const NormStatistics<float>&, ConstMatrixRef<float>, MatrixRef<float>, MatrixView<float>, MatrixView<float>, const Exec&, Into);
template void norm_forward<double>(Norm, ConstMatrixRef<double>, MatrixView<double>, MatrixView<double>, double, MatrixRef<double>, NormStatistics<double>&, const Exec&, MatrixView<double>);
template void norm_backward<double>(Norm, ConstMatrixRef<double>, MatrixView<double>, const NormStatistics<double>&, ConstMatrixRef<double>, MatrixRef<double>, MatrixView<double>, MatrixView<double>, const Exec&, Into);

}  // namespace glassformer::ops
