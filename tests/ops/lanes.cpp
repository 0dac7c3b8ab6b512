#include "ops/lanes.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace glassformer::ops {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float exp_of(float x) { return exp(Lanes<float>{} + x)[0]; }

// Whole numbers, so that every order of adding up comes to the same.
template <class S, Index L> void check_sums_of() {
  SomeLanes<S, L> v[L];
  S right[L] = {};
  for (Index i = 0; i < L; ++i) {
    for (Index l = 0; l < L; ++l) {
      const S number = static_cast<S>((7 * i + 3 * l * l + i * l) % 101);
      if constexpr (L == 1) std::memcpy(&v[i], &number, sizeof number);
      else v[i][l] = number;
      right[i] += number;
    }
  }
  const SomeLanes<S, L> sums = sums_of<S, L>(v);
  CAPTURE(L);
  CHECK(std::memcmp(&sums, right, sizeof right) == 0);
  if constexpr (2 * L <= kLanes<S>) check_sums_of<S, 2 * L>();
}

}  // namespace

TEST_CASE("lanes: the sums of as many registers as a register has lanes, in their order, up to this processor's length") {
  check_sums_of<float, 1>();
  check_sums_of<double, 1>();
}

TEST_CASE("lanes: exp of float is within 1.1 units in the last place from -87 to 88") {
  constexpr std::uint32_t kStep = 4001;  // of the numbers' bits; with 1, all of them, the most was 1.01 where products and sums are joined
  double most = 0;
  const auto look = [&](std::uint32_t first, float end) {
    for (std::uint32_t bits = first; std::abs(std::bit_cast<float>(bits)) <= end;) {
      Lanes<float> x{};
      for (Index l = 0; l < kLanes<float>; ++l, bits += kStep) x[l] = std::bit_cast<float>(bits);
      const Lanes<float> y = exp(x);
      for (Index l = 0; l < kLanes<float> && std::abs(x[l]) <= end; ++l) {
        const double right = std::exp(static_cast<double>(x[l]));
        most = std::max(most, std::abs(static_cast<double>(y[l]) - right) / std::ldexp(1.0, std::ilogb(right) - 23));
      }
    }
  };
  look(0, 88.0F);
  look(std::bit_cast<std::uint32_t>(-0.0F), 87.0F);
  INFO("the most: ", most);
  CHECK(most > 0.5);
  CHECK(most <= 1.1);
}

TEST_CASE("lanes: exp beyond what float holds") {
  CHECK(exp_of(0) == 1);
  CHECK(exp_of(-87.1F) == 0);
  CHECK(exp_of(-kInfinity) == 0);
  CHECK(exp_of(88.8F) == kInfinity);
  CHECK(exp_of(kInfinity) == kInfinity);
  CHECK(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace glassformer::ops
