#include "glassformer/sample/filters.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

#include "glassformer/core/random.hpp"

using namespace glassformer;

namespace {

std::vector<float> logs(const std::vector<double>& weights) {
  std::vector<float> z;
  for (const double w : weights) z.push_back(static_cast<float>(std::log(w)));
  return z;
}

void check_equal(const Distribution& d, const std::vector<Token>& ids, const std::vector<double>& probability) {
  REQUIRE(d.ids == ids);
  for (std::size_t i = 0; i < ids.size(); ++i) CHECK(d.probability[i] == doctest::Approx(probability[i]).epsilon(1e-6));
}

std::string message(const SamplingOptions& o, const std::vector<float>& logits = {0, 1}, const std::vector<Token>& text = {}) {
  try {
    sampling_distribution(logits, text, o);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

// Σ (observed − expected)²/expected of n draws from `drawn`, against `expected`.
double chi_squared(const Distribution& drawn, const Distribution& expected, int n) {
  std::map<Token, int> count;
  for (int i = 0; i < n; ++i) ++count[draw(drawn, random_uniform(RandomStream{5}.at("chi"), static_cast<std::uint64_t>(i)))];
  double sum = 0;
  for (std::size_t i = 0; i < expected.ids.size(); ++i) {
    const double e = expected.probability[i] * n, o = count[expected.ids[i]];
    sum += (o - e) * (o - e) / e;
  }
  return sum;
}

}  // namespace

TEST_CASE("each filter by hand") {
  const std::vector<float> z = logs({1, 2, 5, 2});  // p = .1 .2 .5 .2
  check_equal(sampling_distribution(z, {}, {.temperature = 1}), {0, 1, 2, 3}, {.1, .2, .5, .2});
  check_equal(sampling_distribution(z, {}, {.temperature = 0.5}), {0, 1, 2, 3}, {1 / 34., 4 / 34., 25 / 34., 4 / 34.});
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .top_k = 2}), {1, 2}, {2 / 7., 5 / 7.});  // of equal 1 and 3, the lower id
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .top_k = 9}), {0, 1, 2, 3}, {.1, .2, .5, .2});
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .top_p = 0.45}), {2}, {1});  // the first that reaches it stays
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .top_p = 0.6}), {1, 2}, {2 / 7., 5 / 7.});
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .top_p = 0.8}), {1, 2, 3}, {2 / 9., 5 / 9., 2 / 9.});
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .min_p = 0.3}), {1, 2, 3}, {2 / 9., 5 / 9., 2 / 9.});
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .min_p = 1}), {2}, {1});
  // top-p is of what top-k left: 5/7 ≥ 0.7, though 5/10 < 0.7
  check_equal(sampling_distribution(z, {}, {.temperature = 1, .top_k = 2, .top_p = 0.7}), {2}, {1});
  // min-p comes after temperature: (2/5)² < 0.3
  check_equal(sampling_distribution(z, {}, {.temperature = 0.5, .min_p = 0.3}), {2}, {1});
}

TEST_CASE("the repetition penalty divides positive logits and multiplies negative ones, once a token") {
  const std::vector<float> z{2, -1, 1, 0};
  const std::vector<Token> text{0, 1, 0, 0};
  const double a = std::exp(1.0), b = std::exp(-2.0), c = std::exp(1.0), d = 1, sum = a + b + c + d;
  check_equal(sampling_distribution(z, text, {.temperature = 1, .repetition_penalty = 2}), {0, 1, 2, 3},
              {a / sum, b / sum, c / sum, d / sum});
  // Greedy too: 2/2.5 falls below 1.
  check_equal(sampling_distribution(z, text, {.temperature = 0, .repetition_penalty = 2.5}), {2}, {1});
}

TEST_CASE("greedy is the best token, the lowest id of equal ones; so is the limit of small temperatures") {
  check_equal(sampling_distribution(std::vector<float>{1, 3, 3, 2}, {}, {.temperature = 0}), {1}, {1});
  check_equal(sampling_distribution(std::vector<float>{-5, -4, -3, -3}, {}, {.temperature = 0}), {2}, {1});
  const Distribution d = sampling_distribution(std::vector<float>{1, 3, 2.9f}, {}, {.temperature = 1e-300});
  check_equal(d, {0, 1, 2}, {0, 1, 0});
}

TEST_CASE("the stages are distributions, in their order, and the last is the result") {
  const std::vector<float> z = logs({1, 2, 5, 2});
  const SamplingOptions o{.temperature = 0.5, .top_k = 3, .top_p = 0.9, .min_p = 0.5, .repetition_penalty = 1.5};
  std::vector<SamplingStage> stages;
  const Distribution d = sampling_distribution(z, std::vector<Token>{3}, o, &stages);
  std::vector<std::string> names;
  for (const SamplingStage& s : stages) {
    names.push_back(s.name);
    double sum = 0;
    for (const double p : s.after.probability) sum += p;
    CHECK(sum == doctest::Approx(1).epsilon(1e-12));
  }
  CHECK(names == std::vector<std::string>{"softmax", "repetition penalty", "temperature", "top-k", "top-p", "min-p"});
  check_equal(stages[0].after, {0, 1, 2, 3}, {.1, .2, .5, .2});
  CHECK(stages[3].after.ids == std::vector<Token>{1, 2, 3});
  CHECK(stages[4].after.ids == std::vector<Token>{1, 2});
  CHECK(stages[5].after.ids == std::vector<Token>{2});
  check_equal(d, stages[5].after.ids, stages[5].after.probability);
}

