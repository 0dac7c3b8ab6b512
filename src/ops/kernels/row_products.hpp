// The loops, over a vector type V of one instruction set. Included by one source file for each; everything is in an unnamed namespace, or
// the linker might take one file's instructions for another's.
//   V::Float, V::Int, V::kLanes, load, set, zero, mul, fma(a, b, c) = a·b + c, sum, sum4 (of four vectors, as sum), widen8 (int8 →
//   numbers), load_dwords, shift, lookup
#pragma once
#include <cstring>

#include "ops/kernels/kernels.hpp"

namespace glassformer::ops::kernels {
namespace {

constexpr float kCentred[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};  // q4_0 and int4: code less 8

// W is read once and from memory: asked for 2 KB ahead, a core gets more of it than by itself. An address
// ahead may be none of ours, which a processor passes over.
inline std::uintptr_t ahead_of(const void* p, ptrdiff_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(bytes);
}
inline void ask_ahead(const void* p) { __builtin_prefetch(reinterpret_cast<const void*>(ahead_of(p, 2048)), 0, 3); }

inline ptrdiff_t up_to(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }

// Calls row(r-rows constant, first row) so that all of n rows are done, eight at a time while there are.
template <class F>
inline void in_groups(ptrdiff_t n, F&& f) {
  ptrdiff_t i = 0;
  for (; i + 8 <= n; i += 8) f.template operator()<8>(i);
  if (i + 4 <= n) f.template operator()<4>(i), i += 4;
  if (i + 2 <= n) f.template operator()<2>(i), i += 2;
  if (i < n) f.template operator()<1>(i);
}

// R dot products of x's rows with one row of W. Four sums hide the latency of a multiply-add; the tail is added last.
template <class V, int R>
inline void dense_row(const float* x, ptrdiff_t x_stride, const float* w, ptrdiff_t inputs, float* y, ptrdiff_t y_stride) {
  constexpr ptrdiff_t L = V::kLanes;
  typename V::Float sum[R][4];
  for (int r = 0; r < R; ++r) {
    for (int u = 0; u < 4; ++u) sum[r][u] = V::zero();
  }
  ptrdiff_t i = 0;
  for (; i + 4 * L <= inputs; i += 4 * L) {
    for (int u = 0; u < 4; ++u) {
      ask_ahead(w + i + u * L);
      const typename V::Float weight = V::load(w + i + u * L);
      for (int r = 0; r < R; ++r) sum[r][u] = V::fma(V::load(x + r * x_stride + i + u * L), weight, sum[r][u]);
    }
  }
  for (; i + L <= inputs; i += L) {
    const typename V::Float weight = V::load(w + i);
    for (int r = 0; r < R; ++r) sum[r][0] = V::fma(V::load(x + r * x_stride + i), weight, sum[r][0]);
  }
  for (int r = 0; r < R; ++r) {
    float total = V::sum(V::add(V::add(sum[r][0], sum[r][1]), V::add(sum[r][2], sum[r][3])));
    for (ptrdiff_t j = i; j < inputs; ++j) total = __builtin_fmaf(x[r * x_stride + j], w[j], total);
    y[r * y_stride] = total;
  }
}

// The same of one row of x with four rows of W, `w_stride` apart: of short rows, whose products are no more work than adding up a
// register's lanes, which is done for all four at once. Each sum is taken in the order of dense_row.
template <class V>
inline void dense_four(const float* x, const float* w, ptrdiff_t w_stride, ptrdiff_t inputs, float* y) {
  constexpr ptrdiff_t L = V::kLanes;
  typename V::Float sum[4][4];
  for (int o = 0; o < 4; ++o) {
    for (int u = 0; u < 4; ++u) sum[o][u] = V::zero();
  }
  ptrdiff_t i = 0;
  for (; i + 4 * L <= inputs; i += 4 * L) {
    for (int u = 0; u < 4; ++u) {
      const typename V::Float value = V::load(x + i + u * L);
      for (int o = 0; o < 4; ++o) {
        ask_ahead(w + o * w_stride + i + u * L);
        sum[o][u] = V::fma(value, V::load(w + o * w_stride + i + u * L), sum[o][u]);
      }
    }
  }
  for (; i + L <= inputs; i += L) {
    const typename V::Float value = V::load(x + i);
    for (int o = 0; o < 4; ++o) sum[o][0] = V::fma(value, V::load(w + o * w_stride + i), sum[o][0]);
  }
  typename V::Float all[4];
  for (int o = 0; o < 4; ++o) all[o] = V::add(V::add(sum[o][0], sum[o][1]), V::add(sum[o][2], sum[o][3]));
  V::sum4(all, y);
  for (int o = 0; o < 4; ++o) {
    for (ptrdiff_t j = i; j < inputs; ++j) y[o] = __builtin_fmaf(x[j], w[o * w_stride + j], y[o]);
  }
}

template <class V>
void dense_rows(Rows x, const float* w, ptrdiff_t w_stride, ptrdiff_t outputs, ptrdiff_t inputs, Output y) {
  constexpr ptrdiff_t kShort = 512;
  ptrdiff_t o = 0;
  for (; inputs <= kShort && o + 4 <= outputs; o += 4) {
    for (ptrdiff_t n = 0; n < x.n; ++n) dense_four<V>(x.data + n * x.stride, w + o * w_stride, w_stride, inputs, y.data + n * y.stride + o);
  }
  for (; o < outputs; ++o) {
    in_groups(x.n, [&]<int R>(ptrdiff_t n) {
      dense_row<V, R>(x.data + n * x.stride, x.stride, w + o * w_stride, inputs, y.data + n * y.stride + o, y.stride);
    });
  }
}

// q8_0: scale·(Σ code·x) a block of 32, 34 bytes long.
template <class V, int R>
inline void q8_0_row(const float* x, ptrdiff_t x_stride, const std::uint8_t* block, ptrdiff_t inputs, float* y, ptrdiff_t y_stride) {
  constexpr ptrdiff_t L = V::kLanes;
  typename V::Float sum[R][2];
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = V::zero();
  const auto add = [&](const std::uint8_t* from, ptrdiff_t i, int chain) {
    ask_ahead(from);
    const typename V::Float scale = V::set(V::half(from));
    typename V::Float dot[R];
    for (ptrdiff_t u = 0; u < 32 / L; ++u) {
      const typename V::Float code = V::widen8(from + 2 + u * L);
      for (int r = 0; r < R; ++r) {
        const typename V::Float v = V::load(x + r * x_stride + i + u * L);
        dot[r] = u == 0 ? V::mul(code, v) : V::fma(code, v, dot[r]);
      }
    }
    for (int r = 0; r < R; ++r) sum[r][chain] = V::fma(scale, dot[r], sum[r][chain]);
  };
  ptrdiff_t i = 0;
  for (; i + 64 <= inputs; i += 64, block += 68) add(block, i, 0), add(block + 34, i + 32, 1);
  if (i < inputs) add(block, i, 0);
  for (int r = 0; r < R; ++r) y[r * y_stride] = V::sum(V::add(sum[r][0], sum[r][1]));
}

template <class V>
void q8_0_rows(Rows x, const QuantizedRows& w, Output y) {
  for (ptrdiff_t o = 0; o < w.rows; ++o) {
    const std::uint8_t* row = w.blocks + o * (w.cols / 32 * 34);
    in_groups(x.n, [&]<int R>(ptrdiff_t n) {
      q8_0_row<V, R>(x.data + n * x.stride, x.stride, row, w.cols, y.data + n * y.stride + o, y.stride);
    });
  }
}

// How a block of 4-bit codes lies: kDwords words of 4 bytes, after kHead bytes of scale; where its element `at(byte, high)` stands.
struct Q4_0 {
  static constexpr ptrdiff_t kLength = 32, kBytes = 18, kHead = 2, kDwords = 4;
  static ptrdiff_t at(ptrdiff_t byte, bool high) { return high ? byte + 16 : byte; }
};
struct Int4 {
  static constexpr ptrdiff_t kLength = 64, kBytes = 34, kHead = 2, kDwords = 8;
  static ptrdiff_t at(ptrdiff_t byte, bool high) { return high ? byte + 32 : byte; }
};
struct Nf4 {
  static constexpr ptrdiff_t kLength = 64, kBytes = 32, kHead = 0, kDwords = 8;
  static ptrdiff_t at(ptrdiff_t byte, bool high) { return 2 * byte + (high ? 0 : 1); }
};

// A register holds kLanes words of 8 codes: of `kBlocks` blocks. Code j of every word is taken at once, so x lies as [group][j][lane].
template <class V, class F>
constexpr ptrdiff_t kBlocks = V::kLanes / F::kDwords;
template <class V>
constexpr ptrdiff_t kGroup = 8 * V::kLanes;  // numbers a register

template <class V>
ptrdiff_t arranged_size(ptrdiff_t inputs) {
  return up_to(inputs, kGroup<V>);
}

template <class V, class F>
void arrange_for(const float* x, ptrdiff_t inputs, float* out) {
  for (ptrdiff_t group = 0; group < inputs; group += kGroup<V>) {
    for (ptrdiff_t j = 0; j < 8; ++j) {
      for (ptrdiff_t lane = 0; lane < V::kLanes; ++lane, ++out) {
        const ptrdiff_t i = group + lane / F::kDwords * F::kLength + F::at(lane % F::kDwords * 4 + j / 2, j % 2 == 1);
        *out = i < inputs ? x[i] : 0.0f;
      }
    }
  }
}
template <class V>
void arrange(Format format, const float* x, ptrdiff_t inputs, float* out) {
  format == Format::q4_0   ? arrange_for<V, Q4_0>(x, inputs, out)
  : format == Format::int4 ? arrange_for<V, Int4>(x, inputs, out)
                           : arrange_for<V, Nf4>(x, inputs, out);
}

// R dot products of arranged x with one row of W: scale·(Σ level[code]·x) a block.
template <class V, class F, int R>
inline void nibble_row(const float* x, ptrdiff_t x_stride, const std::uint8_t* block, const float* level_of, const float* scales,
                       ptrdiff_t blocks, float* y, ptrdiff_t y_stride) {
  constexpr ptrdiff_t L = V::kLanes, B = kBlocks<V, F>;
  const typename V::Table levels = V::table(level_of);
  typename V::Float sum[R];
  for (int r = 0; r < R; ++r) sum[r] = V::zero();
  const auto add = [&](const std::uint8_t* from, [[maybe_unused]] const float* scale_of, const float* xs) {
    ask_ahead(from);
    const typename V::Int codes = V::template load_dwords<F::kDwords, F::kBytes>(from + F::kHead);
    typename V::Float dot[R];
    for (int j = 0; j < 8; ++j) {
      const typename V::Float level = V::lookup(V::shift(codes, 4 * j), levels);
      for (int r = 0; r < R; ++r) {
        const typename V::Float v = V::load(xs + r * x_stride + j * L);
        dot[r] = j == 0 ? V::mul(level, v) : V::fma(level, v, dot[r]);
      }
    }
    typename V::Float scale;
    if constexpr (F::kHead == 0) {
      scale = V::template spread_scales<F::kDwords>(scale_of);
    } else {
      scale = V::template spread_halves<F::kDwords, F::kBytes>(from);
    }
    for (int r = 0; r < R; ++r) sum[r] = V::fma(scale, dot[r], sum[r]);
  };
  ptrdiff_t b = 0;
  for (; b + B <= blocks; b += B) add(block + b * F::kBytes, scales + (F::kHead == 0 ? b : 0), x + b * F::kLength);
  if (b < blocks) {  // fewer than a register holds: beside zeros
    alignas(64) std::uint8_t rest[B * F::kBytes] = {};
    float rest_scales[B] = {};
    std::memcpy(rest, block + b * F::kBytes, static_cast<std::size_t>((blocks - b) * F::kBytes));
    for (ptrdiff_t k = b; F::kHead == 0 && k < blocks; ++k) rest_scales[k - b] = scales[k];
    add(rest, rest_scales, x + b * F::kLength);
  }
  for (int r = 0; r < R; ++r) y[r * y_stride] = V::sum(sum[r]);
}

template <class V, class F>
void nibble_rows_of(Rows x, const QuantizedRows& w, Output y) {
  const ptrdiff_t blocks = w.cols / F::kLength;
  const float* level_of = F::kHead == 0 ? w.levels : kCentred;
  for (ptrdiff_t o = 0; o < w.rows; ++o) {
    in_groups(x.n, [&]<int R>(ptrdiff_t n) {
      nibble_row<V, F, R>(x.data + n * x.stride, x.stride, w.blocks + o * blocks * F::kBytes, level_of,
                          w.scales + (F::kHead == 0 ? o * blocks : 0), blocks, y.data + n * y.stride + o, y.stride);
    });
  }
}
template <class V>
void nibble_rows(Rows x, const QuantizedRows& w, Output y) {
  w.format == Format::q4_0   ? nibble_rows_of<V, Q4_0>(x, w, y)
  : w.format == Format::int4 ? nibble_rows_of<V, Int4>(x, w, y)
                             : nibble_rows_of<V, Nf4>(x, w, y);
}

}  // namespace
}  // namespace glassformer::ops::kernels
