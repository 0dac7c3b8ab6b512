#include "glassformer/ops/norm.hpp"

#include <doctest/doctest.h>

#include "../support/check.hpp"

using namespace glassformer;
using namespace glassformer::test;

TEST_CASE_TEMPLATE("norms by hand", S, float, double) {
  Matrix<S> gain{{1, 2, 1, 2}}, bias{{0, 0, 1, 1}};
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    ops::NormStatistics<S> statistics;
    Matrix<S> x{{1, 2, 3, 4}}, y(1, 4);  // mean 2.5, variance 1.25; with ε = 1 the deviation is 1.5
    ops::norm_forward<S>(ops::Norm::layer, x, view(gain), view(bias), 1, y, statistics, exec);
    CHECK(relative_error(y, Matrix<double>{{-1, -2.0 / 3, 1 + 1.0 / 3, 3}}) < kernel_tolerance<S>());
    CHECK(statistics.mean(0) == doctest::Approx(2.5));
    CHECK(statistics.inverse_deviation(0) == doctest::Approx(1 / 1.5));
    x = Matrix<S>{{2, 4, 4, 0}};  // mean square 9; with ε = 7 the root is 4
    ops::norm_forward<S>(ops::Norm::rms, x, view(gain), {}, 7, x, statistics, exec);
    CHECK(relative_error(x, Matrix<double>{{0.5, 2, 1, 0}}) < kernel_tolerance<S>());
    CHECK(statistics.mean(0) == 0);
    CHECK(statistics.inverse_deviation(0) == doctest::Approx(0.25));
  }
}

TEST_CASE("norms: gradients against central differences; dx is assigned, dgain and dbias accumulate") {
  Dice dice(21);
  const Index N = 4, C = 6;
  Matrix<double> x = dice.matrix<double>(N, C), gain = dice.matrix<double>(1, C), bias = dice.matrix<double>(1, C);
  const Matrix<double> dy = dice.matrix<double>(N, C);
  for (const ops::Norm kind : {ops::Norm::layer, ops::Norm::rms}) {
    for (const Kernels kernels : all_kernels) {
      const Exec exec = exec_of(kernels);
      ops::NormStatistics<double> statistics;
      Matrix<double> y(N, C);
      const auto loss = [&] {
        ops::NormStatistics<double> unused;
        ops::norm_forward<double>(kind, x, view(gain), view(bias), 1e-5, y, unused, exec);
        return y.cwiseProduct(dy).sum();
      };
      ops::norm_forward<double>(kind, x, view(gain), view(bias), 1e-5, y, statistics, exec);
      Block<double> dx(N, C);
      const Matrix<double> dgain0 = dice.matrix<double>(1, C), dbias0 = dice.matrix<double>(1, C);
      Matrix<double> dgain = dgain0, dbias = dbias0;
      ops::norm_backward<double>(kind, x, view(gain), statistics, dy, *dx, view(dgain), view(dbias), exec);
      CHECK(gradient_error(x, dx.value(), loss) < 1e-6);
      CHECK(gradient_error(gain, dgain - dgain0, loss) < 1e-6);
      CHECK(gradient_error(bias, dbias - dbias0, loss) < 1e-6);
      Matrix<double> in_place = dy;  // dx may be dy, and both gradients may be absent
      ops::norm_backward<double>(kind, x, view(gain), statistics, in_place, in_place, {}, {}, exec);
      CHECK(same_bits(in_place, dx.value()));
      const Matrix<double> before = dice.matrix<double>(N, C);  // added to what goes around the norm
      Block<double> sum(before);
      ops::norm_backward<double>(kind, x, view(gain), statistics, dy, *sum, {}, {}, exec, ops::Into::add);
      CHECK(relative_error(sum.value(), before + dx.value()) < 1e-14);
      CHECK((sum.frame_intact() && dx.frame_intact()));
      ops::norm_forward<double>(kind, x, view(gain), view(bias), 1e-5, y, statistics, exec);
      Matrix<double> x_again = x, copy(N, C);  // kept before y, which may be x, is written
      ops::norm_forward<double>(kind, x_again, view(gain), view(bias), 1e-5, x_again, statistics, exec, view(copy));
      CHECK(same_bits(copy, x));
      CHECK(same_bits(x_again, y));
    }
  }
}

