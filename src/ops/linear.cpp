// Legend: N tokens (rows), I inputs, O outputs.
#include "glassformer/ops/linear.hpp"

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/linear.hpp"
#include "ops/counting.hpp"
#include "ops/gemm.hpp"
#include "ops/quantized_linear.hpp"
#include "ops/row_dot.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kSmallProduct = 64 * 64 * 64;  // not worth a second thread
constexpr Index kColumnUnit = 32, kRowUnit = 16;  // block edges fall on whole vectors, and leave few odd rows to the kernels' tiles

// One block a thread: each copies an operand for itself, so more would cost more than a thread that comes late. Only loops of matrix products may be
// cut by the number of threads; an element of c has the same bits in any block (gemm.hpp).
Index block_length(Index length, Index unit, int threads) { return round_up(length, threads * unit) / threads; }

// Where c is cut by rows, each block copies all of b for itself; by columns, each reads all of a, or copies that, too, if it is transposed.
template <class S> bool cut_by_rows(const Gemm<S>& g, int threads) {
  const auto busy = [&](Index length, Index unit) { return std::min<Index>(threads, (length + unit - 1) / unit); };
  const Index rows = busy(g.m, kRowUnit), columns = busy(g.n, kColumnUnit);
  if (rows != columns) return rows > columns;
  return g.m >= (g.transpose_a ? 1 : 2) * g.n;
}

template <class S> void gemm_in_blocks(const Gemm<S>& g, const Exec& exec) {
  if (exec.threads <= 1 || g.m * g.n * g.k <= kSmallProduct) return count_linear(g.m, g.n, g.k), gemm(g);
  const bool by_rows = cut_by_rows(g, exec.threads);
  const Index length = by_rows ? g.m : g.n, unit = by_rows ? kRowUnit : kColumnUnit;
  parallel_blocks(exec.threads, length, block_length(length, unit, exec.threads), [&](Index begin, Index end) {
    Gemm<S> part = g;
    if (by_rows) {
      part.m = end - begin;
      part.a += begin * (g.transpose_a ? 1 : g.lda);
      part.c += begin * g.ldc;
    } else {
      part.n = end - begin;
      part.b += begin * (g.transpose_b ? g.ldb : 1);
      part.c += begin;
      if (g.bias) part.bias += begin;
    }
    count_linear(part.m, part.n, part.k);
    gemm(part);
  });
}

}  // namespace

template <class S> void multiply_nt(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec& exec) {
  require_shape("multiply_nt: b", b.rows(), b.cols(), c.cols(), a.cols());
  require_shape("multiply_nt: c", c.rows(), c.cols(), a.rows(), b.rows());
  if (exec.kernels == Kernels::reference) return count_linear(c.rows(), c.cols(), a.cols()), reference::multiply_nt<S>(alpha, a, b, beta, c);
  if (exec.row_exact) return row_dot(alpha, a, b, beta, c, exec);
  gemm_in_blocks<S>({false, true, a.rows(), b.rows(), a.cols(), alpha, a.data(), a.outerStride(), b.data(), b.outerStride(), beta, c.data(), c.outerStride()}, exec);
}

template <class S> void multiply_nn(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec& exec) {
  require_shape("multiply_nn: b", b.rows(), b.cols(), a.cols(), c.cols());
  require_shape("multiply_nn: c", c.rows(), c.cols(), a.rows(), b.cols());
  if (exec.kernels == Kernels::reference) return count_linear(c.rows(), c.cols(), a.cols()), reference::multiply_nn<S>(alpha, a, b, beta, c);
  gemm_in_blocks<S>({false, false, a.rows(), b.cols(), a.cols(), alpha, a.data(), a.outerStride(), b.data(), b.outerStride(), beta, c.data(), c.outerStride()}, exec);
}

template <class S> void multiply_tn(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec& exec) {
  require_shape("multiply_tn: b", b.rows(), b.cols(), a.rows(), c.cols());
  require_shape("multiply_tn: c", c.rows(), c.cols(), a.cols(), b.cols());
  if (exec.kernels == Kernels::reference) return count_linear(c.rows(), c.cols(), a.rows()), reference::multiply_tn<S>(alpha, a, b, beta, c);
  gemm_in_blocks<S>({true, false, a.cols(), b.cols(), a.rows(), alpha, a.data(), a.outerStride(), b.data(), b.outerStride(), beta, c.data(), c.outerStride()}, exec);
}

