#include "glassformer/notebook/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer {

Mean mean_with_error(std::span<const double> values) {
  require(values.size() >= 2, "mean: expected two values or more, found {}", values.size());
  const double n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double x : values) squares += (x - mean) * (x - mean);
  return {mean, std::sqrt(squares / (n - 1) / n)};
}

double chi_square_upper(double statistic, Index degrees) {
  require(degrees >= 1, "chi square: expected one degree of freedom or more, found {}", degrees);
  require(statistic >= 0, "chi square: expected a statistic of zero or more, found {}", statistic);
  if (std::isinf(statistic)) return 0;
  const double a = static_cast<double>(degrees) / 2, x = statistic / 2;
  if (x == 0) return 1;
  const double front = std::exp(a * std::log(x) - x - std::lgamma(a));  // xᵃ·e⁻ˣ/Γ(a)
  if (x < a + 1) {                                                      // P = front·Σ xⁿ/(a(a+1)…(a+n)), DLMF 8.11.4
    double term = 1 / a, sum = term;
    for (double n = 1; term > sum * 1e-17; ++n) sum += term *= x / (a + n);
    return std::max(0.0, 1 - front * sum);
  }
  // Q = front/(x+1−a − 1(1−a)/(x+3−a − 2(2−a)/(x+5−a − …))), DLMF 8.9.2, by Lentz's method (1976)
  constexpr double tiny = std::numeric_limits<double>::min() / std::numeric_limits<double>::epsilon();
  double b = x + 1 - a, c = 1 / tiny, d = 1 / b, fraction = d;
  for (double n = 1; n < 1e6; ++n) {
    const double coefficient = -n * (n - a);
    b += 2;
    d = coefficient * d + b, c = b + coefficient / c;
    if (std::abs(d) < tiny) d = tiny;
    if (std::abs(c) < tiny) c = tiny;
    d = 1 / d;
    fraction *= d * c;
    if (std::abs(d * c - 1) < 1e-15) break;
  }
  return std::min(1.0, front * fraction);
}

ChiSquare chi_square_test(std::span<const Index> counts, std::span<const double> probability) {
  require(counts.size() == probability.size(), "chi square: expected as many counts as probabilities, found {} and {}", counts.size(), probability.size());
  const double all = static_cast<double>(std::accumulate(counts.begin(), counts.end(), Index(0)));
  const double sum = std::accumulate(probability.begin(), probability.end(), 0.0);
  require(std::abs(sum - 1) < 1e-6, "chi square: expected probabilities that sum to 1, found {}", sum);
  std::vector<std::size_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return probability[a] < probability[b]; });
  ChiSquare result;
  double observed = 0, expected = 0;
  std::vector<std::pair<double, double>> cells;
  for (const std::size_t i : order) {
    if (probability[i] == 0) {
      if (counts[i] > 0) return {std::numeric_limits<double>::infinity(), static_cast<Index>(counts.size()) - 1, 0};
      continue;
    }
    observed += static_cast<double>(counts[i]), expected += all * probability[i];
    if (expected >= 5) cells.emplace_back(observed, expected), observed = expected = 0;
  }
  if (expected > 0 && !cells.empty()) cells.back().first += observed, cells.back().second += expected;
  require(cells.size() >= 2, "chi square: expected two cells of an expected count of 5 or more, found {}", cells.size());
  for (const auto& [o, e] : cells) result.statistic += (o - e) * (o - e) / e;
  result.degrees = static_cast<Index>(cells.size()) - 1;
  result.p = chi_square_upper(result.statistic, result.degrees);
  return result;
}

}  // namespace glassformer
