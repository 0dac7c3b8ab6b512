// The kernels' own counts against formulas of the shapes.
#include "glassformer/ops/count.hpp"

#include <doctest/doctest.h>

#include "glassformer/ops/attention_core.hpp"
#include "glassformer/ops/linear.hpp"
#include "support/check.hpp"

using namespace glassformer;
using namespace glassformer::ops;

namespace {

AttentionSequence<float> sequence_of(const Matrix<float>& q, const Matrix<float>& kv, Matrix<float>& z, std::vector<float>& logsumexp, Index head_dim) {
  return {q.rows(), kv.rows(), {q.data(), q.cols(), head_dim}, {kv.data(), kv.cols(), head_dim}, {kv.data(), kv.cols(), head_dim}, {z.data(), z.cols(), head_dim},
          logsumexp.data()};
}

}  // namespace

TEST_CASE("every product is counted once, whatever the cut and the kernel") {
  test::Dice dice(5);
  for (int i = 0; i < 20; ++i) {
    const Index N = dice.between(1, 150), I = dice.between(1, 150), O = dice.between(1, 150);
    Matrix<float> x = dice.matrix<float>(N, I), w = dice.matrix<float>(O, I), y(N, O), dx(N, I), dw = Matrix<float>::Zero(O, I);
    for (const Kernels kernels : test::all_kernels) {
      for (const int threads : {1, 4}) {
        for (const bool row_exact : {false, true}) {
          Exec exec = test::exec_of(kernels, threads);
          exec.row_exact = row_exact;
          const CountOperations counting;
          linear_forward<float>(x, test::view(w), {}, y, exec);
          CHECK(counting.count().linear == N * I * O);
          linear_backward_input<float>(y, test::view(w), dx, exec);
          linear_backward_parameters<float>(x, y, test::view(dw), {}, exec);
          CHECK(counting.count().linear == 3 * N * I * O);
          CHECK(counting.count().attention == 0);
        }
      }
    }
  }
}

TEST_CASE("attention counts the pairs that see each other") {
  test::Dice dice(6);
  for (int i = 0; i < 20; ++i) {
    AttentionShape shape;
    shape.kv_heads = dice.between(1, 2), shape.heads = shape.kv_heads * dice.between(1, 2), shape.head_dim = dice.between(1, 20);
    shape.causal = dice.between(0, 3) > 0, shape.window = dice.between(0, 1) * dice.between(1, 100);
    const Index U = dice.between(1, 150), T = dice.between(1, U);
    const Matrix<float> q = dice.matrix<float>(T, shape.heads * shape.head_dim), kv = dice.matrix<float>(U, shape.kv_heads * shape.head_dim);
    Matrix<float> z(T, q.cols()), dq(T, q.cols()), dk(U, kv.cols()), dv(U, kv.cols());
    std::vector<float> logsumexp(static_cast<std::size_t>(shape.heads * T));
    const std::vector sequences{sequence_of(q, kv, z, logsumexp, shape.head_dim)};
    Index pairs = 0;
    for (Index t = 0; t < T; ++t) {
      for (Index u = 0; u < U; ++u) pairs += shape.sees(U - T + t, u) ? shape.heads : 0;
    }
    for (const Kernels kernels : test::all_kernels) {
      const CountOperations counting;
      attention_core_forward<float>(shape, sequences, {}, test::exec_of(kernels, 2));
      CHECK(counting.count().pairs == pairs);
      CHECK(counting.count().attention >= 2 * pairs * shape.head_dim);
      CHECK(counting.count().linear == 0);
      if (kernels == Kernels::reference) CHECK(counting.count().attention == 2 * shape.heads * T * U * shape.head_dim);
    }
    const std::vector<AttentionGradients<float>> gradients{{sequences[0].q, {dq.data(), dq.cols(), shape.head_dim}, {dk.data(), dk.cols(), shape.head_dim},
                                                            {dv.data(), dv.cols(), shape.head_dim}}};
    const CountOperations counting;
    attention_core_backward<float>(shape, sequences, gradients, {}, test::exec_of(Kernels::fused, 2));
    CHECK(counting.count().pairs == pairs);
    CHECK(counting.count().attention >= 5 * pairs * shape.head_dim);
  }
}

TEST_CASE("one counts at a time, and nothing is counted when nobody does") {
  Matrix<float> x = Matrix<float>::Ones(3, 4), y(3, 3);
  {
    const CountOperations counting;
    CHECK_THROWS_AS(CountOperations(), std::logic_error);
  }
  multiply_nt<float>(1, x, x, 0, y, {});
  const CountOperations counting;
  CHECK(counting.count().linear == 0);
}
