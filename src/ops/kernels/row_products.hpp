// The loops, over a vector type V of one instruction set. Included by one source file for each; everything is in an unnamed namespace, or
// the linker might take one file's instructions for another's.
//   V::Float, V::Int, V::kLanes, load, load_first (n < kLanes numbers, and zeros), set, zero, mul, fma(a, b, c) = a·b + c, sum, sum4 (of
//   four vectors, as sum), widen8 (int8 → numbers), load_dwords, shift, lookup, widen_halves (of 64-bit words of four fp16), spread (where
//   V::kStreams)
//   V::Steps<F>: codes of 4 bits as numbers; V::kChains: sums of a dense row that hide the latency of a multiply-add
//   V::kStreams: the processor's own prefetch follows several rows at once, a part of W apart, and reads faster so than one row after
//   another, asked for ahead (measured on Zen 3: 42 to 30 GB/s). On Zen 4 asking was measured to help, and streams were not tried.
#pragma once
#include <cstring>

#include "ops/kernels/kernels.hpp"

namespace glassformer::ops::kernels {
namespace {

// W is read once and from memory: asked for 2 KB ahead, a core gets more of it than by itself. An address
// ahead may be none of ours, which a processor passes over.
inline std::uintptr_t ahead_of(const void* p, ptrdiff_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(bytes);
}
template <class V>
inline void ask_ahead(const void* p) {
  if constexpr (!V::kStreams) __builtin_prefetch(reinterpret_cast<const void*>(ahead_of(p, 2048)), 0, 3);
}

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

// A function of its own, or the registers that its loops need would hold what the other tiles need.
template <class V, class F>
[[gnu::noinline, gnu::flatten]] void in_fours(ptrdiff_t tiles, ptrdiff_t apart, ptrdiff_t n, F f) {
  for (ptrdiff_t t = 0; t < tiles; ++t) {
    for (ptrdiff_t token = 0; token < n; ++token) f.template operator()<4, 1>(V::kStreams ? t : 4 * t, apart, token);
  }
}

// Calls f(rows of W and of x, both constants; first row of W, how far apart they are, first row of x) so that every row of W meets every
// row of x: one row of W with up to eight of x, or `fours`: four of W, a quarter of W apart where V::kStreams, with one of x.
template <class V, bool kMayBeFours, class F>
inline void in_tiles(ptrdiff_t outputs, ptrdiff_t n, bool fours, F&& f) {
  const ptrdiff_t tiles = kMayBeFours && fours ? outputs / 4 : 0, apart = V::kStreams ? tiles : 1;
  if constexpr (kMayBeFours) {
    if (tiles > 0) in_fours<V>(tiles, apart, n, f);
  }
  for (ptrdiff_t o = 4 * tiles; o < outputs; ++o) {
    in_groups(n, [&]<int R>(ptrdiff_t token) { f.template operator()<1, R>(o, 0, token); });
  }
}

// y [R, O] from sums of lanes, O outputs `apart`.
template <class V, int O, int R>
inline void put_sums(const typename V::Float (&sum)[O][R], float* y, ptrdiff_t y_stride, ptrdiff_t apart) {
  for (int r = 0; r < R; ++r) {
    if constexpr (O == 4) {
      const typename V::Float rows[4] = {sum[0][r], sum[1][r], sum[2][r], sum[3][r]};
      float four[4];
      V::sum4(rows, four);
      for (int o = 0; o < 4; ++o) y[r * y_stride + o * apart] = four[o];
    } else {
      for (int o = 0; o < O; ++o) y[r * y_stride + o * apart] = V::sum(sum[o][r]);
    }
  }
}

// O rows of W, `w_stride` apart, times R rows of x.
template <class V, int O, int R>
inline void dense_tile(const float* x, ptrdiff_t x_stride, const float* w, ptrdiff_t w_stride, ptrdiff_t inputs, float* y,
                       ptrdiff_t y_stride, ptrdiff_t apart) {
  constexpr ptrdiff_t L = V::kLanes, C = V::kChains;
  typename V::Float sum[O][R][C], all[O][R];
  for (int o = 0; o < O; ++o) {
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) sum[o][r][c] = V::zero();
    }
  }
  // Both pointers go along: of rows that lie at multiples of a stride from one pointer, two are addressed without a register of their own.
  const auto add = [&](int chain, auto load) {
    typename V::Float value[R];
    for (int r = 0; r < R; ++r) value[r] = load(x + r * x_stride);
    for (int o = 0; o < O; ++o) {
      ask_ahead<V>(w + o * w_stride);
      const typename V::Float weight = load(w + o * w_stride);
      for (int r = 0; r < R; ++r) sum[o][r][chain] = V::fma(value[r], weight, sum[o][r][chain]);
    }
    x += L, w += L;
  };
  ptrdiff_t left = inputs;
  for (; left >= C * L; left -= C * L) {
    for (int c = 0; c < C; ++c) add(c, V::load);
  }
  for (; left >= L; left -= L) add(0, V::load);
  if (left > 0) add(1, [left](const float* p) { return V::load_first(p, left); });
  for (int o = 0; o < O; ++o) {
    for (int r = 0; r < R; ++r) {
      all[o][r] = V::add(sum[o][r][0], sum[o][r][1]);
      if constexpr (C == 4) all[o][r] = V::add(all[o][r], V::add(sum[o][r][2], sum[o][r][3]));
    }
  }
  put_sums<V, O, R>(all, y, y_stride, apart);
}

