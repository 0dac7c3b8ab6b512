#include "glassformer/position/position.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <numbers>

#include "../support/check.hpp"

using namespace glassformer;
using namespace glassformer::test;

TEST_CASE_TEMPLATE("sinusoidal encoding by hand", S, float, double) {
  Matrix<S> y(1, 4);
  sinusoidal_encoding<S>(0, y);
  CHECK(y == Matrix<S>{{0, 1, 0, 1}});
  sinusoidal_encoding<S>(3, y);  // angles 3 and 3/100
  CHECK(relative_error(y, Matrix<double>{{0.14112000806, -0.98999249660, 0.02999550020, 0.99955003375}}) < 1e-7);
  Matrix<S> odd(1, 5);  // the last sine has no cosine beside it
  sinusoidal_encoding<S>(7, odd);
  CHECK(odd(0, 4) == doctest::Approx(std::sin(7 * std::pow(10000.0, -0.8))));
}

TEST_CASE("RoPE's frequencies by hand") {
  const std::vector<double> theta = rope_frequencies(4, 10000);
  REQUIRE(theta.size() == 2);
  CHECK(theta[0] == 1);
  CHECK(theta[1] == doctest::Approx(0.01));
  CHECK_THROWS_AS(rope_frequencies(3, 10000), std::invalid_argument);
  CHECK_THROWS_AS(rope_frequencies(0, 10000), std::invalid_argument);
}

namespace {

constexpr RopeScaling kScalings[] = {RopeScaling::linear, RopeScaling::ntk, RopeScaling::yarn, RopeScaling::yarn_pairs};

void check_close(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-12));
}

}  // namespace

TEST_CASE("scalings of RoPE by hand: D 8, base 10000, so θ = 1, 0.1, 0.01, 0.001; s 4, L 512") {
  check_close(rope_frequencies(8, 10000, {RopeScaling::linear, 4}), {0.25, 0.025, 0.0025, 0.00025});
  // b' = 10000·4^(8/6), so θ'_i = θ_i·4^(−i/3): the first as it was, the last as interpolated.
  check_close(rope_frequencies(8, 10000, {RopeScaling::ntk, 4}), {1, 0.1 * std::pow(4, -1.0 / 3), 0.01 * std::pow(4, -2.0 / 3), 0.00025});
  // Turns in 512: 81.5, 8.149, 0.815, 0.081. γ = 1, (8.149 − 1)/31 = 0.2306, 0, 0; θ'_1 = 0.1·((1 − 0.2306)/4 + 0.2306)
  check_close(rope_frequencies(8, 10000, {RopeScaling::yarn, 4, 512}), {1, 0.042295321982996, 0.0025, 0.00025});
  // 32 turns at pair log₁₀(512/64π) = 0.406, down to 0; one at log₁₀(512/2π) = 1.911, up to 2: γ = 1, 1/2, 0, 0
  check_close(rope_frequencies(8, 10000, {RopeScaling::yarn_pairs, 4, 512}), {1, 0.0625, 0.0025, 0.00025});
  CHECK(rope_length({RopeScaling::yarn, 4, 512}) == doctest::Approx(1.1386294361).epsilon(1e-10));  // 0.1·ln 4 + 1
  CHECK(rope_length({RopeScaling::yarn_pairs, 4, 512}) == rope_length({RopeScaling::yarn, 4, 512}));
  CHECK(rope_length({RopeScaling::linear, 4}) == 1);
  CHECK(rope_length({RopeScaling::ntk, 4}) == 1);
}

