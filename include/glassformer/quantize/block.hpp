// One block of a quantized matrix: a scale, and steps that it multiplies. What dequantize, the products of ops and explanations read.
//   x_j = scale·step_j      q8_0, q4_0, int4: step a whole number;  nf4: step one of nf4_levels(), scale the block's absmax
// The functions check nothing. The formats: quantized.hpp.
#pragma once
#include <cstring>

#include "glassformer/core/half.hpp"
#include "glassformer/quantize/quantized.hpp"
#include "glassformer/quantize/widen.hpp"

namespace glassformer {

// Are a format's products made in whole numbers where Exec::activations is int8? The others take the activations as they are.
constexpr bool takes_int8_activations(QuantizedType type) { return type == QuantizedType::q8_0 || type == QuantizedType::q4_0; }

// absmax of block j of an nf4 matrix. In double, where the product of two floats is exact: whether a compiler joins it with the sum or
// not, the bits are the same.
inline float nf4_absmax(const QuantizedMatrix& w, Index j) {
  const auto b = static_cast<std::size_t>(j);
  return static_cast<float>(static_cast<double>(dynamic_levels()[w.absmax[b]]) * w.group_maximum[b / 256] + static_cast<double>(w.offset));
}

inline float f16_scale(const std::byte* block) {
  std::uint16_t bits;
  std::memcpy(&bits, block, 2);
  return f16_to_float(bits);
}

// How a format lays out a block. steps() writes kLength numbers, in order.
template <QuantizedType> struct BlockFormat;

template <> struct BlockFormat<QuantizedType::q8_0> {
  static constexpr Index kLength = 32, kBytes = 34;
  static float scale(const QuantizedMatrix& w, Index j) { return f16_scale(w.blocks.data() + j * kBytes); }
  template <class S> static inline void steps(const std::byte* block, S* step) {
    detail::widen(detail::load_codes(block + 2), step);
    detail::widen(detail::load_codes(block + 18), step + 16);
  }
};

template <> struct BlockFormat<QuantizedType::q4_0> {
  static constexpr Index kLength = 32, kBytes = 18;
  static float scale(const QuantizedMatrix& w, Index j) { return f16_scale(w.blocks.data() + j * kBytes); }
  template <class S> static inline void steps(const std::byte* block, S* step) {
    const detail::Codes packed = detail::load_codes(block + 2);
    detail::widen(detail::low_nibbles(packed) - 8, step);
    detail::widen(detail::high_nibbles(packed) - 8, step + 16);
  }
};

template <> struct BlockFormat<QuantizedType::int4> {
  static constexpr Index kLength = 64, kBytes = 34;
  static float scale(const QuantizedMatrix& w, Index j) { return f16_scale(w.blocks.data() + j * kBytes); }
  template <class S> static inline void steps(const std::byte* block, S* step) {
    const detail::Codes first = detail::load_codes(block + 2), second = detail::load_codes(block + 18);
    detail::widen(detail::low_nibbles(first) - 8, step);
    detail::widen(detail::low_nibbles(second) - 8, step + 16);
    detail::widen(detail::high_nibbles(first) - 8, step + 32);
    detail::widen(detail::high_nibbles(second) - 8, step + 48);
  }
};

template <> struct BlockFormat<QuantizedType::nf4> {
  static constexpr Index kLength = 64, kBytes = 32;
  static float scale(const QuantizedMatrix& w, Index j) { return nf4_absmax(w, j); }
  template <class S> static inline void steps(const std::byte* block, S* step) {
    pairs(detail::load_codes(block), step);
    pairs(detail::load_codes(block + 16), step + 32);
  }

 private:
  template <class S> static inline void pairs(detail::Codes packed, S* step) {
    const detail::Codes low = detail::low_nibbles(packed), high = detail::high_nibbles(packed);
    detail::look_up(__builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), nf4_levels(), step);
    detail::look_up(__builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), nf4_levels(), step + 16);
  }
};

// Block j of the matrix as numbers: scale·step.
template <class Format, class S> inline void read_block(const QuantizedMatrix& w, Index j, S* x) {
  const S scale = static_cast<S>(Format::scale(w, j));
  Format::steps(w.blocks.data() + j * Format::kBytes, x);
  for (Index i = 0; i < Format::kLength; i += 32) Eigen::Map<Eigen::Array<S, 1, 32>>(x + i) *= scale;  // short enough to stay in registers
}

// Calls f with the BlockFormat of a type that is known when the program runs: f(BlockFormat<QuantizedType::nf4>{})
template <class F> auto with_block_format(QuantizedType type, F&& f) {
  switch (type) {
    case QuantizedType::q8_0:
      return f(BlockFormat<QuantizedType::q8_0>{});
    case QuantizedType::q4_0:
      return f(BlockFormat<QuantizedType::q4_0>{});
    case QuantizedType::int4:
      return f(BlockFormat<QuantizedType::int4>{});
    case QuantizedType::nf4:
      break;
  }
  return f(BlockFormat<QuantizedType::nf4>{});
}

}  // namespace glassformer
