#include "glassformer/core/random.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

using namespace glassformer;

TEST_CASE("philox gives the published vectors") {
  // Known answers of the Random123 distribution (kat_vectors, philox4x32-10).
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("normal draws have mean 0, variance 1 and kurtosis 3; streams differ") {
  const RandomStream s{7, 1};
  const int n = 200000;
  double m1 = 0, m2 = 0, m4 = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random_normal(s, static_cast<std::uint64_t>(i));
    m1 += x / n, m2 += x * x / n, m4 += x * x * x * x / n;
  }
  CHECK(std::abs(m1) < 4 / std::sqrt(n));
  CHECK(std::abs(m2 - 1) < 4 * std::sqrt(2.0 / n));
  CHECK(std::abs(m4 - 3) < 4 * std::sqrt(96.0 / n));
  CHECK(random_bits(s.at("a"), 0) != random_bits(s.at("b"), 0));
  CHECK(random_bits(s.at(1), 0) != random_bits(s.at(2), 0));
}

TEST_CASE("random_below stays below and reaches every value") {
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) seen.insert(random_below({3, 4}, i, 7));
  CHECK(seen == std::set<std::uint64_t>{0, 1, 2, 3, 4, 5, 6});
}
