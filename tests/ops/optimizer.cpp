#include "glassformer/ops/optimizer.hpp"

#include <doctest/doctest.h>

#include <Eigen/Eigenvalues>

#include "../support/check.hpp"

using namespace glassformer;
using namespace glassformer::test;

namespace {

template <class S>
Eigen::Map<Matrix<S>> as_row(std::vector<S>& x) {
  return {x.data(), 1, static_cast<Index>(x.size())};
}

// Singular values, ascending, by the eigenvalues of the smaller Gram matrix in double.
template <class S>
Vector<double> singular_values(const Matrix<S>& x) {
  Matrix<double> m = x.template cast<double>();
  if (m.rows() > m.cols()) m.transposeInPlace();
  const Eigen::SelfAdjointEigenSolver<Matrix<double>> solver(m * m.transpose(), Eigen::EigenvaluesOnly);
  return solver.eigenvalues().cwiseMax(0).cwiseSqrt().transpose();
}

// What each singular value goes through: σ ← aσ + bσ³ + cσ⁵.
double newton_schulz_of(double sigma, int iterations) {
  for (int i = 0; i < iterations; ++i) sigma = 3.4445 * sigma - 4.775 * std::pow(sigma, 3) + 2.0315 * std::pow(sigma, 5);
  return sigma;
}

}  // namespace

TEST_CASE_TEMPLATE("AdamW: two steps by hand", S, float, double) {
  // θ = 1, η = 0.1, β = (0.9, 0.99), λ = 0.01, ε negligible; gradients 0.5, then 0.25 (given as twice that, scaled by 0.5).
  //   step 1: m = 0.05, v = 0.0025, m̂ = 0.5, v̂ = 0.25: θ = 1 − 0.1·(0.01·1 + 1) = 0.899
  //   step 2: m = 0.07, v = 0.0031, m̂ = 0.07/0.19, v̂ = 0.0031/0.0199: m̂/√v̂ = 0.93344…, θ = 0.899 − 0.1·(0.00899 + 0.93344…)
  const double second = 0.899 - 0.1 * (0.00899 + (0.07 / 0.19) / std::sqrt(0.0031 / 0.0199));
  for (const Kernels kernels : all_kernels) {
    ops::AdamwStep step;
    step.rate = 0.1, step.beta1 = 0.9, step.beta2 = 0.99, step.epsilon = 1e-12, step.decay = 0.01, step.gradient_scale = 0.5;
    std::vector<S> theta(37, S(1)), gradient(37, S(1)), m(37, S(0)), v(37, S(0));
    ops::adamw_update<S>(step, theta, gradient, m, v, exec_of(kernels));
    for (const S x : theta) CHECK(x == doctest::Approx(0.899).epsilon(1e-6));
    for (const S x : m) CHECK(x == doctest::Approx(0.05).epsilon(1e-6));
    for (const S x : v) CHECK(x == doctest::Approx(0.0025).epsilon(1e-5));
    gradient.assign(37, S(0.5));
    step.step = 2;
    ops::adamw_update<S>(step, theta, gradient, m, v, exec_of(kernels));
    for (const S x : theta) CHECK(x == doctest::Approx(second).epsilon(1e-6));
    CHECK(second == doctest::Approx(0.804757).epsilon(1e-5));
  }
}

TEST_CASE_TEMPLATE("AdamW on stretches: each as by a call of its own, with its decay; what lies between them stays", S, float, double) {
  const Index n = 50000;
  const std::vector<ops::AdamwStretch> stretches = {{0, 16, true}, {16, 48, false}, {48, 33000, true}, {33040, 49000, false}};
  Dice dice(63);
  const Matrix<S> theta0 = dice.matrix<S>(1, n), gradient0 = dice.matrix<S>(1, n);
  const std::vector<S> gradient(gradient0.data(), gradient0.data() + n);
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    std::vector<S> theta(theta0.data(), theta0.data() + n), m(gradient), v(gradient.size(), S(0.5));
    std::vector<S> expected = theta, expected_m = m, expected_v = v;
    ops::AdamwStep step;
    step.decay = 0.1, step.rate = 0.05, step.step = 3;
    ops::adamw_update<S>(step, stretches, theta, gradient, m, v, exec);
    for (const auto& [begin, end, decays] : stretches) {
      const auto at = static_cast<std::size_t>(begin), length = static_cast<std::size_t>(end - begin);
      const auto part = [&](auto& x) { return std::span(x).subspan(at, length); };
      step.decay = decays ? 0.1 : 0;
      ops::adamw_update<S>(step, part(expected), part(gradient), part(expected_m), part(expected_v), exec);
    }
    CHECK((theta == expected && m == expected_m && v == expected_v));
    CHECK(theta[33020] == theta0(0, 33020));
    CHECK(theta[33039] == theta0(0, 33039));
  }
  std::vector<S> theta(50), m(50), v(50), g(50);
  CHECK_THROWS_AS(ops::adamw_update<S>({}, std::vector<ops::AdamwStretch>{{0, 51, true}}, theta, g, m, v, Exec{}), std::invalid_argument);
  CHECK_THROWS_AS(ops::adamw_update<S>({}, std::vector<ops::AdamwStretch>{{8, 16, true}, {0, 8, true}}, theta, g, m, v, Exec{}), std::invalid_argument);
}

