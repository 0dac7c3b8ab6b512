#include "glassformer/position/position.hpp"

#include <doctest/doctest.h>

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

TEST_CASE("RoPE: the gradient is the inverse rotation") {
  Dice dice(73);
  const RopeTable<double> table = rope_table<double>(50, 6, 10000);
  const std::vector<Index> places{0, 3, 41};
  Matrix<double> x = dice.matrix<double>(3, 12);
  const Matrix<double> dy = dice.matrix<double>(3, 12);
  Matrix<double> dx = dy;
  rope_rotate<double>(table, places, 2, true, dx, Exec{});
  CHECK(gradient_error(x, dx, [&] {
          Matrix<double> y = x;
          rope_rotate<double>(table, places, 2, false, y, Exec{});
          return y.cwiseProduct(dy).sum();
        }) < 1e-6);
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
