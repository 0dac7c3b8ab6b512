#include "ops/row_dot.hpp"

#include <cmath>

#include "glassformer/ops/linear.hpp"
#include "ops/counting.hpp"
#include "ops/kernels/kernels.hpp"

namespace glassformer::ops {
namespace {

// In double, which the kernels do not know: dot products of R rows of a with one row of b, which is read once. Four accumulators of one 64-byte
// vector hide the latency of a multiply-add; the tail is added last, in order.
template <int R>
void dots(const double* a, Index lda, const double* b, Index K, double* result) {
  constexpr Index L = 8;
  using Lane = Eigen::Array<double, 1, L>;
  using Load = Eigen::Map<const Lane>;
  Lane sum[R][4];
  for (int r = 0; r < R; ++r) {
    for (auto& lane : sum[r]) lane.setZero();
  }
  Index k = 0;
  for (; k + 4 * L <= K; k += 4 * L) {
    for (int u = 0; u < 4; ++u) {
      const Lane w = Load(b + k + u * L);
      for (int r = 0; r < R; ++r) sum[r][u] += Load(a + r * lda + k + u * L) * w;
    }
  }
  for (; k + L <= K; k += L) {
    const Lane w = Load(b + k);
    for (int r = 0; r < R; ++r) sum[r][0] += Load(a + r * lda + k) * w;
  }
  for (int r = 0; r < R; ++r) {
    double total = ((sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3])).sum();
    for (Index j = k; j < K; ++j) total += a[r * lda + j] * b[j];
    result[r] = total;
  }
}

// c[:, begin … end] = alpha·a·bᵀ + beta·c
void block_product(double alpha, ConstMatrixRef<double> a, ConstMatrixRef<double> b, Index begin, Index end, double beta, MatrixRef<double> c) {
  const Index N = a.rows(), K = a.cols();
  double sums[4];
  // fma says which of the two products is rounded: left to choose, the compiler does so otherwise for four rows than for one.
  const auto put = [&](Index n, Index m, int rows) {
    for (int r = 0; r < rows; ++r) c(n + r, m) = beta == 0 ? alpha * sums[r] : std::fma(alpha, sums[r], beta * c(n + r, m));
  };
  for (Index m = begin; m < end; ++m) {
    const double* w = b.data() + m * b.outerStride();
    Index n = 0;
    for (; n + 4 <= N; n += 4) dots<4>(a.data() + n * a.outerStride(), a.outerStride(), w, K, sums), put(n, m, 4);
    for (; n < N; ++n) dots<1>(a.data() + n * a.outerStride(), a.outerStride(), w, K, sums), put(n, m, 1);
  }
}

// By the kernels of this processor: c = a·bᵀ at once, or beside it and then added.
void block_product(float alpha, ConstMatrixRef<float> a, ConstMatrixRef<float> b, Index begin, Index end, float beta, MatrixRef<float> c) {
  const Index N = a.rows(), K = a.cols();
  const float* w = b.data() + begin * b.outerStride();
  const auto product = [&](float* y, Index stride) {
    kernels::chosen().dense({a.data(), N, a.outerStride()}, w, b.outerStride(), end - begin, K, {y, stride});
  };
  if (alpha == 1 && beta == 0) return product(c.data() + begin, c.outerStride());
  static thread_local Vector<float> sums;
  if (sums.size() < N * (end - begin)) sums.resize(N * (end - begin));
  product(sums.data(), end - begin);
  for (Index n = 0; n < N; ++n) {
    for (Index m = begin; m < end; ++m) {
      const float sum = sums(n * (end - begin) + m - begin);
      c(n, m) = beta == 0 ? alpha * sum : std::fma(alpha, sum, beta * c(n, m));
    }
  }
}

}  // namespace

template <class S>
void row_dot(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec& exec) {
  const Index N = a.rows(), K = a.cols(), M = b.rows();
  const auto part = [&](Index begin, Index end) {
    count_linear(N, end - begin, K);
    block_product(alpha, a, b, begin, end, beta, c);
  };
  if (exec.threads <= 1 || N * M * K < 32768) return part(0, M);
  // Some 128 KB a task: threads that meet at the end of a product wait for each other no longer than that takes to read. Fours of rows stay together.
  const Index block = std::min<Index>((M + 7) / 8, 32768 / std::max<Index>(K, 1) + 1);
  parallel_blocks(exec.threads, M, (block + 3) / 4 * 4, part);
}

const char* kernel_name() { return kernels::chosen().name; }

template void row_dot<float>(float, ConstMatrixRef<float>, ConstMatrixRef<float>, float, MatrixRef<float>, const Exec&);
template void row_dot<double>(double, ConstMatrixRef<double>, ConstMatrixRef<double>, double, MatrixRef<double>, const Exec&);

}  // namespace glassformer::ops
