// A row of numbers in 8 bits with one scale of its own: how a KV cache keeps a token's keys and values of one head.
//   scale = amax/127, in float     q_d = round(x_d/scale) in −127 … 127     x_d ≈ scale·q_d
// Rounding goes to the nearest, so |x_d − scale·q_d| ≤ scale/2. 8 + 32/D bits a number.
#pragma once
#include <cstdint>
#include <span>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

// Writes x.size() codes to `codes` and returns the scale. A row with a number that is not finite gets the scale NaN, and is NaN
// throughout when it is read: what went wrong stays visible. So does one in double whose scale is beyond float.
template <class S> float quantize_row(std::span<const S> x, std::int8_t* codes);
// y_d = scale·q_d
template <class S> void dequantize_row(float scale, const std::int8_t* codes, std::span<S> y);

}  // namespace glassformer