TEST_CASE("YaRN: above 32 turns unchanged, below one interpolated, to the bit; in a short context only the paper's ramp slows every pair") {
  const Index D = 64, L = 4096;
  const std::vector<double> theta = rope_frequencies(D, 10000);
  Index fast = 0, slow = 0;
  for (const RopeScaling scaling : {RopeScaling::yarn, RopeScaling::yarn_pairs}) {
    const std::vector<double> scaled = rope_frequencies(D, 10000, {scaling, 8, L});
    for (std::size_t i = 0; i < theta.size(); ++i) {
      const double turns = static_cast<double>(L) * theta[i] / (2 * std::numbers::pi);
      if (turns >= 32) {
        ++fast;
        CHECK(scaled[i] == theta[i]);
      } else if (turns <= 1) {
        ++slow;
        CHECK(scaled[i] == theta[i] / 8);
      } else {
        CHECK(scaled[i] > theta[i] / 8);
        CHECK(scaled[i] <= theta[i]);  // the pairs' ramp begins at a whole pair
      }
    }
  }
  CHECK(fast == 2 * 11);  // pairs 0 … 10: 4096·10^(−i/8)/2π ≥ 32 up to i = 10.47
  CHECK(slow == 2 * 9);   // pairs 23 … 31: one turn at i = 22.5
  // Three pairs of that model's ramp, worked out with 30 digits.
  CHECK(rope_frequencies(D, 10000, {RopeScaling::yarn, 8, L})[16] == doctest::Approx(0.0028077784).epsilon(1e-7));
  CHECK(rope_frequencies(D, 10000, {RopeScaling::yarn_pairs, 8, L})[16] == doctest::Approx(0.0059615385).epsilon(1e-7));
  CHECK(rope_frequencies(D, 10000, {RopeScaling::yarn_pairs, 8, L})[22] == doctest::Approx(0.00034197681).epsilon(1e-7));
  CHECK(rope_frequencies(16, 10000, {RopeScaling::yarn, 4, 64})[0] == doctest::Approx(0.47223991).epsilon(1e-7));  // 10.2 turns
  CHECK(rope_frequencies(16, 10000, {RopeScaling::yarn_pairs, 4, 64})[0] == 1);
  CHECK(rope_frequencies(16, 10000, {RopeScaling::yarn_pairs, 4, 64})[1] == doctest::Approx(0.23717082).epsilon(1e-7));
}

TEST_CASE_TEMPLATE("a factor of 1 changes nothing, to the bit", S, float, double) {
  const RopeTable<S> plain = rope_table<S>(50, 16, 10000);
  for (const RopeScaling scaling : kScalings) {
    const RopeTable<S> table = rope_table<S>(50, 16, 10000, {scaling, 1, 64});
    CHECK(table.frequencies == plain.frequencies);
    CHECK(same_bits(table.cosine, plain.cosine));
    CHECK(same_bits(table.sine, plain.sine));
    CHECK_FALSE(same_bits(rope_table<S>(50, 16, 10000, {scaling, 2, 64}).sine, plain.sine));
  }
}