TEST_CASE("top-k and top-p on a large vocabulary agree with sorting it all") {
  const Index V = 5000;
  for (const double spread : {0.01, 1.0, 4.0}) {
    std::vector<float> z;
    for (Index i = 0; i < V; ++i)
      z.push_back(std::round(static_cast<float>(spread * random_normal({3}, static_cast<std::uint64_t>(i))) * 64) / 64);  // with ties
    std::vector<std::pair<double, Token>> sorted;
    double total = 0;
    for (Index i = 0; i < V; ++i) {
      sorted.push_back({-std::exp(static_cast<double>(z[static_cast<std::size_t>(i)])), static_cast<Token>(i)});
      total -= sorted.back().first;
    }
    std::sort(sorted.begin(), sorted.end());
    for (const double p : {0.003, 0.5, 0.95, 0.9999}) {
      std::vector<Token> expected;
      double mass = 0;
      for (const auto& [w, id] : sorted) {
        if (mass >= p * total) break;
        mass -= w;
        expected.push_back(id);
      }
      std::sort(expected.begin(), expected.end());
      CHECK(sampling_distribution(z, {}, {.temperature = 1, .top_p = p}).ids == expected);
    }
    for (const std::size_t k : {1, 7, 100, 4999}) {
      std::vector<Token> expected;
      for (std::size_t i = 0; i < k; ++i) expected.push_back(sorted[i].second);
      std::sort(expected.begin(), expected.end());
      CHECK(sampling_distribution(z, {}, {.temperature = 1, .top_k = static_cast<Index>(k)}).ids == expected);
    }
  }
}

TEST_CASE("draws follow the distribution: chi-squared of 20,000, and 1.1 times the temperature is told apart") {
  const std::vector<float> z{0, 1, -1, 2, 0.5f, -0.5f, 1.5f, 0.25f};
  const double critical = 24.322;  // χ² of 7 degrees of freedom is above with probability 0.001
  const Distribution d = sampling_distribution(z, {}, {.temperature = 0.9});
  CHECK(chi_squared(d, d, 20000) < critical);
  CHECK(chi_squared(sampling_distribution(z, {}, {.temperature = 0.99}), d, 20000) > critical);
  CHECK(chi_squared(sampling_distribution(z, {}, {.temperature = 0.9, .top_k = 7}), d, 20000) > critical);
}

TEST_CASE("draw walks the cumulated distribution and never takes what cannot be") {
  const Distribution d{{3, 5, 8, 9}, {0.25, 0.0, 0.75, 0.0}};
  CHECK(draw(d, 0) == 3);
  CHECK(draw(d, 0.2499) == 3);
  CHECK(draw(d, 0.25) == 8);
  CHECK(draw(d, std::nextafter(1.0, 0.0)) == 8);
  CHECK(draw({{4, 6}, {0.5, 0.4999}}, 0.99995) == 6);  // rounding left the sum below 1
  CHECK_THROWS_AS(draw(d, 1), std::invalid_argument);
  CHECK_THROWS_AS(draw({}, 0), std::invalid_argument);
}

TEST_CASE("what cannot be sampled is said in one sentence") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(message({.temperature = -1}).find("temperature: expected 0 (greedy) or more, found -1") == 0);
  CHECK(message({.temperature = nan}).find("temperature") == 0);
  CHECK(message({.top_k = -1}).find("top-k") == 0);
  CHECK(message({.top_p = 0}).find("top-p") == 0);
  CHECK(message({.top_p = 1.01}).find("top-p") == 0);
  CHECK(message({.min_p = -0.1}).find("min-p") == 0);
  CHECK(message({.min_p = 1.1}).find("min-p") == 0);
  CHECK(message({.repetition_penalty = 0}).find("repetition penalty") == 0);
  for (const double temperature : {0.0, 1.0}) {
    CHECK(message({.temperature = temperature}, {0, nan, 1}).find("logit of token 1 is nan") != std::string::npos);
    CHECK(message({.temperature = temperature}, {0, 1, inf}).find("logit of token 2 is inf") != std::string::npos);
    CHECK(message({.temperature = temperature}, {-inf, -inf}).find("at least one token") != std::string::npos);
    CHECK(message({.temperature = temperature}, {}).find("at least one token") != std::string::npos);
    CHECK(message({.temperature = temperature}, {0, 1}, {2}).find("token 2 of the text is outside the vocabulary of 2") !=
          std::string::npos);
  }
  // −∞ forbids a token, and that is all.
  check_equal(sampling_distribution(std::vector<float>{0, -inf, 0}, {}, {.temperature = 1}), {0, 1, 2}, {.5, 0, .5});
  CHECK(message({.temperature = 1, .top_k = 1, .top_p = 0.5, .min_p = 1, .repetition_penalty = 1.1}, {0, -inf, 0}, {0, 1}).empty());
}