template <class V>
void dense_rows(Rows x, const float* w, ptrdiff_t w_stride, ptrdiff_t outputs, ptrdiff_t inputs, Output y) {
  constexpr ptrdiff_t kShort = 512;  // of shorter rows the products are no more work than adding up lanes, which is done for four at once
  in_tiles<V, true>(outputs, x.n, V::kStreams || inputs <= kShort, [=]<int O, int R>(ptrdiff_t o, ptrdiff_t apart, ptrdiff_t n) {
    dense_tile<V, O, R>(x.data + n * x.stride, x.stride, w + o * w_stride, apart * w_stride, inputs, y.data + n * y.stride + o, y.stride,
                        apart);
  });
}

// The fp16 scales of four rows, `stride` bytes apart, in one word, put together in registers: what was just stored in pieces is slow to
// load.
inline std::uint64_t four_halves(const std::uint8_t* p, ptrdiff_t stride) {
  std::uint64_t word = 0;
  for (int r = 0; r < 4; ++r) {
    std::uint16_t half;
    std::memcpy(&half, p + r * stride, 2);
    word |= std::uint64_t{half} << 16 * r;
  }
  return word;
}

// q8_0: scale·(Σ code·x) a block of 32, 34 bytes long.
template <class V, int O, int R>
inline void q8_0_tile(const float* x, ptrdiff_t x_stride, const std::uint8_t* block, ptrdiff_t stride, ptrdiff_t inputs, float* y,
                      ptrdiff_t y_stride, ptrdiff_t apart) {
  constexpr ptrdiff_t L = V::kLanes;
  typename V::Float sum[O][R][2], all[O][R];
  for (int o = 0; o < O; ++o) {
    for (int r = 0; r < R; ++r) sum[o][r][0] = sum[o][r][1] = V::zero();
  }
  const auto add = [&](const std::uint8_t* from, ptrdiff_t i, int chain) {
    typename V::Float scale[O], dot[O][R];
    if constexpr (O == 4) {
      V::spread(four_halves(from, stride), four_halves(from, stride), scale);
    } else {
      scale[0] = V::set(V::half(from));
    }
    ask_ahead<V>(from);
    for (ptrdiff_t u = 0; u < 32 / L; ++u) {
      typename V::Float value[R];
      for (int r = 0; r < R; ++r) value[r] = V::load(x + r * x_stride + i + u * L);
      for (int o = 0; o < O; ++o) {
        const typename V::Float code = V::widen8(from + o * stride + 2 + u * L);
        for (int r = 0; r < R; ++r) dot[o][r] = u == 0 ? V::mul(code, value[r]) : V::fma(code, value[r], dot[o][r]);
      }
    }
    for (int o = 0; o < O; ++o) {
      for (int r = 0; r < R; ++r) sum[o][r][chain] = V::fma(scale[o], dot[o][r], sum[o][r][chain]);
    }
  };
  ptrdiff_t i = 0;
  for (; i + 64 <= inputs; i += 64, block += 68) add(block, i, 0), add(block + 34, i + 32, 1);
  if (i < inputs) add(block, i, 0);
  for (int o = 0; o < O; ++o) {
    for (int r = 0; r < R; ++r) all[o][r] = V::add(sum[o][r][0], sum[o][r][1]);
  }
  put_sums<V, O, R>(all, y, y_stride, apart);
}

