// The values that codes of NF4 and of the dynamic 8-bit type stand for.
#include <algorithm>

#include "glassformer/quantize/quantized.hpp"

namespace glassformer {
namespace {

// Dettmers 2015 (arXiv 1511.04561), as bitsandbytes has it: for each power 10^e, e = −6 … 0, the interval 0.1 … 1 in 2^(e+6) equal parts, their
// centres times 10^e with both signs; then 0 and 1. The smaller the number, the more bits go to its exponent and the fewer to its fraction.
constexpr std::array<float, 256> dynamic() {
  std::array<float, 256> values{};  // two of them stay 0 for now: 0 itself and 1
  std::size_t count = 0;
  double power = 1e-6;
  for (int parts = 1; parts <= 64; parts *= 2, power *= 10) {
    for (int i = 0; i < parts; ++i) {
      const auto centre = static_cast<float>(power * (0.1 + 0.9 * (i + 0.5) / parts));
      values[count++] = centre;
      values[count++] = -centre;
    }
  }
  values[count] = 1;
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

namespace detail {

// Dettmers et al. 2023, appendix E.
constexpr std::array<float, 16> kNf4Levels{
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
constexpr std::array<float, 256> kDynamicLevels = dynamic();

}  // namespace detail
}  // namespace glassformer
