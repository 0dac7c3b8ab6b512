#include "glassformer/core/half.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <limits>

using namespace glassformer;

TEST_CASE("F16 by hand: normal, subnormal, infinite, NaN, ties to even") {
  struct Pair {
    float value;
    std::uint16_t bits;
  };
  for (const Pair& p : {Pair{0.0f, 0x0000},
                        {-0.0f, 0x8000},
                        {1.0f, 0x3c00},
                        {-2.0f, 0xc000},
                        {65504.0f, 0x7bff},
                        {0x1p-14f, 0x0400},
                        {0x1p-24f, 0x0001},
                        {1023 * 0x1p-24f, 0x03ff},
                        {1.0009765625f, 0x3c01},
                        {INFINITY, 0x7c00},
                        {-INFINITY, 0xfc00}}) {
    CHECK(f16_from_float(p.value) == p.bits);
    CHECK(std::bit_cast<std::uint32_t>(f16_to_float(p.bits)) == std::bit_cast<std::uint32_t>(p.value));
  }
  CHECK(f16_from_float(1 + 0x1p-11f) == 0x3c00);             // half-way, 1.0 is even
  CHECK(f16_from_float(1 + 3 * 0x1p-11f) == 0x3c02);         // half-way, up to even
  CHECK(f16_from_float(1 + 0x1p-11f + 0x1p-23f) == 0x3c01);  // just above half-way
  CHECK(f16_from_float(65519.0f) == 0x7bff);
  CHECK(f16_from_float(65520.0f) == 0x7c00);  // half-way between 65504 and 65536, up to even
  CHECK(f16_from_float(0x1p-25f) == 0x0000);  // half of the smallest, 0 is even
  CHECK(f16_from_float(0x1p-25f * 1.0001f) == 0x0001);
  CHECK(f16_from_float(3 * 0x1p-25f) == 0x0002);         // half-way between subnormals 1 and 2
  CHECK(f16_from_float(0x1p-14f - 0x1p-26f) == 0x0400);  // a subnormal that rounds up to a normal number
  CHECK(f16_from_float(2047.5f * 0x1p-10f) == 0x4000);   // the carry goes into the exponent
  CHECK(std::isnan(f16_to_float(f16_from_float(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(f16_to_float(0x7c01)));
}

TEST_CASE("every F16 and BF16 number comes back, and the neighbours' middle goes to the even one") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto h = static_cast<std::uint16_t>(bits);
    const float f = f16_to_float(h), b = bf16_to_float(h);
    if (std::isnan(f) ? !std::isnan(f16_to_float(f16_from_float(f))) : f16_from_float(f) != h) FAIL("F16 " << bits);
    if (std::isnan(b) ? !std::isnan(bf16_to_float(bf16_from_float(b))) : bf16_from_float(b) != h) FAIL("BF16 " << bits);
    if ((bits & 0x7fff) < 0x7bff) {
      const auto middle =
          static_cast<float>((static_cast<double>(f) + static_cast<double>(f16_to_float(static_cast<std::uint16_t>(h + 1)))) / 2);
      if (f16_from_float(middle) != (h & 1 ? h + 1 : h)) FAIL("the middle above F16 " << bits);
    }
  }
}

TEST_CASE("BF16 by hand") {
  CHECK(bf16_from_float(1.0f) == 0x3f80);
  CHECK(bf16_from_float(1 + 0x1p-8f) == 0x3f80);      // half-way, down to even
  CHECK(bf16_from_float(1 + 3 * 0x1p-8f) == 0x3f82);  // half-way, up to even
  CHECK(bf16_from_float(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(bf16_from_float(-INFINITY) == 0xff80);
  CHECK(std::isnan(bf16_to_float(bf16_from_float(std::bit_cast<float>(0x7f800001u)))));  // its lower half alone says NaN
}