template <class V>
void q8_0_rows(Rows x, const QuantizedRows& w, Output y) {
  const ptrdiff_t row_bytes = w.cols / 32 * 34;
  in_tiles<V, V::kStreams>(w.rows, x.n, x.n == 1, [&]<int O, int R>(ptrdiff_t o, ptrdiff_t apart, ptrdiff_t n) {
    q8_0_tile<V, O, R>(x.data + n * x.stride, x.stride, w.blocks + o * row_bytes, apart * row_bytes, w.cols, y.data + n * y.stride + o,
                       y.stride, apart);
  });
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

// A group: a register of kLanes words of 8 codes, which are those of kBlocks blocks; V::Steps<F> takes eight registers of numbers out of
// it, one after another. x lies likewise, [group][8][lane], and after each group [lane] what its sum begins with.
template <class V, class F>
constexpr ptrdiff_t kBlocks = V::kLanes / F::kDwords;
template <class V>
constexpr ptrdiff_t kArranged = 9 * V::kLanes;

template <class V>
ptrdiff_t arranged_size(ptrdiff_t inputs) {
  return up_to(inputs, 8 * V::kLanes) / 8 * 9;
}

// Number j of a lane, where each word's codes are taken out of it in order.
template <class F>
inline ptrdiff_t place_in_word(ptrdiff_t lane, ptrdiff_t j) {
  return lane / F::kDwords * F::kLength + F::at(lane % F::kDwords * 4 + j / 2, j % 2 == 1);
}

// The numbers that codes stand for, out of a table. What another Steps has instead: numbers that are factor(j) times too small and, in
// that measure, `kOffset` too large.
template <class V, class F>
struct LookedUp {
  static constexpr float kOffset = 0;
  static constexpr bool kRowByRow = true;
  static float factor(ptrdiff_t) { return 1; }
  static ptrdiff_t place(ptrdiff_t lane, ptrdiff_t j) { return place_in_word<F>(lane, j); }
  static typename V::Table table(const float* nf4_levels) {
    static constexpr float kCentred[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};  // q4_0 and int4: code less 8
    return V::table(F::kHead == 0 ? nf4_levels : kCentred);
  }
  typename V::Int codes;
  void load(const std::uint8_t* from) { codes = V::template load_dwords<F::kDwords, F::kBytes>(from); }
  typename V::Float number(int j, const typename V::Table& levels) const { return V::lookup(V::shift(codes, 4 * j), levels); }
};

template <class V, class F>
void arrange_for(const float* x, ptrdiff_t inputs, float* out) {
  using Steps = typename V::template Steps<F>;
  for (ptrdiff_t group = 0; group < inputs; group += 8 * V::kLanes, out += kArranged<V>) {
    for (ptrdiff_t lane = 0; lane < V::kLanes; ++lane) {
      float sum = 0;
      for (ptrdiff_t j = 0; j < 8; ++j) {
        const ptrdiff_t i = group + Steps::place(lane, j);
        const float value = i < inputs ? x[i] : 0.0f;
        out[j * V::kLanes + lane] = Steps::factor(j) * value;
        sum += value;
      }
      out[8 * V::kLanes + lane] = -Steps::kOffset * sum;
    }
  }
}
template <class V>
void arrange(Format format, const float* x, ptrdiff_t inputs, float* out) {
  format == Format::q4_0   ? arrange_for<V, Q4_0>(x, inputs, out)
  : format == Format::int4 ? arrange_for<V, Int4>(x, inputs, out)
                           : arrange_for<V, Nf4>(x, inputs, out);
}

// O rows of W, `apart`, times R rows of arranged x: scale·(Σ number·x) a block.
template <class V, class F, int O, int R>
inline void nibble_tile(const float* x, ptrdiff_t x_stride, const QuantizedRows& w, ptrdiff_t first, ptrdiff_t apart, float* y,
                        ptrdiff_t y_stride) {
  constexpr ptrdiff_t L = V::kLanes, B = kBlocks<V, F>;
  using Steps = typename V::template Steps<F>;
  const ptrdiff_t blocks = w.cols / F::kLength;
  const std::uint8_t* block = w.blocks + first * blocks * F::kBytes;
  const float* scales = F::kHead == 0 ? w.scales + first * blocks : nullptr;
  const auto levels = Steps::table(w.levels);
  typename V::Float sum[O][R];
  for (int o = 0; o < O; ++o) {
    for (int r = 0; r < R; ++r) sum[o][r] = V::zero();
  }
  const auto add = [&](const std::uint8_t* from, ptrdiff_t stride, [[maybe_unused]] const float* scale_of,
                       [[maybe_unused]] ptrdiff_t scale_stride, const float* xs) {
    Steps steps[O];
    typename V::Float dot[O][R], scale[O];
    for (int o = 0; o < O; ++o) {
      ask_ahead<V>(from + o * stride);
      steps[o].load(from + o * stride + F::kHead);
      for (int r = 0; r < R; ++r) dot[o][r] = V::load(xs + r * x_stride + 8 * L);
    }
    const auto step = [&](int o, int j) {
      const typename V::Float number = steps[o].number(j, levels);
      for (int r = 0; r < R; ++r) dot[o][r] = V::fma(number, V::load(xs + r * x_stride + j * L), dot[o][r]);
    };
    if constexpr (Steps::kRowByRow) {
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) step(o, j);
      }
    } else {
      for (int j = 0; j < 8; ++j) {
        for (int o = 0; o < O; ++o) step(o, j);
      }
    }
    if constexpr (F::kHead == 0) {
      for (int o = 0; o < O; ++o) scale[o] = V::template spread_scales<F::kDwords>(scale_of + o * scale_stride);
    } else if constexpr (O == 4) {
      V::spread(four_halves(from, stride), four_halves(from + (B - 1) * F::kBytes, stride), scale);
    } else {
      for (int o = 0; o < O; ++o) scale[o] = V::template spread_halves<F::kDwords, F::kBytes>(from + o * stride);
    }
    for (int o = 0; o < O; ++o) {
      for (int r = 0; r < R; ++r) sum[o][r] = V::fma(scale[o], dot[o][r], sum[o][r]);
    }
  };
  const ptrdiff_t stride = apart * blocks * F::kBytes;
  ptrdiff_t b = 0;
  for (; b + B <= blocks; b += B, x += kArranged<V>)
    add(block + b * F::kBytes, stride, F::kHead == 0 ? scales + b : nullptr, apart * blocks, x);
  if (b < blocks) {  // fewer than a register holds: beside zeros
    constexpr ptrdiff_t kWhole = B * F::kBytes;
    alignas(64) std::uint8_t rest[O * kWhole] = {};
    float rest_scales[O * B] = {};
    for (ptrdiff_t o = 0; o < O; ++o) {
      std::memcpy(rest + o * kWhole, block + o * stride + b * F::kBytes, static_cast<std::size_t>((blocks - b) * F::kBytes));
      for (ptrdiff_t k = b; F::kHead == 0 && k < blocks; ++k) rest_scales[o * B + k - b] = scales[o * apart * blocks + k];
    }
    add(rest, kWhole, rest_scales, B, x);
  }
  put_sums<V, O, R>(sum, y, y_stride, apart);
}

template <class V, class F>
void nibble_rows_of(Rows x, const QuantizedRows& w, Output y) {
  in_tiles<V, V::kStreams>(w.rows, x.n, x.n == 1, [&]<int O, int R>(ptrdiff_t o, ptrdiff_t apart, ptrdiff_t n) {
    nibble_tile<V, F, O, R>(x.data + n * x.stride, x.stride, w, o, apart, y.data + n * y.stride + o, y.stride);
  });
}
template <class V>
void nibble_rows(Rows x, const QuantizedRows& w, Output y) {
  w.format == Format::q4_0   ? nibble_rows_of<V, Q4_0>(x, w, y)
  : w.format == Format::int4 ? nibble_rows_of<V, Int4>(x, w, y)
                             : nibble_rows_of<V, Nf4>(x, w, y);
}

}  // namespace
}  // namespace glassformer::ops::kernels
