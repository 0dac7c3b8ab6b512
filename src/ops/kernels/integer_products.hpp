// Products of quantized activations with quantized weights, in whole numbers within each block of 32. As row_products.hpp, for one V a
// file. A tile of kLanes rows of W is turned so that a register holds the same four columns of every row, one row a lane:
//   y_no = Σ_blocks scale_n·scale_o·(Σ code_n·code_o)
// The inner sum is exact, the outer one is taken block after block: a token's result does not depend on those beside it.
#pragma once
#include <cstring>

#include "ops/kernels/row_products.hpp"

namespace glassformer::ops::kernels {
namespace {

inline ptrdiff_t tile_row_bytes(const QuantizedRows& w) { return w.cols / 32 * (w.format == Format::q8_0 ? 34 : 18); }

// [I/32][8 columns of words][lane] bytes of codes, [I/32][lane] scales, and a copy of the last rows where they are fewer than a tile's.
template <class V>
ptrdiff_t integer_scratch(ptrdiff_t inputs) {
  return inputs / 32 * V::kLanes * (32 + 4 + 34) + 64;
}

// The codes of a block of L rows in registers, four columns each, and the rows' scales.
template <class V>
inline typename V::Float tile_block(Format format, const std::uint8_t* block, ptrdiff_t row_bytes, typename V::Int* column) {
  format == Format::q8_0 ? V::transpose8(block + 2, row_bytes, column) : V::transpose4(block + 2, row_bytes, column);
  alignas(64) std::uint16_t halves[V::kLanes];
  for (ptrdiff_t r = 0; r < V::kLanes; ++r) std::memcpy(halves + r, block + r * row_bytes, 2);
  return V::widen_halves(halves);
}

// A tile of L rows of W, for the first tokens and, where more follow, turned for them: codes [I/32][8][lane] words, scales [I/32][lane].
template <class V>
struct Tile {
  Format format;
  const std::uint8_t* rows;
  ptrdiff_t row_bytes, blocks;
  std::int32_t offset;  // what W's codes are more than they stand for
  std::uint8_t* codes;
  float* scales;
};

// R tokens from the n-th on with a tile; out [R][L].   kFirst: W as it lies, and `keep`: turn it for the others. Otherwise: as turned
// before.
template <class V, int R, bool kFirst>
inline void integer_tile(const QuantizedInput& x, ptrdiff_t n, const Tile<V>& tile, bool keep, float (*out)[V::kLanes]) {
  constexpr ptrdiff_t L = V::kLanes;
  const ptrdiff_t bytes = tile.format == Format::q8_0 ? 34 : 18, blocks = tile.blocks;
  typename V::Float sum[R];
  for (int r = 0; r < R; ++r) sum[r] = V::zero();
  for (ptrdiff_t b = 0; b < blocks; ++b) {
    typename V::Int column[8], acc[R];
    typename V::Float scale;
    if constexpr (kFirst) {
      scale = tile_block<V>(tile.format, tile.rows + b * bytes, tile.row_bytes, column);
      // Four tiles ahead, and into the second-level cache: a tile's lines are more than the first can wait for.
      for (ptrdiff_t line = b * L * bytes / 64; line < (b + 1) * L * bytes / 64; ++line) {
        __builtin_prefetch(reinterpret_cast<const void*>(ahead_of(tile.rows, 4 * L * tile.row_bytes + 64 * line)), 0, 2);
      }
      for (ptrdiff_t c = 0; keep && c < 8; ++c) V::store_int(tile.codes + (b * 8 + c) * 4 * L, column[c]);
      if (keep) V::store(tile.scales + b * L, scale);
    } else {
      for (ptrdiff_t c = 0; c < 8; ++c) column[c] = V::load_int(tile.codes + (b * 8 + c) * 4 * L);
      scale = V::load(tile.scales + b * L);
    }
    for (int r = 0; r < R; ++r) acc[r] = V::set_int(-tile.offset * x.sums[(n + r) * blocks + b]);
    for (ptrdiff_t c = 0; c < 8; ++c) {
      for (int r = 0; r < R; ++r) acc[r] = V::dot4(acc[r], column[c], x.codes + ((n + r) * blocks + b) * 32 + 4 * c);
    }
    for (int r = 0; r < R; ++r) sum[r] = V::fma(V::to_float(acc[r]), V::mul(scale, V::set(x.scales[(n + r) * blocks + b])), sum[r]);
  }
  for (int r = 0; r < R; ++r) V::store(out[r], sum[r]);
}

template <class V>
void integer_rows(const QuantizedInput& x, const QuantizedRows& w, void* scratch, Output y) {
  constexpr ptrdiff_t L = V::kLanes;
  const ptrdiff_t blocks = w.cols / 32, row_bytes = tile_row_bytes(w);
  Tile<V> tile{w.format, nullptr, row_bytes, blocks, w.format == Format::q8_0 ? V::kOffset : 8, static_cast<std::uint8_t*>(scratch),
               nullptr};
  tile.scales = reinterpret_cast<float*>(tile.codes + blocks * 32 * L);
  auto* copy = reinterpret_cast<std::uint8_t*>(tile.scales + blocks * L);
  for (ptrdiff_t o = 0; o < w.rows; o += L) {
    const ptrdiff_t rows = w.rows - o < L ? w.rows - o : L;
    tile.rows = w.blocks + o * row_bytes;
    if (rows < L) {  // the missing rows are zero
      std::memset(copy, 0, static_cast<std::size_t>(L * row_bytes));
      std::memcpy(copy, tile.rows, static_cast<std::size_t>(rows * row_bytes));
      tile.rows = copy;
    }
    in_groups(x.n, [&]<int R>(ptrdiff_t n) {
      alignas(64) float out[R][L];
      n == 0 ? integer_tile<V, R, true>(x, n, tile, x.n > R, out) : integer_tile<V, R, false>(x, n, tile, false, out);
      for (int r = 0; r < R; ++r) std::memcpy(y.data + (n + r) * y.stride + o, out[r], static_cast<std::size_t>(rows) * sizeof(float));
    });
  }
}

}  // namespace
}  // namespace glassformer::ops::kernels
