#include "glassformer/ops/activation.hpp"

#include <doctest/doctest.h>

#include "../support/check.hpp"
#include "glassformer/ops/reference/activation.hpp"

using namespace glassformer;
using namespace glassformer::test;
using ops::Activation;

namespace {
constexpr Activation all_activations[] = {Activation::gelu_tanh, Activation::gelu_exact, Activation::silu};
}

TEST_CASE_TEMPLATE("activations by hand", S, float, double) {
  // Values at 1 and −2 from the formulas, to 9 digits.
  const double expected[3][2] = {{0.841191991, -0.0454022884}, {0.841344746, -0.0455002639}, {0.731058579, -0.238405844}};
  for (const Kernels kernels : all_kernels) {
    for (const Activation kind : all_activations) {
      const Matrix<S> x{{1, -2, 0}};
      Matrix<S> y(1, 3);
      ops::activation_forward<S>(kind, x, y, exec_of(kernels));
      CHECK(y(0, 0) == doctest::Approx(expected[static_cast<int>(kind)][0]).epsilon(1e-6));
      CHECK(y(0, 1) == doctest::Approx(expected[static_cast<int>(kind)][1]).epsilon(2e-6));
      CHECK(y(0, 2) == 0);
    }
    const Matrix<S> x{{1, -2, 3, 10}};
    Matrix<S> y(1, 2);
    ops::swiglu_forward<S>(x, y, exec_of(kernels));
    CHECK(y(0, 0) == doctest::Approx(3 * 0.731058579).epsilon(1e-6));
    CHECK(y(0, 1) == doctest::Approx(-2.38405844).epsilon(1e-6));
  }
}

TEST_CASE("activations and SwiGLU: gradients against central differences") {
  Dice dice(31);
  const Index N = 3, F = 7;
  Matrix<double> x = dice.matrix<double>(N, F, 2), gated = dice.matrix<double>(N, 2 * F, 2);
  const Matrix<double> dy = dice.matrix<double>(N, F);
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    Matrix<double> y(N, F);
    for (const Activation kind : all_activations) {
      Block<double> dx(N, F);
      ops::activation_backward<double>(kind, x, dy, *dx, exec);
      CHECK(gradient_error(x, dx.value(), [&] {
              ops::activation_forward<double>(kind, x, y, exec);
              return y.cwiseProduct(dy).sum();
            }) < 1e-6);
      Matrix<double> in_place = dy;
      ops::activation_backward<double>(kind, x, in_place, in_place, exec);
      CHECK(same_bits(in_place, dx.value()));
    }
    Block<double> dx(N, 2 * F);
    ops::swiglu_backward<double>(gated, dy, *dx, exec);
    CHECK(gradient_error(gated, dx.value(), [&] {
            ops::swiglu_forward<double>(gated, y, exec);
            return y.cwiseProduct(dy).sum();
          }) < 1e-6);
    Matrix<double> in_place = gated;
    ops::swiglu_backward<double>(in_place, dy, in_place, exec);
    CHECK(same_bits(in_place, dx.value()));
  }
}

TEST_CASE_TEMPLATE("activations, SwiGLU, add: fused equals the formula on odd shapes; the same bits on any threads", S, float, double) {
  Dice dice(32);
  for (int trial = 0; trial < 30; ++trial) {
    const Index N = dice.between(1, 300), F = dice.between(1, 130);
    const Activation kind = all_activations[trial % 3];
    Block<S> x(dice.matrix<S>(N, F, 3)), gated(dice.matrix<S>(N, 2 * F, 3)), dy(dice.matrix<S>(N, F));
    const auto run = [&](const Exec& exec) {
      Block<S> y(N, F), dx(N, F), z(N, F), dgated(N, 2 * F), sum(dy.value());
      ops::activation_forward<S>(kind, *x, *y, exec);
      ops::activation_backward<S>(kind, *x, *dy, *dx, exec);
      ops::swiglu_forward<S>(*gated, *z, exec);
      ops::swiglu_backward<S>(*gated, *dy, *dgated, exec);
      ops::add<S>(*x, *sum, exec);
      CHECK((y.frame_intact() && dx.frame_intact() && z.frame_intact() && dgated.frame_intact() && sum.frame_intact()));
      Matrix<S> all(N, 6 * F);
      all << y.value(), dx.value(), z.value(), dgated.value(), sum.value();
      return all;
    };
    const Matrix<S> expected = run(exec_of(Kernels::reference)), found = run(Exec{});
    for (int part = 0; part < 6; ++part) {
      INFO("kind ", static_cast<int>(kind), " N ", N, " F ", F, " part ", part);
      CHECK(relative_error(expected.middleCols(part * F, F), found.middleCols(part * F, F)) < kernel_tolerance<S>());
    }
    if (trial % 10 < 3) CHECK(same_bits_on_any_threads(run));  // each kind, several times
    Block<S> in_place(x.value());
    ops::activation_forward<S>(kind, *in_place, *in_place, Exec{});
    CHECK(same_bits(in_place.value(), Matrix<S>(found.leftCols(F))));
  }
}