TEST_CASE_TEMPLATE("AdamW, sum of squares: fused equals the formula; the same bits on any threads", S, float, double) {
  Dice dice(61);
  for (const Index n : {1, 7, 16, 1000, 70001}) {
    const Matrix<S> theta0 = dice.matrix<S>(1, n), gradient0 = dice.matrix<S>(1, n), m0 = dice.matrix<S>(1, n),
                    v0 = dice.matrix<S>(1, n).cwiseAbs();
    const std::vector<S> gradient(gradient0.data(), gradient0.data() + n);
    ops::AdamwStep step;
    step.decay = 0.1, step.step = 17, step.gradient_scale = 0.37, step.rate = 0.05;
    const auto run = [&](const Exec& exec) {
      std::vector<S> theta(theta0.data(), theta0.data() + n), m(m0.data(), m0.data() + n), v(v0.data(), v0.data() + n);
      ops::adamw_update<S>(step, theta, gradient, m, v, exec);
      Matrix<double> all(4, n);
      all << as_row(theta).template cast<double>(), as_row(m).template cast<double>(), as_row(v).template cast<double>(),
          Matrix<double>::Constant(1, n, ops::sum_of_squares<S>(gradient, exec));
      return all;
    };
    const Matrix<double> expected = run(exec_of(Kernels::reference)), found = run(Exec{});
    for (Index part = 0; part < 4; ++part) {
      INFO("n ", n, " part ", part);
      CHECK(relative_error(expected.row(part), found.row(part)) < kernel_tolerance<S>());
    }
    CHECK(std::abs(expected(3, 0) - found(3, 0)) <= 1e-12 * expected(3, 0));  // the sum is in double for float too
    CHECK(same_bits_on_any_threads(run));
  }
  const std::vector<S> values{1, 2, 3, S(-4)};
  CHECK(ops::sum_of_squares<S>(values, Exec{}) == 30);
}

TEST_CASE_TEMPLATE("Newton-Schulz: every singular value follows its polynomial", S, float, double) {
  Dice dice(62);
  const Index shapes[][2] = {{3, 3}, {1, 9}, {9, 1}, {24, 24}, {20, 50}, {64, 16}, {17, 130}, {130, 33}};
  for (const auto& [rows, cols] : shapes) {
    for (const Kernels kernels : all_kernels) {
      const Matrix<S> before = dice.matrix<S>(rows, cols);
      Block<S> x(before);
      ops::newton_schulz<S>(*x, 5, exec_of(kernels));
      CHECK(x.frame_intact());
      Vector<double> expected = singular_values(before) / static_cast<double>(before.norm());
      for (double& sigma : expected) sigma = newton_schulz_of(sigma, 5);
      std::sort(expected.begin(), expected.end());
      INFO("rows ", rows, " cols ", cols, " kernels ", static_cast<int>(kernels));
      CHECK(relative_error(expected, singular_values<S>(x.value())) <
            100 * kernel_tolerance<S>());  // five steps, each up to 3.4 times the error
    }
  }
}

