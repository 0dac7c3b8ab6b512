// One block of a quantized matrix: a scale, and steps that it multiplies. What dequantize, the products of ops and explanations read.
//   x_j = scale·step_j      q8_0, q4_0, int4: step a whole number;  nf4: step one of nf4_levels(), scale the block's absmax
// The functions check nothing. The formats: quantized.hpp.
#pragma once
#include <cstring>

#include "glassformer/core/half.hpp"
#include "glassformer/quantize/quantized.hpp"

namespace glassformer {

// absmax of block j of an nf4 matrix. In double, where the product of two floats is exact: whether a compiler joins it with the sum or
// not, the bits are the same.
inline float nf4_absmax(const QuantizedMatrix& w, Index j) {
  const auto b = static_cast<std::size_t>(j);
  return static_cast<float>(static_cast<double>(dynamic_levels()[w.absmax[b]]) * w.group_maximum[b / 256] + static_cast<double>(w.offset));
}

// How a format lays out a block. steps() writes kLength numbers, in order.
template <QuantizedType> struct BlockFormat;

namespace detail {
inline float block_f16(const std::byte* block) {
  std::uint16_t bits;
  std::memcpy(&bits, block, 2);
  return f16_to_float(bits);
}
inline int low_nibble(std::byte b) { return static_cast<int>(b) & 15; }
inline int high_nibble(std::byte b) { return static_cast<int>(b) >> 4; }

// step = level[code] for 64 codes of nf4
template <class S> void look_up(const std::uint8_t* code, S* step) {
  const std::array<float, 16>& level = nf4_levels();
  for (Index i = 0; i < 64; ++i) step[i] = static_cast<S>(level[code[i]]);
}
#if defined(__AVX512F__) && !defined(__clang__)
// The 16 levels fill one register, which one instruction indexes (four times as fast, measured); clang has no such builtin.
inline void look_up(const std::uint8_t* code, float* step) {
  typedef float Levels __attribute__((vector_size(64)));
  typedef std::int32_t Codes __attribute__((vector_size(64)));
  Levels level;
  std::memcpy(&level, nf4_levels().data(), 64);
  std::int32_t wide[64];
  for (Index i = 0; i < 64; ++i) wide[i] = code[i];
  for (Index i = 0; i < 64; i += 16) {
    Codes index;
    std::memcpy(&index, wide + i, 64);
    const Levels found = __builtin_shuffle(level, index);
    std::memcpy(step + i, &found, 64);
  }
}
#endif
}  // namespace detail

template <> struct BlockFormat<QuantizedType::q8_0> {
  static constexpr Index kLength = 32, kBytes = 34;
  static float scale(const QuantizedMatrix& w, Index j) { return detail::block_f16(w.blocks.data() + j * kBytes); }
  template <class S> static void steps(const std::byte* block, S* step) {
    for (Index i = 0; i < 32; ++i) step[i] = static_cast<S>(static_cast<std::int8_t>(block[2 + i]));
  }
};

template <> struct BlockFormat<QuantizedType::q4_0> {
  static constexpr Index kLength = 32, kBytes = 18;
  static float scale(const QuantizedMatrix& w, Index j) { return detail::block_f16(w.blocks.data() + j * kBytes); }
  template <class S> static void steps(const std::byte* block, S* step) {
    for (Index i = 0; i < 16; ++i) step[i] = static_cast<S>(detail::low_nibble(block[2 + i]) - 8);
    for (Index i = 0; i < 16; ++i) step[i + 16] = static_cast<S>(detail::high_nibble(block[2 + i]) - 8);
  }
};

template <> struct BlockFormat<QuantizedType::int4> {
  static constexpr Index kLength = 64, kBytes = 34;
  static float scale(const QuantizedMatrix& w, Index j) { return detail::block_f16(w.blocks.data() + j * kBytes); }
  template <class S> static void steps(const std::byte* block, S* step) {
    for (Index i = 0; i < 32; ++i) step[i] = static_cast<S>(detail::low_nibble(block[2 + i]) - 8);
    for (Index i = 0; i < 32; ++i) step[i + 32] = static_cast<S>(detail::high_nibble(block[2 + i]) - 8);
  }
};

template <> struct BlockFormat<QuantizedType::nf4> {
  static constexpr Index kLength = 64, kBytes = 32;
  static float scale(const QuantizedMatrix& w, Index j) { return nf4_absmax(w, j); }
  template <class S> static void steps(const std::byte* block, S* step) {
    std::uint8_t code[64];
    for (Index i = 0; i < 32; ++i) {
      code[2 * i] = static_cast<std::uint8_t>(detail::high_nibble(block[i]));
      code[2 * i + 1] = static_cast<std::uint8_t>(detail::low_nibble(block[i]));
    }
    detail::look_up(code, step);
  }
};

// Blocks [first, first + count) of the matrix, which lie in one row, as numbers: scale·step.
template <class Format, class S> void read_blocks(const QuantizedMatrix& w, Index first, Index count, S* x) {
  for (Index j = first; j < first + count; ++j, x += Format::kLength) {
    const S scale = static_cast<S>(Format::scale(w, j));
    Format::steps(w.blocks.data() + j * Format::kBytes, x);
    for (Index i = 0; i < Format::kLength; ++i) x[i] *= scale;
  }
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