TEST_CASE("activations in float: each value near the formula in double, far out too") {
  const Index n = 4001;
  Matrix<float> x(1, n), y(1, n), slope(1, n);
  for (Index i = 0; i < n; ++i) x(0, i) = static_cast<float>(-100 + 0.05 * static_cast<double>(i));
  for (const Activation kind : all_activations) {
    ops::activation_forward<float>(kind, x, y, Exec{});
    ops::activation_backward<float>(kind, x, Matrix<float>::Ones(1, n), slope, Exec{});
    double worst = 0, worst_slope = 0;
    for (Index i = 0; i < n; ++i) {
      const double at = static_cast<double>(x(0, i));
      // x times a factor in [0, 1] that float holds to about 1e-7 (absolutely, not relatively).
      worst = std::max(worst, std::abs(static_cast<double>(y(0, i)) - ops::reference::activation(kind, at)) / std::max(1.0, std::abs(at)));
      worst_slope = std::max(worst_slope, std::abs(static_cast<double>(slope(0, i)) - ops::reference::activation_derivative(kind, at)));
    }
    INFO("kind ", static_cast<int>(kind));
    CHECK(worst < 5e-7);
    CHECK(worst_slope < 3e-6);
    CHECK((y.allFinite() && slope.allFinite()));

    const Matrix<float> far{{-1e13F, -1e10F, -3e4F, -150, 150, 1e10F, std::numeric_limits<float>::quiet_NaN()}};  // the factor is 0 or 1 there
    Matrix<float> far_y(1, 7), far_slope(1, 7);
    ops::activation_forward<float>(kind, far, far_y, Exec{});
    ops::activation_backward<float>(kind, far, Matrix<float>::Ones(1, 7), far_slope, Exec{});
    for (Index i = 0; i < 6; ++i) {
      CHECK(far_y(0, i) == (far(0, i) > 0 ? far(0, i) : 0));
      CHECK(far_slope(0, i) == (far(0, i) > 0 ? 1 : 0));
    }
    CHECK((std::isnan(far_y(0, 6)) && std::isnan(far_slope(0, 6))));
  }
}

TEST_CASE_TEMPLATE("dropout: draws by element number, keeps the mean, is its own backward pass", S, float, double) {
  Dice dice(33);
  const Index N = 211, F = 97;
  const ops::Dropout dropout{0.3, RandomStream{5, 6}};
  const Matrix<S> x = dice.matrix<S>(N, F);
  for (const Kernels kernels : all_kernels) {
    Block<S> y(x);
    ops::dropout_apply<S>(dropout, *y, exec_of(kernels));
    const Matrix<S> value = y.value();
    CHECK(y.frame_intact());
    Index kept = 0;
    double error = 0;
    for (Index n = 0; n < N; ++n) {
      for (Index f = 0; f < F; ++f) {
        const bool keeps = ops::dropout_keeps(dropout, n * F + f);
        kept += keeps;
        error = std::max(error, std::abs(static_cast<double>(value(n, f)) - (keeps ? static_cast<double>(x(n, f)) / 0.7 : 0.0)));
      }
    }
    CHECK(error < 1e-6);
    const double n = static_cast<double>(N * F);
    CHECK(std::abs(static_cast<double>(kept) - 0.7 * n) < 4 * std::sqrt(0.21 * n));
    Matrix<S> untouched = x;
    ops::dropout_apply<S>(ops::Dropout{}, untouched, exec_of(kernels));
    CHECK(same_bits(untouched, x));
  }
  CHECK(same_bits_on_any_threads([&](const Exec& exec) {
    Matrix<S> y = x;
    ops::dropout_apply<S>(dropout, y, exec);
    return y;
  }));
}

TEST_CASE("activations name shapes that do not fit") {
  Matrix<double> x = Matrix<double>::Ones(2, 4), y(2, 3), half(2, 2);
  half.setOnes();
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    CHECK_THROWS_AS(ops::activation_forward<double>(Activation::silu, x, y, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::activation_backward<double>(Activation::silu, x, y, x, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::activation_backward<double>(Activation::silu, x, x, y, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::swiglu_forward<double>(x, y, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::swiglu_backward<double>(x, y, x, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::swiglu_backward<double>(x, half, y, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::add<double>(x, y, exec), std::invalid_argument);
  }
}
