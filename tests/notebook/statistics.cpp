#include "glassformer/notebook/statistics.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "glassformer/core/random.hpp"

using namespace glassformer;

TEST_CASE("the upper tail of chi square") {
  // Quantiles of printed tables (Abramowitz, Stegun 1964, table 26.8).
  CHECK(chi_square_upper(3.841458821, 1) == doctest::Approx(0.05).epsilon(1e-8));
  CHECK(chi_square_upper(18.30703805, 10) == doctest::Approx(0.05).epsilon(1e-8));
  CHECK(chi_square_upper(149.4492528, 100) == doctest::Approx(0.001).epsilon(1e-6));
  for (const double x : {0.1, 1.0, 2.5, 7.0, 40.0}) CHECK(chi_square_upper(x, 2) == doctest::Approx(std::exp(-x / 2)).epsilon(1e-12));  // two degrees: exact
  for (const double x : {0.1, 1.0, 2.5, 7.0, 40.0}) CHECK(chi_square_upper(x, 1) == doctest::Approx(std::erfc(std::sqrt(x / 2))).epsilon(1e-10));
  CHECK(chi_square_upper(0, 5) == 1);
  CHECK(chi_square_upper(INFINITY, 5) == 0);
  CHECK_THROWS_AS(chi_square_upper(1, 0), std::invalid_argument);
}

TEST_CASE("counts against probabilities") {
  const std::array<Index, 2> counts{60, 40};
  const auto fair = chi_square_test(counts, std::array{0.5, 0.5});
  CHECK(fair.statistic == doctest::Approx(4.0));
  CHECK(fair.degrees == 1);
  CHECK(fair.p == doctest::Approx(std::erfc(std::sqrt(2.0))));
  CHECK(chi_square_test(std::array<Index, 3>{50, 49, 1}, std::array{0.5, 0.5, 0.0}).p == 0);        // what cannot happen happened
  CHECK(chi_square_test(std::array<Index, 4>{50, 46, 2, 2}, std::array{0.5, 0.46, 0.02, 0.02}).degrees == 1);  // rare cells joined to the next
  CHECK_THROWS_AS(chi_square_test(counts, std::array{0.5, 0.6}), std::invalid_argument);
  CHECK_THROWS_AS(chi_square_test(counts, std::array{1.0}), std::invalid_argument);
}

TEST_CASE("p is uniform where the distribution is right") {
  const std::vector<double> probability{0.4, 0.3, 0.2, 0.1};
  int below = 0;
  for (std::uint64_t run = 0; run < 400; ++run) {
    std::vector<Index> counts(4, 0);
    for (std::uint64_t i = 0; i < 500; ++i) {
      const double u = random_uniform(RandomStream{run}, i);
      ++counts[u < 0.4 ? 0 : u < 0.7 ? 1 : u < 0.9 ? 2 : 3];
    }
    below += chi_square_test(counts, probability).p < 0.1;
  }
  CHECK(below > 40 - 24);  // 400 runs: 40 ± 6
  CHECK(below < 40 + 24);
}

TEST_CASE("mean and its error") {
  const Mean m = mean_with_error(std::array{1.0, 2.0, 3.0, 4.0});
  CHECK(m.mean == 2.5);
  CHECK(m.standard_error == doctest::Approx(std::sqrt(5.0 / 3 / 4)));
  CHECK_THROWS_AS(mean_with_error(std::array{1.0}), std::invalid_argument);
}
