// Products of quantized activations with quantized weights for eight tokens at once: one token a lane, so a row of W is used as it lies,
// four of its codes for all lanes. For an instruction set without a product of bytes that adds up by itself, where the arithmetic of eight
// tokens takes longer than memory does. As integer_products.hpp, and the same bits: sums within a block are exact, and blocks are added up
// in the same order. Beside what row_products.hpp wants of V: `byte_columns`, `nibble_columns` (a block of O rows of W times eight tokens), `size`,
// `negative` and `add_masked` (of codes of x), `zero_int`.
#pragma once
#include <type_traits>

#include "ops/kernels/row_products.hpp"

namespace glassformer::ops::kernels {
namespace {

// A block of 32 of eight tokens, [8 columns][8 tokens][4], for each format of W.
// q8_0: bytes without a sign are multiplied by bytes with one, so w·x = |x|·(w with x's sign). −w is ~w + 1, and all bits of w are turned by
// an exclusive or, which the processor does anywhere: Σ w·x = Σ |x|·(w ^ (x < 0)) + Σ_{x < 0} |x|. The last is x's alone. ~w is a byte for
// w = −128 too.
struct alignas(32) TurnedForBytes {
  struct {
    std::uint8_t size[32];  // |x|
    std::uint8_t sign[32];  // 255 where x < 0
  } column[8];
  float scales[8];
  std::int32_t negatives[8];  // Σ_{x < 0} |x|
};
// q4_0: its nibbles have no sign.
struct alignas(32) TurnedForNibbles {
  std::int8_t codes[8][32];
  float scales[8];
  std::int32_t sums[8];  // Σ x
};
template <Format format>
using Turned = std::conditional_t<format == Format::q8_0, TurnedForBytes, TurnedForNibbles>;

template <Format format>
inline ptrdiff_t turned_bytes(ptrdiff_t inputs) {
  return inputs / 32 * static_cast<ptrdiff_t>(sizeof(Turned<format>));
}
inline ptrdiff_t turned_size(Format format, ptrdiff_t inputs) {
  return format == Format::q8_0 ? turned_bytes<Format::q8_0>(inputs) : turned_bytes<Format::q4_0>(inputs);
}

// Tokens that are missing are zero.
template <class V, Format format>
void turn_tokens_for(const QuantizedInput& x, ptrdiff_t inputs, Turned<format>* out) {
  const ptrdiff_t blocks = inputs / 32;
  for (ptrdiff_t b = 0; b < blocks; ++b, ++out) {
    std::uint8_t some[8][32] = {};
    if (x.n < 8) {
      for (ptrdiff_t n = 0; n < x.n; ++n) std::memcpy(some[n], x.codes + (n * blocks + b) * 32, 32);
    }
    typename V::Int column[8];
    x.n < 8 ? V::transpose8(some[0], 32, column) : V::transpose8(reinterpret_cast<const std::uint8_t*>(x.codes) + b * 32, inputs, column);
    if constexpr (format == Format::q8_0) {
      typename V::Int negatives = V::zero_int();
      for (ptrdiff_t c = 0; c < 8; ++c) {
        const typename V::Int size = V::size(column[c]), sign = V::negative(column[c]);
        V::store_int(out->column[c].size, size), V::store_int(out->column[c].sign, sign);
        negatives = V::add_masked(negatives, size, sign);
      }
      V::store_int(out->negatives, negatives);
    } else {
      for (ptrdiff_t c = 0; c < 8; ++c) V::store_int(out->codes[c], column[c]);
      for (ptrdiff_t n = 0; n < 8; ++n) out->sums[n] = n < x.n ? x.sums[n * blocks + b] : 0;
    }
    for (ptrdiff_t n = 0; n < 8; ++n) out->scales[n] = n < x.n ? x.scales[n * blocks + b] : 0.0f;
  }
}
template <class V>
void turn_tokens(Format format, const QuantizedInput& x, ptrdiff_t inputs, void* turned) {
  format == Format::q8_0 ? turn_tokens_for<V, Format::q8_0>(x, inputs, static_cast<TurnedForBytes*>(turned))
                         : turn_tokens_for<V, Format::q4_0>(x, inputs, static_cast<TurnedForNibbles*>(turned));
}

// The scales of four rows of W in floating point, [block][4]: once for all tokens, and beside the arithmetic rather than within it.
template <class V>
inline void row_scales(const std::uint8_t* rows, ptrdiff_t stride, ptrdiff_t bytes, ptrdiff_t blocks, float* scales) {
  ptrdiff_t b = 0;
  for (; b + 2 <= blocks; b += 2, rows += 2 * bytes) {
    const std::uint64_t two[] = {four_halves(rows, stride), four_halves(rows + bytes, stride)};
    V::store(scales + 4 * b, V::widen_halves(two));
  }
  for (int o = 0; o < 4 && b < blocks; ++o) scales[4 * b + o] = V::half(rows + o * stride);
}

// O rows of W, `stride` bytes apart, times eight tokens; out [O][8 tokens].
template <class V, Format format, int O>
inline void token_tile(const Turned<format>* x, const std::uint8_t* rows, ptrdiff_t stride, const float* scales, ptrdiff_t blocks,
                       float (*out)[8]) {
  constexpr ptrdiff_t bytes = format == Format::q8_0 ? 34 : 18;
  typename V::Float sum[O];
  for (int o = 0; o < O; ++o) sum[o] = V::zero();
  for (ptrdiff_t b = 0; b < blocks; ++b, ++x, rows += bytes, scales += O) {
    typename V::Int total[O];
    if constexpr (format == Format::q8_0) V::template byte_columns<O>(*x, rows + 2, stride, total);
    else V::template nibble_columns<O>(*x, rows + 2, stride, total);
    const typename V::Float x_scales = V::load(x->scales);
    for (int o = 0; o < O; ++o) sum[o] = V::fma(V::to_float(total[o]), V::mul(V::set(scales[o]), x_scales), sum[o]);
  }
  for (int o = 0; o < O; ++o) V::store(out[o], sum[o]);
}

}  // namespace
}  // namespace glassformer::ops::kernels