TEST_CASE_TEMPLATE("norms: fused equals the formula on odd shapes; the same bits on any threads", S, float, double) {
  Dice dice(22);
  for (int trial = 0; trial < 40; ++trial) {
    const Index N = dice.between(1, 300), C = dice.between(1, 130);
    const ops::Norm kind = trial % 2 ? ops::Norm::layer : ops::Norm::rms;
    Matrix<S> values = dice.matrix<S>(N, C);
    if (trial % 4 == 3) values.array() += S(10);  // a mean that is large beside the deviation
    Block<S> x(values), dy(dice.matrix<S>(N, C));
    Matrix<S> gain = dice.matrix<S>(1, C), bias = dice.matrix<S>(1, C);
    const MatrixView<S> b = trial % 3 ? view(bias) : MatrixView<S>{};
    const Matrix<S> dgain0 = dice.matrix<S>(1, C), dbias0 = dice.matrix<S>(1, C);
    const auto run = [&](const Exec& exec) {  // y, dx, dgain, dbias, statistics
      ops::NormStatistics<S> statistics;
      Block<S> y(N, C), dx(N, C);
      Matrix<S> dgain = dgain0, dbias = dbias0;
      ops::norm_forward<S>(kind, *x, view(gain), b, S(1e-5), *y, statistics, exec);
      ops::norm_backward<S>(kind, *x, view(gain), statistics, *dy, *dx, view(dgain), view(dbias), exec);
      CHECK((y.frame_intact() && dx.frame_intact()));
      Matrix<S> all(2 * N + 2, C);
      all << y.value(), dx.value(), dgain, dbias;
      return all;
    };
    const Matrix<S> expected = run(exec_of(Kernels::reference)), found = run(Exec{});
    for (const auto& [from, rows] : {std::pair<Index, Index>{0, N}, {N, N}, {2 * N, 1}, {2 * N + 1, 1}}) {
      INFO("kind ", static_cast<int>(kind), " N ", N, " C ", C, " rows from ", from);
      // With one or two channels x̂ is 0 or ±1 whatever x is: dx is rounding alone and has no relative error. A mean of 10 costs a digit.
      if (C > 2) CHECK(relative_error(expected.middleRows(from, rows), found.middleRows(from, rows)) < 10 * kernel_tolerance<S>());
    }
    CHECK(same_bits_on_any_threads(run));
    Block<S> in_place(values), y(N, C);
    ops::NormStatistics<S> statistics;
    ops::norm_forward<S>(kind, *x, view(gain), b, S(1e-5), *y, statistics, Exec{});
    ops::norm_forward<S>(kind, *in_place, view(gain), b, S(1e-5), *in_place, statistics, Exec{});
    CHECK(same_bits(in_place.value(), y.value()));
  }
}

TEST_CASE_TEMPLATE("norms: fused in float stays near the formula in double when the mean is large", S, float) {
  Dice dice(23);
  const Index N = 64, C = 128;
  Matrix<S> x = dice.matrix<S>(N, C), gain = Matrix<S>::Ones(1, C), y(N, C);
  x.array() += S(1000);
  Matrix<double> x2 = x.template cast<double>(), gain2 = Matrix<double>::Ones(1, C), y2(N, C);
  ops::NormStatistics<S> statistics;
  ops::NormStatistics<double> statistics2;
  ops::norm_forward<S>(ops::Norm::layer, x, view(gain), {}, S(1e-5), y, statistics, Exec{});
  ops::norm_forward<double>(ops::Norm::layer, x2, view(gain2), {}, 1e-5, y2, statistics2, exec_of(Kernels::reference));
  CHECK(relative_error(y, y2) < 1e-4);  // E[x²] − mean² in float would lose every digit here
}

TEST_CASE("norms name shapes that do not fit") {
  Matrix<double> x(2, 3), y(2, 3), wide(2, 4), gain(1, 3), short_gain(1, 2);
  x.setOnes();
  ops::NormStatistics<double> s;
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    CHECK_THROWS_AS(ops::norm_forward<double>(ops::Norm::rms, x, view(gain), {}, 1e-5, wide, s, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::norm_forward<double>(ops::Norm::rms, x, view(short_gain), {}, 1e-5, y, s, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::norm_forward<double>(ops::Norm::layer, x, view(gain), view(short_gain), 1e-5, y, s, exec), std::invalid_argument);
    ops::norm_forward<double>(ops::Norm::layer, x, view(gain), {}, 1e-5, y, s, exec);
    CHECK_THROWS_AS(ops::norm_backward<double>(ops::Norm::layer, x, view(gain), s, wide, y, {}, {}, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::norm_backward<double>(ops::Norm::layer, x, view(gain), s, x, y, view(short_gain), {}, exec),
                    std::invalid_argument);
  }
}
