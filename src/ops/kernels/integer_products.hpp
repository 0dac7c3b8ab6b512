// Products of quantized activations with quantized weights, in whole numbers within each block of 32. As row_products.hpp, for one V a
// file. A tile of kLanes rows of W is turned so that a register holds the same four columns of every row, one row a lane:
//   y_no = Σ_blocks scale_n·scale_o·(Σ code_n·code_o)
// The inner sum is exact, the outer one is taken block after block: a token's result does not depend on those beside it.
#pragma once
#include <cstring>
#include <type_traits>

#include "ops/kernels/row_products.hpp"
#include "ops/kernels/token_products.hpp"

namespace glassformer::ops::kernels {
namespace {

// [I/32][8 columns of words][lane] bytes of codes, [I/32][lane] scales, and a copy of the last rows where they are fewer than a tile's.
template <class V>
ptrdiff_t integer_scratch(ptrdiff_t inputs) {
  return inputs / 32 * V::kLanes * (32 + 4 + 34) + 64;
}

// The codes of a block of L rows in registers, four columns each, and the rows' scales.
template <class V, Format format>
inline typename V::Float tile_block(const std::uint8_t* block, ptrdiff_t stride, typename V::Int* column) {
  format == Format::q8_0 ? V::transpose8(block + 2, stride, column) : V::transpose4(block + 2, stride, column);
  std::uint64_t halves[V::kLanes / 4];
  for (ptrdiff_t q = 0; q < V::kLanes / 4; ++q) halves[q] = four_halves(block + 4 * q * stride, stride);
  return V::widen_halves(halves);
}

// A tile of L rows of W, `stride` bytes apart, and the same as turned for more tokens: codes [I/32][8][lane] words, scales [I/32][lane].
struct Tile {
  const std::uint8_t* rows;
  ptrdiff_t stride, blocks;
  std::uint8_t* codes;
  float* scales;
};

// R tokens from the n-th on with a tile; out [R][L].   kTurn: W as it lies, which is turned for these and all others, or used at once
// where it is for one token alone. Otherwise: as turned before.
template <class V, Format format, int R, bool kTurn>
inline void integer_tile(const QuantizedInput& x, ptrdiff_t n, const Tile& tile, float (*out)[V::kLanes]) {
  using Dot = std::conditional_t<format == Format::q8_0, typename V::ByteDot, typename V::NibbleDot>;
  constexpr ptrdiff_t L = V::kLanes, bytes = format == Format::q8_0 ? 34 : 18;
  constexpr bool kAlone = kTurn && R == 1;
  const ptrdiff_t blocks = tile.blocks;
  typename V::Float sum[R];
  for (int r = 0; r < R; ++r) sum[r] = V::zero();
  for (ptrdiff_t b = 0; b < blocks; ++b) {
    typename V::Int column[8];
    typename V::Float scale;
    std::uint8_t* codes = tile.codes + b * 32 * L;
    if constexpr (kTurn) {
      scale = tile_block<V, format>(tile.rows + b * bytes, tile.stride, column);
      // Four tiles ahead, and into the second-level cache: a tile's lines are more than the first can wait for.
      for (ptrdiff_t i = 0; !V::kStreams && i < L * bytes; i += 64) {
        __builtin_prefetch(reinterpret_cast<const void*>(ahead_of(tile.rows, 4 * L * tile.stride + b * L * bytes + i)), 0, 2);
      }
      for (ptrdiff_t c = 0; !kAlone && c < 8; ++c) V::store_int(codes + c * 4 * L, column[c]);
      if (!kAlone) V::store(tile.scales + b * L, scale);
    } else {
      scale = V::load(tile.scales + b * L);
    }
    Dot dot[R];
    for (int r = 0; r < R; ++r) dot[r].start(x.sums + (n + r) * blocks + b);
    if constexpr (kAlone) {
      for (ptrdiff_t c = 0; c < 8; ++c) dot[0].add(column[c], x.codes + (n * blocks + b) * 32 + 4 * c);
    } else {
#pragma GCC unroll 1  // GCC would keep the products of several columns, for which there are no registers
      for (ptrdiff_t c = 0; c < 8; ++c) {
        const typename V::Int w = V::load_int(codes + c * 4 * L);
        for (int r = 0; r < R; ++r) dot[r].add(w, x.codes + ((n + r) * blocks + b) * 32 + 4 * c);
      }
    }
    for (int r = 0; r < R; ++r) {
      const typename V::Int total = dot[r].total(x.sums + (n + r) * blocks + b);
      sum[r] = V::fma(V::to_float(total), V::mul(scale, V::set(x.scales[(n + r) * blocks + b])), sum[r]);
    }
  }
  for (int r = 0; r < R; ++r) V::store(out[r], sum[r]);
}

// One row of W a lane, for the tokens from the first on.
template <class V, Format format>
void row_lanes(const QuantizedInput& x, ptrdiff_t first_token, const QuantizedRows& w, void* scratch, Output y) {
  constexpr ptrdiff_t L = V::kLanes;
  const ptrdiff_t blocks = w.cols / 32, row_bytes = blocks * (format == Format::q8_0 ? 34 : 18);
  Tile tile{nullptr, 0, blocks, static_cast<std::uint8_t*>(scratch), nullptr};
  tile.scales = reinterpret_cast<float*>(tile.codes + blocks * 32 * L);
  auto* copy = reinterpret_cast<std::uint8_t*>(tile.scales + blocks * L);
  const ptrdiff_t tokens = x.n - first_token;
  const auto multiply = [&](ptrdiff_t first, ptrdiff_t apart, ptrdiff_t rows) {
    in_groups(tokens, [&]<int R>(ptrdiff_t n) {
      alignas(64) float out[R][L];
      n == 0 ? integer_tile<V, format, R, true>(x, first_token + n, tile, out) : integer_tile<V, format, R, false>(x, first_token + n, tile, out);
      for (int r = 0; r < R; ++r) {
        for (ptrdiff_t lane = 0; lane < rows; ++lane) y.data[(first_token + n + r) * y.stride + first + lane * apart] = out[r][lane];
      }
    });
  };
  const bool streams = V::kStreams && tokens <= 8;  // for more tokens memory is not what takes the time, and y is better written in order
  const ptrdiff_t tiles = w.rows / L, apart = streams ? tiles : 1, rest = w.rows % L;
  for (ptrdiff_t t = 0; t < tiles; ++t) {
    const ptrdiff_t first = streams ? t : t * L;
    tile.rows = w.blocks + first * row_bytes, tile.stride = apart * row_bytes;
    multiply(first, apart, L);
  }
  if (rest > 0) {  // the missing rows are zero
    std::memset(copy, 0, static_cast<std::size_t>(L * row_bytes));
    std::memcpy(copy, w.blocks + tiles * L * row_bytes, static_cast<std::size_t>(rest * row_bytes));
    tile.rows = copy, tile.stride = row_bytes;
    multiply(tiles * L, 1, rest);
  }
}

// All tokens of x that were turned, by four rows of W a tile.
template <class V, Format format>
void token_lanes(const QuantizedInput& x, const QuantizedRows& w, void* scratch, Output y) {
  const ptrdiff_t tokens = x.turned_tokens;
  constexpr ptrdiff_t bytes = format == Format::q8_0 ? 34 : 18;
  const ptrdiff_t blocks = w.cols / 32, row_bytes = blocks * bytes;
  const bool streams = V::kStreams && tokens <= 8;
  auto* scales = static_cast<float*>(scratch);
  const ptrdiff_t tiles = w.rows / 4, apart = streams ? tiles : 1;
  for (ptrdiff_t t = 0; t < tiles; ++t) {
    const ptrdiff_t first = streams ? t : 4 * t;
    const std::uint8_t* rows = w.blocks + first * row_bytes;
    row_scales<V>(rows, apart * row_bytes, bytes, blocks, scales);
    for (ptrdiff_t n = 0; n < tokens; n += 8) {
      const auto* turned = reinterpret_cast<const Turned<format>*>(x.turned + n / 8 * turned_bytes<format>(w.cols));
      alignas(32) float out[4][8];
      token_tile<V, format, 4>(turned, rows, apart * row_bytes, scales, blocks, out);
      for (ptrdiff_t r = 0; r < 8 && n + r < tokens; ++r) {
        for (ptrdiff_t o = 0; o < 4; ++o) y.data[(n + r) * y.stride + first + o * apart] = out[o][r];
      }
    }
  }
  const ptrdiff_t row = 4 * tiles;
  if (row < w.rows) {
    row_lanes<V, format>({x.codes, x.scales, x.sums, tokens}, 0, {format, w.blocks + row * row_bytes, nullptr, w.rows - row, w.cols}, scratch,
                         {y.data + row, y.stride});
  }
}

template <class V, Format format>
void integer_rows_of(const QuantizedInput& x, const QuantizedRows& w, void* scratch, Output y) {
  if constexpr (V::kTokens) {
    if (x.turned_tokens > 0) token_lanes<V, format>(x, w, scratch, y);
  }
  if (x.turned_tokens < x.n) row_lanes<V, format>(x, x.turned_tokens, w, scratch, y);
}
template <class V>
void integer_rows(const QuantizedInput& x, const QuantizedRows& w, void* scratch, Output y) {
  w.format == Format::q8_0 ? integer_rows_of<V, Format::q8_0>(x, w, scratch, y) : integer_rows_of<V, Format::q4_0>(x, w, scratch, y);
}

}  // namespace
}  // namespace glassformer::ops::kernels
