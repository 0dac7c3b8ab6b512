#include "glassformer/ops/linear.hpp"

#include <doctest/doctest.h>

#include <string>

#include "../support/check.hpp"

using namespace glassformer;
using namespace glassformer::test;

namespace {

enum class Form { nt, nn, tn };

template <class S>
void multiply(Form form, S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec& exec) {
  switch (form) {
    case Form::nt:
      return ops::multiply_nt<S>(alpha, a, b, beta, c, exec);
    case Form::nn:
      return ops::multiply_nn<S>(alpha, a, b, beta, c, exec);
    case Form::tn:
      return ops::multiply_tn<S>(alpha, a, b, beta, c, exec);
  }
}
constexpr Form all_forms[] = {Form::nt, Form::nn, Form::tn};

// A pair of factors for c [N, M] over K terms, in the form's orientation.
template <class S>
std::pair<Block<S>, Block<S>> factors(Form form, Index N, Index M, Index K, Dice& dice) {
  const bool a_turned = form == Form::tn, b_turned = form == Form::nt;
  return {Block<S>(dice.matrix<S>(a_turned ? K : N, a_turned ? N : K)), Block<S>(dice.matrix<S>(b_turned ? M : K, b_turned ? K : M))};
}

}  // namespace

TEST_CASE_TEMPLATE("products by hand", S, float, double) {
  const Matrix<S> a{{1, 2}, {3, 4}}, b{{5, 6}, {7, 8}}, c0{{1, 1}, {1, 1}};
  for (const Kernels kernels : all_kernels) {
    Matrix<S> c = c0;
    ops::multiply_nt<S>(1, a, b, 0, c, exec_of(kernels));
    CHECK(c == Matrix<S>{{17, 23}, {39, 53}});
    c = c0;
    ops::multiply_nn<S>(2, a, b, 1, c, exec_of(kernels));
    CHECK(c == Matrix<S>{{39, 45}, {87, 101}});
    c = c0;
    ops::multiply_tn<S>(1, a, b, -1, c, exec_of(kernels));
    CHECK(c == Matrix<S>{{25, 29}, {37, 43}});
  }
}

TEST_CASE_TEMPLATE("products: the fused kernel equals the formula on odd shapes inside larger matrices", S, float, double) {
  Dice dice(11);
  for (int trial = 0; trial < 60; ++trial) {
    const bool large = trial % 20 == 19;  // several blocks each way
    const Index N = large ? dice.between(300, 700) : dice.between(1, 300), M = large ? dice.between(300, 700) : dice.between(1, 130),
                K = dice.between(1, large ? 400 : 130);
    const S beta = S(trial % 3) / 2, alpha = trial % 2 ? S(1) : S(-0.75);
    for (const Form form : all_forms) {
      auto [a, b] = factors<S>(form, N, M, K, dice);
      const Matrix<S> before = beta == 0 ? Matrix<S>(Matrix<S>::Constant(N, M, std::numeric_limits<S>::quiet_NaN())) : dice.matrix<S>(N, M);
      for (const bool row_exact : {false, true}) {
        Block<S> expected(before), found(before);
        multiply<S>(form, alpha, *a, *b, beta, *expected, exec_of(Kernels::reference));
        Exec exec;
        exec.row_exact = row_exact;
        multiply<S>(form, alpha, *a, *b, beta, *found, exec);
        INFO("form ", static_cast<int>(form), " N ", N, " M ", M, " K ", K, " beta ", beta, " row_exact ", row_exact);
        CHECK(relative_error(expected.value(), found.value()) < kernel_tolerance<S>());
        CHECK(found.frame_intact());
      }
    }
  }
}

TEST_CASE_TEMPLATE("products: the same bits on any number of threads", S, float, double) {
  Dice dice(12);
  const Index shapes[][3] = {{300, 130, 77}, {37, 513, 64}, {700, 520, 130}, {1, 1000, 300}, {5, 3, 2}};
  for (const auto& [N, M, K] : shapes) {
    for (const Form form : all_forms) {
      auto [a, b] = factors<S>(form, N, M, K, dice);
      const Matrix<S> before = dice.matrix<S>(N, M);
      for (const bool row_exact : {false, true}) {
        CHECK(same_bits_on_any_threads([&](Exec exec) {
          exec.row_exact = row_exact;
          Matrix<S> c = before;
          multiply<S>(form, S(1), *a, *b, S(0.5), c, exec);
          return c;
        }));
      }
    }
  }
}

