// Products of quantized activations with quantized weights, in whole numbers within each block of 32. As row_products.hpp, for one V a
// file. A tile of kLanes rows of W is turned so that a register holds the same four columns of every row, one row a lane:
//   y_no = Σ_blocks scale_n·scale_o·(Σ code_n·code_o)
// The inner sum is exact, the outer one is taken block after block: a token's result does not depend on those beside it.
#pragma once
#include <cstring>

#include "ops/kernels/kernels.hpp"

namespace glassformer::ops::kernels {
namespace {

inline ptrdiff_t tile_row_bytes(const QuantizedRows& w) { return w.cols / 32 * (w.format == Format::q8_0 ? 34 : 18); }

// [I/32][8 columns of words][lane] bytes of codes, [I/32][lane] scales, and a copy of the last rows where they are fewer than a tile's.
template <class V>
ptrdiff_t integer_scratch(ptrdiff_t inputs) {
  return inputs / 32 * V::kLanes * (32 + 4 + 34) + 64;
}

template <class V>
void pack_tile(Format format, const std::uint8_t* rows, ptrdiff_t row_bytes, ptrdiff_t blocks, std::uint8_t* codes, float* scales) {
  constexpr ptrdiff_t L = V::kLanes;
  const ptrdiff_t bytes = format == Format::q8_0 ? 34 : 18;
  for (ptrdiff_t b = 0; b < blocks; ++b) {
    const std::uint8_t* block = rows + b * bytes;
    format == Format::q8_0 ? V::transpose8(block + 2, row_bytes, codes + b * 32 * L)
                           : V::transpose4(block + 2, row_bytes, codes + b * 32 * L);
    for (ptrdiff_t line = b * L * bytes / 64; line < (b + 1) * L * bytes / 64; ++line) __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(rows) + static_cast<std::uintptr_t>(L * row_bytes + 64 * line)), 0, 2);  // the next tile
    alignas(64) std::uint16_t halves[L];
    for (ptrdiff_t r = 0; r < L; ++r) std::memcpy(halves + r, block + r * row_bytes, 2);
    V::widen_halves(halves, scales + b * L);
  }
}

// R tokens with one packed tile.
template <class V, int R>
inline void integer_tile(const QuantizedInput& x, ptrdiff_t n, ptrdiff_t blocks, const std::uint8_t* codes, const float* scales,
                         float (*out)[V::kLanes]) {
  constexpr ptrdiff_t L = V::kLanes;
  typename V::Float sum[R];
  for (int r = 0; r < R; ++r) sum[r] = V::zero();
  for (ptrdiff_t b = 0; b < blocks; ++b) {
    typename V::Int acc[R];
    for (int r = 0; r < R; ++r) acc[r] = V::set_int(V::kUnsignedCodes ? x.sums[(n + r) * blocks + b] : 0);
    for (ptrdiff_t c = 0; c < 8; ++c) {
      const typename V::Int w = V::load_int(codes + (b * 8 + c) * 4 * L);
      for (int r = 0; r < R; ++r) acc[r] = V::dot4(acc[r], w, x.codes + ((n + r) * blocks + b) * 32 + 4 * c);
    }
    const typename V::Float scale = V::load(scales + b * L);
    for (int r = 0; r < R; ++r) sum[r] = V::fma(V::to_float(acc[r]), V::mul(scale, V::set(x.scales[(n + r) * blocks + b])), sum[r]);
  }
  for (int r = 0; r < R; ++r) V::store(out[r], sum[r]);
}

template <class V>
void integer_rows(const QuantizedInput& x, const QuantizedRows& w, void* scratch, Output y) {
  constexpr ptrdiff_t L = V::kLanes;
  const ptrdiff_t blocks = w.cols / 32, row_bytes = tile_row_bytes(w);
  auto* codes = static_cast<std::uint8_t*>(scratch);
  auto* scales = reinterpret_cast<float*>(codes + blocks * 32 * L);
  auto* copy = reinterpret_cast<std::uint8_t*>(scales + blocks * L);
  for (ptrdiff_t o = 0; o < w.rows; o += L) {
    const ptrdiff_t rows = w.rows - o < L ? w.rows - o : L;
    const std::uint8_t* from = w.blocks + o * row_bytes;
    if (rows < L) {  // the missing rows are zero
      std::memset(copy, 0, static_cast<std::size_t>(L * row_bytes));
      std::memcpy(copy, from, static_cast<std::size_t>(rows * row_bytes));
      from = copy;
    }
    pack_tile<V>(w.format, from, row_bytes, blocks, codes, scales);
    const auto group = [&]<int R>(ptrdiff_t n) {
      alignas(64) float out[R][L];
      integer_tile<V, R>(x, n, blocks, codes, scales, out);
      for (int r = 0; r < R; ++r) std::memcpy(y.data + (n + r) * y.stride + o, out[r], static_cast<std::size_t>(rows) * sizeof(float));
    };
    ptrdiff_t n = 0;
    for (; n + 8 <= x.n; n += 8) group.template operator()<8>(n);
    if (n + 4 <= x.n) group.template operator()<4>(n), n += 4;
    if (n + 2 <= x.n) group.template operator()<2>(n), n += 2;
    if (n < x.n) group.template operator()<1>(n);
  }
}

}  // namespace
}  // namespace glassformer::ops::kernels