TEST_CASE("a scaling that makes no sense is refused in one sentence") {
  const auto message = [](Index head_dim, double base, const RopeStretch& stretch) -> std::string {
    try {
      rope_frequencies(head_dim, base, stretch);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message(8, 10000, {RopeScaling::linear, 0.5}) == "rope-factor: expected a number from 1 to 1e+06, found 0.5");
  CHECK(message(8, 10000, {RopeScaling::linear, std::numeric_limits<double>::quiet_NaN()}) == "rope-factor: expected a number from 1 to 1e+06, found nan");
  CHECK(message(8, 10000, {RopeScaling::ntk, std::numeric_limits<double>::infinity()}) == "rope-factor: expected a number from 1 to 1e+06, found inf");
  CHECK(message(8, 10000, {RopeScaling::none, 2}) == "rope-factor: expected a scaling of RoPE beside 2, found none");
  CHECK(message(2, 10000, {RopeScaling::ntk, 2}) == "NTK scaling of RoPE: expected a head width above 2, found 2");
  CHECK(message(8, 10000, {RopeScaling::yarn, 2}) == "YaRN: expected the context that the model was trained on, 1 to 16777216 tokens, found 0");
  CHECK(message(8, 1, {RopeScaling::yarn_pairs, 2, 64}) == "YaRN by pairs: expected a base of RoPE above 1, found 1");
  CHECK(message(8, 10000, {RopeScaling::yarn_pairs, 1e6, 1}).empty());
  CHECK(message(2, 10000, {RopeScaling::yarn, 2, 1 << 24}).empty());
}

TEST_CASE_TEMPLATE("scaled RoPE: a score depends on the distance only, and YaRN's is 1.139² times as large at distance 0", S, float, double) {
  Dice dice(74);
  const Index D = 16;
  const Matrix<S> q = dice.matrix<S>(1, D), k = dice.matrix<S>(1, D);
  const double size = static_cast<double>(q.norm() * k.norm());
  for (const RopeScaling scaling : kScalings) {
    const RopeStretch stretch{scaling, 4, 64};
    const RopeTable<S> table = rope_table<S>(300, D, 10000, stretch);  // places beyond it are computed directly
    const auto score = [&](Index query_place, Index key_place) {
      Matrix<S> a = q, b = k;
      rope_rotate<S>(table, std::vector<Index>{query_place}, 1, false, a, Exec{});
      rope_rotate<S>(table, std::vector<Index>{key_place}, 1, false, b, Exec{});
      return static_cast<double>(a.row(0).dot(b.row(0)));
    };
    for (const Index distance : {0, 1, 7, 100}) {
      for (const Index shift : {1, 50, 499}) CHECK(std::abs(score(distance + shift, shift) - score(distance, 0)) < (std::is_same_v<S, float> ? 1e-5 : 1e-12) * size);
    }
    const double length = is_yarn(stretch) ? 0.1 * std::log(4.0) + 1 : 1;
    CHECK(score(5, 5) == doctest::Approx(length * length * static_cast<double>(q.row(0).dot(k.row(0)))).epsilon(1e-5));
    CHECK(std::abs(score(7, 0) - score(60, 0)) > 1e-3 * size);
  }
}

TEST_CASE_TEMPLATE("RoPE by hand: half-split pairs turn by place·θ", S, float, double) {
  const RopeTable<S> table = rope_table<S>(4, 4, 10000);
  Matrix<S> x{{1, 1, 0, 0, 0, 0, 1, 1}};  // two heads: pairs (x₀, x₂) and (x₁, x₃) of each
  const std::vector<Index> places{2};
  rope_rotate<S>(table, places, 2, false, x, Exec{});
  const double c = std::cos(2.0), s = std::sin(2.0), c2 = std::cos(0.02), s2 = std::sin(0.02);
  CHECK(relative_error(x, Matrix<double>{{c, c2, s, s2, -s, -s2, c, c2}}) < kernel_tolerance<S>());
}

TEST_CASE_TEMPLATE("RoPE: the inverse undoes it, lengths are kept, the same bits on any threads, places beyond the table", S, float,
                   double) {
  Dice dice(71);
  const Index N = 150, H = 3, D = 10;
  const RopeTable<S> table = rope_table<S>(100, D, 10000), long_table = rope_table<S>(400, D, 10000);
  const Matrix<S> x = dice.matrix<S>(N, H * D);
  std::vector<Index> places;
  for (Index n = 0; n < N; ++n) places.push_back(dice.between(0, 399));
  Block<S> y(x);
  rope_rotate<S>(table, places, H, false, *y, Exec{});
  CHECK(y.frame_intact());
  CHECK(relative_error(y.value(), x) > 0.1);
  double worst = 0;
  for (Index n = 0; n < N; ++n) {
    for (Index h = 0; h < H; ++h) {
      const double before = x.row(n).segment(h * D, D).norm();
      worst = std::max(worst, std::abs((*y).row(n).segment(h * D, D).norm() / before - 1));
    }
  }
  CHECK(worst < 10 * kernel_tolerance<S>());
  Matrix<S> same = x;
  rope_rotate<S>(long_table, places, H, false, same, Exec{});
  CHECK(same_bits(same, y.value()));
  rope_rotate<S>(table, places, H, true, *y, Exec{});
  CHECK(relative_error(y.value(), x) < kernel_tolerance<S>());
  CHECK(same_bits_on_any_threads([&](const Exec& exec) {
    Matrix<S> z = x;
    rope_rotate<S>(table, places, H, false, z, exec);
    return z;
  }));
}

TEST_CASE_TEMPLATE("RoPE: a score depends on the distance only", S, float, double) {
  Dice dice(72);
  const Index D = 16;
  const RopeTable<S> table = rope_table<S>(600, D, 10000);
  const Matrix<S> q = dice.matrix<S>(1, D), k = dice.matrix<S>(1, D);
  const auto score = [&](Index query_place, Index key_place) {
    Matrix<S> a = q, b = k;
    rope_rotate<S>(table, std::vector<Index>{query_place}, 1, false, a, Exec{});
    rope_rotate<S>(table, std::vector<Index>{key_place}, 1, false, b, Exec{});
    return static_cast<double>(a.row(0).dot(b.row(0)));
  };
  const double size = static_cast<double>(q.norm() * k.norm());
  for (const Index distance : {0, 1, 7, 100}) {
    const double first = score(distance, 0);
    for (const Index shift : {1, 50, 499})
      CHECK(std::abs(score(distance + shift, shift) - first) < (std::is_same_v<S, float> ? 1e-5 : 1e-12) * size);
  }
  CHECK(std::abs(score(7, 0) - score(8, 0)) > 1e-3 * size);  // and it does depend on it
  CHECK(std::abs(score(7, 0) - score(0, 7)) > 1e-3 * size);
}

TEST_CASE("RoPE: the gradient is the transposed rotation, scaled or not") {
  Dice dice(73);
  const std::vector<Index> places{0, 3, 41, 90};  // the last beyond the table
  Matrix<double> x = dice.matrix<double>(4, 12);
  const Matrix<double> dy = dice.matrix<double>(4, 12);
  for (const RopeStretch& stretch : {RopeStretch{}, {RopeScaling::linear, 3}, {RopeScaling::ntk, 3}, {RopeScaling::yarn, 3, 32}, {RopeScaling::yarn_pairs, 3, 32}}) {
    const RopeTable<double> table = rope_table<double>(50, 6, 10000, stretch);
    Matrix<double> dx = dy;
    rope_rotate<double>(table, places, 2, true, dx, Exec{});
    CHECK(gradient_error(x, dx, [&] {
            Matrix<double> y = x;
            rope_rotate<double>(table, places, 2, false, y, Exec{});
            return y.cwiseProduct(dy).sum();
          }) < 1e-6);
  }
}

TEST_CASE("RoPE names a width or a number of places that does not fit") {
  const RopeTable<double> table = rope_table<double>(8, 4, 10000);
  Matrix<double> x = Matrix<double>::Zero(2, 8), narrow = Matrix<double>::Zero(2, 6);
  const std::vector<Index> two{0, 1}, three{0, 1, 2}, negative{0, -1};
  CHECK_NOTHROW(rope_rotate<double>(table, two, 2, false, x, Exec{}));
  CHECK_THROWS_AS(rope_rotate<double>(table, three, 2, false, x, Exec{}), std::invalid_argument);
  CHECK_THROWS_AS(rope_rotate<double>(table, two, 2, false, narrow, Exec{}), std::invalid_argument);
  CHECK_THROWS_AS(rope_rotate<double>(table, two, 1, false, x, Exec{}), std::invalid_argument);
  CHECK_THROWS_AS(rope_rotate<double>(table, negative, 2, false, x, Exec{}), std::invalid_argument);
}

TEST_CASE("ALiBi's slopes: the paper's 8 heads, and 12") {
  const std::vector<double> eight = alibi_slopes(8);
  REQUIRE(eight.size() == 8);
  for (std::size_t h = 0; h < 8; ++h) CHECK(eight[h] == std::ldexp(1.0, -static_cast<int>(h) - 1));  // 1/2, 1/4, …, 1/256
  // Twelve: the eight, and then every second of sixteen's 2^(−1/2), 2^(−1), 2^(−3/2), …: 2^(−1/2), 2^(−3/2), 2^(−5/2), 2^(−7/2).
  const std::vector<double> twelve = alibi_slopes(12);
  REQUIRE(twelve.size() == 12);
  for (std::size_t h = 0; h < 8; ++h) CHECK(twelve[h] == eight[h]);
  for (std::size_t h = 0; h < 4; ++h) CHECK(twelve[8 + h] == doctest::Approx(std::pow(2.0, -0.5 - static_cast<double>(h))).epsilon(1e-14));
  CHECK(alibi_slopes(1) == std::vector<double>{1.0 / 256});
  CHECK_THROWS_AS(alibi_slopes(0), std::invalid_argument);
}