TEST_CASE_TEMPLATE("row_exact: a row has the same bits alone and in a batch of any size", S, float, double) {
  Dice dice(13);
  for (int trial = 0; trial < 6; ++trial) {
    const Index K = dice.between(1, 300), M = dice.between(1, 300), most = 40;
    Block<S> x(dice.matrix<S>(most, K));
    Matrix<S> weight = dice.matrix<S>(M, K), bias = dice.matrix<S>(1, M), alone(most, M);
    Exec exec;
    exec.row_exact = true;
    for (Index n = 0; n < most; ++n) ops::linear_forward<S>((*x).row(n), view(weight), view(bias), alone.row(n), exec);
    for (Index rows = 1; rows <= most; ++rows) {
      exec.threads = 1 + static_cast<int>(rows % 3);
      Matrix<S> y(rows, M);
      ops::linear_forward<S>((*x).topRows(rows), view(weight), view(bias), y, exec);
      INFO("rows ", rows, " K ", K, " M ", M);
      CHECK(same_bits(y, alone.topRows(rows)));
      ops::multiply_nt<S>(1, (*x).bottomRows(rows), weight, 0, y, exec);
      Matrix<S> last(1, M);
      ops::multiply_nt<S>(1, (*x).bottomRows(1), weight, 0, last, exec);
      CHECK(same_bits(y.bottomRows(1), last));
      const Matrix<S> before = dice.matrix<S>(rows, M);  // an adapter adds to what is there
      y = before, last = before.bottomRows(1);
      ops::multiply_nt<S>(S(0.7), (*x).bottomRows(rows), weight, 1, y, exec);
      ops::multiply_nt<S>(S(0.7), (*x).bottomRows(1), weight, 1, last, exec);
      CHECK(same_bits(y.bottomRows(1), last));
      y = before, last = before.topRows(1);
      ops::multiply_nt<S>(S(0.7), (*x).topRows(rows), weight, 1, y, exec);
      ops::multiply_nt<S>(S(0.7), (*x).topRows(1), weight, 1, last, exec);
      CHECK(same_bits(y.topRows(1), last));
    }
  }
}

TEST_CASE("linear: gradients against central differences; dx is assigned, dW and db accumulate") {
  Dice dice(14);
  const Index N = 5, I = 4, O = 3;
  Matrix<double> x = dice.matrix<double>(N, I), weight = dice.matrix<double>(O, I), bias = dice.matrix<double>(1, O);
  const Matrix<double> dy = dice.matrix<double>(N, O);
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    const auto loss = [&] {
      Matrix<double> y(N, O);
      ops::linear_forward<double>(x, view(weight), view(bias), y, exec);
      return y.cwiseProduct(dy).sum();
    };
    Block<double> dx(N, I);
    ops::linear_backward_input<double>(dy, view(weight), *dx, exec);
    const Matrix<double> dweight0 = dice.matrix<double>(O, I), dbias0 = dice.matrix<double>(1, O);
    Matrix<double> dweight = dweight0, dbias = dbias0;
    ops::linear_backward_parameters<double>(x, dy, view(dweight), view(dbias), exec);
    CHECK(gradient_error(x, dx.value(), loss) < 1e-6);
    CHECK(gradient_error(weight, dweight - dweight0, loss) < 1e-6);
    CHECK(gradient_error(bias, dbias - dbias0, loss) < 1e-6);
    ops::linear_backward_parameters<double>(x, dy, {}, {}, exec);  // all frozen: nothing happens, nothing is touched
  }
}