template <class S> void linear_forward(ConstMatrixRef<S> x, const Weight<S>& weight, MatrixView<S> bias, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::linear);
  if (bias) require_shape("linear: bias", bias.rows, bias.cols, 1, y.cols());
  require_shape("linear: weight", weight.rows(), weight.cols(), y.cols(), x.cols());
  if (weight.quantized) {
    quantized_multiply_nt<S>(x, weight, y, exec);
  } else if (exec.kernels == Kernels::reference) {
    return count_linear(y.rows(), y.cols(), x.cols()), reference::linear_forward<S>(x, weight.dense, bias, y);
  } else if (exec.row_exact) {
    row_dot<S>(1, x, *weight, 0, y, exec);
  } else {
    return gemm_in_blocks<S>({false, true, x.rows(), y.cols(), x.cols(), 1, x.data(), x.outerStride(), weight.dense.data, weight.dense.cols, 0, y.data(), y.outerStride(),
                              bias ? bias.data : nullptr}, exec);
  }
  if (bias) {
    parallel_blocks(exec.threads, y.rows(), 64, [&](Index begin, Index end) { y.middleRows(begin, end - begin).rowwise() += (*bias).row(0); });
  }
}

template <class S> void linear_backward_input(ConstMatrixRef<S> dy, const Weight<S>& weight, MatrixRef<S> dx, const Exec& exec) {
  const Timed timed(Operation::linear);
  require_shape("linear: weight", weight.rows(), weight.cols(), dy.cols(), dx.cols());
  if (weight.quantized) return quantized_multiply_nn<S>(dy, weight, dx, exec);
  multiply_nn<S>(1, dy, *weight, 0, dx, exec);  // forward was: y = x·Wᵀ
}

template <class S>
void linear_backward_parameters(ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixView<S> dweight, MatrixView<S> dbias, const Exec& exec) {
  const Timed timed(Operation::linear);
  require_shape("linear: dy", dy.rows(), dy.cols(), x.rows(), dy.cols());
  if (dweight) require_shape("linear: dweight", dweight.rows, dweight.cols, dy.cols(), x.cols());
  if (dbias) require_shape("linear: dbias", dbias.rows, dbias.cols, 1, dy.cols());
  if (exec.kernels == Kernels::reference) {
    if (dweight) count_linear(dy.cols(), x.cols(), x.rows());
    return reference::linear_backward_parameters<S>(x, dy, dweight, dbias);
  }
  if (dweight) multiply_tn<S>(1, dy, x, 1, *dweight, exec);  // forward was: y = x·Wᵀ
  if (dbias) {                                               // forward was: y += b. Columns are cut, each summed from the first row to the last.
    parallel_blocks(exec.threads, dy.cols(), 128, [&](Index begin, Index end) {
      auto sum = (*dbias).row(0).segment(begin, end - begin);
      for (Index n = 0; n < dy.rows(); ++n) sum += dy.row(n).segment(begin, end - begin);
    });
  }
}

template void multiply_nt<float>(float, ConstMatrixRef<float>, ConstMatrixRef<float>, float, MatrixRef<float>, const Exec&);
template void multiply_nn<float>(float, ConstMatrixRef<float>, ConstMatrixRef<float>, float, MatrixRef<float>, const Exec&);
template void multiply_tn<float>(float, ConstMatrixRef<float>, ConstMatrixRef<float>, float, MatrixRef<float>, const Exec&);
template void linear_forward<float>(ConstMatrixRef<float>, const Weight<float>&, MatrixView<float>, MatrixRef<float>, const Exec&);
template void linear_backward_input<float>(ConstMatrixRef<float>, const Weight<float>&, MatrixRef<float>, const Exec&);
template void linear_backward_parameters<float>(ConstMatrixRef<float>, ConstMatrixRef<float>, MatrixView<float>, MatrixView<float>, const Exec&);
template void multiply_nt<double>(double, ConstMatrixRef<double>, ConstMatrixRef<double>, double, MatrixRef<double>, const Exec&);
template void multiply_nn<double>(double, ConstMatrixRef<double>, ConstMatrixRef<double>, double, MatrixRef<double>, const Exec&);
template void multiply_tn<double>(double, ConstMatrixRef<double>, ConstMatrixRef<double>, double, MatrixRef<double>, const Exec&);
template void linear_forward<double>(ConstMatrixRef<double>, const Weight<double>&, MatrixView<double>, MatrixRef<double>, const Exec&);
template void linear_backward_input<double>(ConstMatrixRef<double>, const Weight<double>&, MatrixRef<double>, const Exec&);
template void linear_backward_parameters<double>(ConstMatrixRef<double>, ConstMatrixRef<double>, MatrixView<double>, MatrixView<double>, const Exec&);

}  // namespace glassformer::ops