TEST_CASE_TEMPLATE("Newton-Schulz: singular values end near 1", S, float, double) {
  Dice dice(63);
  const Index shapes[][2] = {{64, 256}, {256, 64}, {96, 32}, {32, 96}, {30, 45}, {1, 50}, {128, 384}};
  for (const auto& [rows, cols] : shapes) {
    Matrix<S> x = dice.matrix<S>(rows, cols, 1e-4);  // gradients are small; only the direction counts
    ops::newton_schulz<S>(x, 5, Exec{});
    const Vector<double> sigma = singular_values(x);
    INFO("rows ", rows, " cols ", cols);
    CHECK(sigma.minCoeff() > 0.68);
    CHECK(sigma.maxCoeff() < 1.25);
  }
  Matrix<S> zero = Matrix<S>::Zero(4, 6);
  for (const Kernels kernels : all_kernels) {
    ops::newton_schulz<S>(zero, 5, exec_of(kernels));
    CHECK(zero.isZero(0));  // and no NaN
  }
}

TEST_CASE_TEMPLATE("Muon by hand: a diagonal matrix", S, float, double) {
  // g = diag(3, 4)·1/2·2, m = 0: u's direction is diag(3, 4)/5, so its entries are the polynomial at 0.6 and 0.8.
  for (const Kernels kernels : all_kernels) {
    Matrix<S> theta = Matrix<S>::Identity(2, 2), gradient{{6, 0}, {0, 8}}, m = Matrix<S>::Zero(2, 2);
    ops::MuonStep step;
    step.rate = 0.1, step.decay = 0.5, step.gradient_scale = 0.5;
    ops::muon_update<S>(step, view(theta), view(gradient), view(m), exec_of(kernels));
    CHECK(theta(0, 0) == doctest::Approx(0.95 - 0.1 * newton_schulz_of(0.6, 5)).epsilon(1e-5));
    CHECK(theta(1, 1) == doctest::Approx(0.95 - 0.1 * newton_schulz_of(0.8, 5)).epsilon(1e-5));
    CHECK(std::abs(theta(0, 1)) < 1e-6);
    CHECK(m(0, 0) == doctest::Approx(0.15));
    CHECK(m(1, 1) == doctest::Approx(0.2));
    // Tall: one column's direction is itself, its length √(rows/columns)·polynomial(1).
    Matrix<S> tall = Matrix<S>::Zero(4, 1), tall_gradient{{3}, {0}, {4}, {0}}, tall_m = Matrix<S>::Zero(4, 1);
    ops::muon_update<S>({.rate = 0.1}, view(tall), view(tall_gradient), view(tall_m), exec_of(kernels));
    CHECK(tall(0, 0) == doctest::Approx(-0.1 * 2 * 0.6 * newton_schulz_of(1, 5)).epsilon(1e-5));
    CHECK(tall(2, 0) == doctest::Approx(-0.1 * 2 * 0.8 * newton_schulz_of(1, 5)).epsilon(1e-5));
  }
}

TEST_CASE_TEMPLATE("Muon: fused equals the formula; the same bits on any threads", S, float, double) {
  Dice dice(64);
  const Index shapes[][2] = {{33, 70}, {130, 40}, {48, 48}, {300, 130}};
  for (const auto& [rows, cols] : shapes) {
    const Matrix<S> theta0 = dice.matrix<S>(rows, cols), m0 = dice.matrix<S>(rows, cols);
    Matrix<S> gradient = dice.matrix<S>(rows, cols);
    const auto run = [&](const Exec& exec) {
      Matrix<S> theta = theta0, m = m0, all(2 * rows, cols);
      ops::MuonStep step;
      step.decay = 0.1, step.gradient_scale = 0.7;
      ops::muon_update<S>(step, view(theta), view(gradient), view(m), exec);
      all << (theta - theta0), m;
      return all;
    };
    const Matrix<S> expected = run(exec_of(Kernels::reference)), found = run(Exec{});
    INFO("rows ", rows, " cols ", cols);
    CHECK(relative_error(expected.topRows(rows), found.topRows(rows)) < 100 * kernel_tolerance<S>());
    CHECK(relative_error(expected.bottomRows(rows), found.bottomRows(rows)) < kernel_tolerance<S>());
    CHECK(same_bits_on_any_threads(run));
  }
}

TEST_CASE("optimizer updates name sizes that do not fit") {
  std::vector<double> two(2), three(3);
  Matrix<double> a = Matrix<double>::Ones(2, 3), b = Matrix<double>::Ones(3, 2);
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    CHECK_THROWS_AS(ops::adamw_update<double>({}, two, three, two, two, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::adamw_update<double>({}, two, two, three, two, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::adamw_update<double>({}, two, two, two, three, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::muon_update<double>({}, view(a), view(b), view(a), exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::muon_update<double>({}, view(a), view(a), view(b), exec), std::invalid_argument);
  }
}