TEST_CASE_TEMPLATE("linear: fused equals the formula, with and without a bias; the same bits on any threads", S, float, double) {
  Dice dice(15);
  for (int trial = 0; trial < 25; ++trial) {
    const Index N = dice.between(1, 300), I = dice.between(1, 130), O = dice.between(1, 130);
    Block<S> x(dice.matrix<S>(N, I)), dy(dice.matrix<S>(N, O));
    Matrix<S> weight = dice.matrix<S>(O, I), bias = dice.matrix<S>(1, O);
    const MatrixView<S> b = trial % 2 ? view(bias) : MatrixView<S>{};
    const Matrix<S> dweight0 = dice.matrix<S>(O, I), dbias0 = dice.matrix<S>(1, O);
    const auto run = [&](const Exec& exec) {  // y, dx, dW and db, one below another
      Block<S> y(N, O), dx(N, I);
      Matrix<S> dweight = dweight0, dbias = dbias0;
      ops::linear_forward<S>(*x, view(weight), b, *y, exec);
      ops::linear_backward_input<S>(*dy, view(weight), *dx, exec);
      ops::linear_backward_parameters<S>(*x, *dy, view(dweight), view(dbias), exec);
      CHECK((y.frame_intact() && dx.frame_intact()));
      Matrix<S> all = Matrix<S>::Zero(2 * N + O + 1, std::max(I, O));
      all.topLeftCorner(N, O) = y.value();
      all.block(N, 0, N, I) = dx.value();
      all.block(2 * N, 0, O, I) = dweight;
      all.block(2 * N + O, 0, 1, O) = dbias;
      return all;
    };
    const Matrix<S> expected = run(exec_of(Kernels::reference)), found = run(Exec{});
    for (const auto& [from, rows] : {std::pair<Index, Index>{0, N}, {N, N}, {2 * N, O}, {2 * N + O, 1}}) {
      INFO("N ", N, " I ", I, " O ", O, " rows from ", from);
      CHECK(relative_error(expected.middleRows(from, rows), found.middleRows(from, rows)) < kernel_tolerance<S>());
    }
    CHECK(same_bits_on_any_threads(run));
  }
}

TEST_CASE_TEMPLATE("products and linear layers name shapes that do not fit", S, float, double) {
  Matrix<S> a(2, 3), b(4, 3), c(2, 4), odd(3, 5);
  Matrix<S> bias(1, 4), short_bias(1, 3);
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    CHECK_THROWS_AS(ops::multiply_nt<S>(1, a, odd, 0, c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::multiply_nt<S>(1, a, b, 0, odd, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::multiply_nn<S>(1, a, b, 0, c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::multiply_nn<S>(1, a, odd, 0, c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::multiply_tn<S>(1, a, b, 0, c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::multiply_tn<S>(1, a, a, 0, c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::linear_forward<S>(a, view(odd), {}, c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::linear_forward<S>(a, view(b), view(short_bias), c, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::linear_backward_input<S>(c, view(odd), a, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::linear_backward_parameters<S>(a, c, view(odd), {}, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::linear_backward_parameters<S>(a, c, {}, view(short_bias), exec), std::invalid_argument);
    CHECK_NOTHROW(ops::linear_forward<S>(a.setZero(), view(b), view(bias), c, exec));
  }
}

TEST_CASE_TEMPLATE("products of nothing: no terms give beta·c, no rows give no rows", S, float, double) {
  for (const Kernels kernels : all_kernels) {
    for (const bool row_exact : {false, true}) {
      Exec exec = exec_of(kernels);
      exec.row_exact = row_exact;
      Matrix<S> c = Matrix<S>::Constant(2, 3, S(4)), no_rows(0, 3);
      ops::multiply_nt<S>(1, Matrix<S>(2, 0), Matrix<S>(3, 0), S(0.5), c, exec);
      CHECK(c == Matrix<S>::Constant(2, 3, S(2)));
      ops::multiply_nt<S>(1, Matrix<S>(2, 0), Matrix<S>(3, 0), 0, c, exec);
      CHECK(c.isZero(0));
      CHECK_NOTHROW(ops::multiply_nn<S>(1, Matrix<S>(0, 4), Matrix<S>::Zero(4, 3), 0, no_rows, exec));
      CHECK_NOTHROW(ops::multiply_nt<S>(1, Matrix<S>(0, 4), Matrix<S>::Zero(3, 4), 0, no_rows, exec));
    }
  }
}
