// Weights in few bits: blocks of numbers that share a scale. Read in floating point, never trained.
// Legend: O rows (outputs), I columns (inputs) of a matrix; x a number, q its code, d a block's scale. A block never crosses a row.
//   q8_0   32 a block, 34 bytes:  fp16 d = amax/127, int8 q = round(x/d)                       x ≈ d·q         8.5 bits a number   (GGUF)
//   q4_0   32 a block, 18 bytes:  fp16 d = (x of largest magnitude)/−8, q = min(15, ⌊x/d + 8.5⌋)  x ≈ d·(q − 8)   4.5 bits            (GGUF)
//          low nibble element j, high nibble j + 16
//   int4   64 a block, 34 bytes:  fp16 d = amax/7, q = round(x/d) in −7 … 7, stored q + 8      x ≈ d·q         4.25 bits
//          symmetric; low nibble element j, high nibble j + 32
//   nf4    64 a block, 32 bytes:  x ≈ absmax·level[q], the level nearest to x/absmax           4.127 bits with absmax (Dettmers et al. 2023)
//          high nibble the first of two neighbours; absmax itself in 8 bits, 256 of them with one float (double quantization)
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "glassformer/core/large_memory.hpp"
#include "glassformer/core/matrix.hpp"
#include "glassformer/core/parallel.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

enum class QuantizedType { q8_0, q4_0, int4, nf4 };
std::string_view quantized_name(QuantizedType);
// "q8_0", "q4_0", "int4", "nf4"; otherwise a sentence that lists them.
Expected<QuantizedType> quantized_named(std::string_view);
Index block_length(QuantizedType);  // numbers that share a scale: 32 or 64
Index block_bytes(QuantizedType);   // in `blocks`: 34, 18, 34, 32

namespace detail {
extern const std::array<float, 16> kNf4Levels;
extern const std::array<float, 256> kDynamicLevels;
}  // namespace detail

// The 16 levels of NF4, ascending: quantiles of a normal distribution, −1 … 1, with an exact zero.
inline const std::array<float, 16>& nf4_levels() { return detail::kNf4Levels; }
// The 256 values of bitsandbytes' dynamic 8-bit type, ascending, −0.99… … 1: what absmax − offset, divided by its group's maximum, is
// rounded to.
inline const std::array<float, 256>& dynamic_levels() { return detail::kDynamicLevels; }

struct QuantizedMatrix {
  QuantizedType type = QuantizedType::q8_0;
  Index rows = 0, cols = 0;             // cols a multiple of block_length
  std::vector<std::byte, LargeAllocator<std::byte>> blocks;  // row after row
  // nf4 only; block j of the matrix has absmax = dynamic_levels[absmax[j]]·group_maximum[j/256] + offset
  std::vector<std::uint8_t> absmax;     // [O·I/64]
  std::vector<float> group_maximum;     // [⌈O·I/64/256⌉]
  float offset = 0;                     // mean of all absmax
  Index bytes() const;                  // of all four
};

// Throws std::invalid_argument when a row is no multiple of the block, or a number is not finite. The same bytes for any number of threads.
QuantizedMatrix quantize(QuantizedType, ConstMatrixRef<float> x, const Exec& = {});
// Rows [begin, begin + y.rows()) into y [n, I]. The value of each number is the same in float and (rounded to float) in double.
template <class S> void dequantize(const QuantizedMatrix&, Index begin, MatrixRef<S> y);

}  // namespace glassformer
