// A row in 8 bits: by hand, its error against half a scale, what is not finite, and numbers at the ends of the float range.
#include "glassformer/quantize/row.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "glassformer/core/random.hpp"

using namespace glassformer;

namespace {

template <class S> struct Rounded {
  float scale;
  std::vector<int> codes;
  std::vector<S> back;
};
template <class S> Rounded<S> round_trip(const std::vector<S>& x) {
  std::vector<std::int8_t> codes(x.size(), 99);
  Rounded<S> r{.scale = quantize_row<S>(x, codes.data()), .codes = {}, .back = std::vector<S>(x.size(), S(99))};
  r.codes.assign(codes.begin(), codes.end());
  dequantize_row<S>(r.scale, codes.data(), std::span<S>(r.back));
  return r;
}

}  // namespace

TEST_CASE_TEMPLATE("a row by hand: its largest number gets 127, the others their nearest multiple of the scale", S, float, double) {
  // scale 254/127 = 2; 3.1/2 = 1.55 → 2; −5.2/2 = −2.6 → −3; 0.9/2 = 0.45 → 0; halves go to the even neighbour: 1/2 → 0, 3/2 → 2
  const Rounded<S> r = round_trip<S>({S(3.1), S(-254), S(0), S(-5.2), S(0.9), S(1), S(3)});
  CHECK(r.scale == 2);
  CHECK(r.codes == std::vector<int>{2, -127, 0, -3, 0, 0, 2});
  CHECK(r.back == std::vector<S>{4, -254, 0, -6, 0, 0, 4});
}

TEST_CASE_TEMPLATE("no number is further from itself than half a scale, at any size", S, float, double) {
  for (const double size : {1.0, 1e-6, 1e30, 3e38, 1e-37, 1e-38, 1e-44}) {  // the last three: scales below the normal range
    for (const std::size_t D : {std::size_t{1}, std::size_t{7}, std::size_t{64}}) {
      for (std::uint64_t seed = 0; seed < 50; ++seed) {
        CAPTURE(size);
        std::vector<S> x(D);
        S amax = 0;
        for (std::size_t d = 0; d < D; ++d) {
          x[d] = static_cast<S>(size * (2 * random_uniform({seed}, d) - 1));
          amax = std::max(amax, std::abs(x[d]));
        }
        const Rounded<S> r = round_trip<S>(x);
        CHECK(std::abs(static_cast<double>(r.scale) - static_cast<double>(amax) / 127) <=
              std::max(6e-8 * static_cast<double>(amax) / 127, static_cast<double>(std::numeric_limits<float>::min())));
        // Dividing and multiplying round too: each by 2⁻²⁴ of numbers no larger than amax.
        const double bound = static_cast<double>(r.scale) / 2 + std::ldexp(static_cast<double>(amax), -23);
        for (std::size_t d = 0; d < D; ++d) {
          CHECK(std::abs(r.codes[d]) <= 127);
          CHECK(std::abs(static_cast<double>(x[d]) - static_cast<double>(r.back[d])) <= bound);
        }
        CHECK_FALSE((D == 64 && size == 1.0 && r.back == x));
      }
    }
  }
  const Rounded<S> zeros = round_trip<S>({0, 0, S(-0.0)});
  CHECK(zeros.codes == std::vector<int>{0, 0, 0});
  CHECK(zeros.back == std::vector<S>{0, 0, 0});
}

TEST_CASE_TEMPLATE("a row with one number that is not finite is NaN throughout, wherever it stands", S, float, double) {
  const S nan = std::numeric_limits<S>::quiet_NaN(), infinity = std::numeric_limits<S>::infinity();
  for (const S bad : {nan, -nan, infinity, -infinity}) {
    for (std::size_t at = 0; at < 33; ++at) {
      std::vector<S> x(33, S(0.5));
      x[at] = bad;
      const Rounded<S> r = round_trip<S>(x);
      CHECK(std::isnan(r.scale));
      for (const S y : r.back) CHECK(std::isnan(y));
    }
  }
  if constexpr (std::is_same_v<S, double>) {
    for (const double y : round_trip<double>({1, 1e41}).back) CHECK(std::isnan(y));  // 1e41/127 is beyond float
    CHECK(round_trip<double>({0, 4e40}).codes == std::vector<int>{0, 127});          // 4e40/127 is not
  }
}
