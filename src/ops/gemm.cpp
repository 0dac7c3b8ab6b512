// b is cut into blocks of kInner × kColumns and copied, so that the innermost loop reads it from the first to the last number; a is read where it lies, unless
// transposed: then it is copied, too, kRows × kInner at a time. What a loop touches fits into a cache: a strip of b, two vectors wide and kInner long, into the first
// level (the second, where a vector has 64 bytes); a's block into the second; b's block into the third.
#include "ops/gemm.hpp"

#include <algorithm>
#include <cstring>

#include "glassformer/core/require.hpp"
#include "ops/kernels/kernels.hpp"
#include "ops/transpose.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kRows = 96, kInner = 384, kColumns = 1024;  // what fits the caches named above; `glassformer bench matmul` compares others

// This thread's memory for copies: allocated once, then used by every product.
template <class S> struct Copies {
  static constexpr Index kWidest = 2 * 64 / static_cast<Index>(sizeof(S));  // two vectors of any processor
  Vector<S> b{kInner * (kColumns + kWidest)}, a{kInner * (kRows + kWidest)}, edge{kRows * kWidest};
};
template <class S> Copies<S>& copies() {
  static thread_local Copies<S> memory;
  return memory;
}

// f with the width of a strip as a constant, so that copying one is a few instructions: two vectors, or the rows of a tile.
template <class F> void of_width(Index width, F&& f) {
  switch (width) {
    case 4: return f(std::integral_constant<Index, 4>{});
    case 6: return f(std::integral_constant<Index, 6>{});
    case 8: return f(std::integral_constant<Index, 8>{});
    case 12: return f(std::integral_constant<Index, 12>{});
    case 16: return f(std::integral_constant<Index, 16>{});
    case 32: return f(std::integral_constant<Index, 32>{});
    default: require(false, "gemm: no strip is {} wide", width);
  }
}

// to [rows][width] ← that many rows of b: constants, so that all of it is in registers.
template <Index rows, Index width, class S> [[gnu::always_inline]] inline void copy_piece(const S* b, Index ldb, S* to) {
  for (Index i = 0; i < rows; ++i) std::memcpy(to + i * width, b + i * ldb, width * sizeof(S));
}

// strips [n/width][k][width] ← b [k, n], zeros beyond n
template <Index width, class S> void copy_rows(const S* b, Index ldb, Index k, Index n, S* strips) {
  constexpr Index kTogether = 8;  // rows of b: few enough to be read on from where they lie in memory, many enough to be written on
  for (Index i = 0; i < k; i += kTogether, b += kTogether * ldb, strips += kTogether * width) {
    const Index rows = std::min(k - i, kTogether);
    Index j = 0;
    for (; rows == kTogether && j + width <= n; j += width) copy_piece<kTogether, width>(b + j, ldb, strips + j * k);
    for (; j < n; j += width) {
      for (Index r = 0; r < rows; ++r) {
        for (Index x = 0; x < width; ++x) strips[j * k + r * width + x] = j + x < n ? b[r * ldb + j + x] : S(0);
      }
    }
  }
}
template <class S> void copy_rows(const S* b, Index ldb, Index k, Index n, Index strip, S* strips) {
  of_width(strip, [&](auto width) { copy_rows<width()>(b, ldb, k, n, strips); });
}

// strips [n/width][k][width] ← bᵀ for b [n, k], zeros beyond n
template <class S> void copy_columns(const S* b, Index ldb, Index k, Index n, Index strip, S* strips) {
  of_width(strip, [&](auto width) {
    for (Index j = 0; j < n; j += width, strips += k * width) {
      const Index here = std::min<Index>(width, n - j);
      if (here < width) std::fill_n(strips, k * width, S(0));
      transpose(b + j * ldb, ldb, here, k, strips, Index{width});
    }
  });
}

// The `strip`th of so many strips fetches its share of the cache lines that come next: with each tile a few, which arrive while it is computed.
template <class S> void fetch_part(kernels::Product<S>& p, Index strip, Index strips) {
  constexpr Index line = 64 / static_cast<Index>(sizeof(S));
  const Index lines = (p.k + line - 1) / line;
  p.ahead_begin = p.ahead ? lines * strip / strips * line : 0;
  p.ahead_end = p.ahead ? lines * (strip + 1) / strips * line : 0;
}

template <class S> void scale(const Gemm<S>& g) {
  for (Index i = 0; i < g.m; ++i) {
    for (Index j = 0; j < g.n; ++j) g.c[i * g.ldc + j] *= g.beta;
  }
}

}  // namespace

template <class S> void gemm(const Gemm<S>& g) {
  const kernels::ProductTile tile = kernels::chosen().tile;
  const Index lanes = tile.vector_bytes / static_cast<Index>(sizeof(S)), width = 2 * lanes, group = tile.rows;
  Copies<S>& copy = copies<S>();
  if (g.beta != S(0) && g.beta != S(1)) scale(g);
  for (Index column = 0; column < g.n; column += kColumns) {
    const Index n = std::min(kColumns, g.n - column);
    Index inner = 0;
    do {  // once also where there are no terms: c is then nothing, or beta·c
      const Index k = std::min(kInner, g.k - inner);
      if (k == 0) {  // nothing to copy
      } else if (g.transpose_b) {
        copy_columns(g.b + column * g.ldb + inner, g.ldb, k, n, width, copy.b.data());
      } else {
        copy_rows(g.b + inner * g.ldb + column, g.ldb, k, n, width, copy.b.data());
      }
      for (Index row = 0; row < g.m; row += kRows) {
        kernels::Product<S> p{.m = std::min(kRows, g.m - row), .k = k, .b_row = width, .alpha = g.alpha, .accumulate = inner > 0 || g.beta != S(0)};
        if (k == 0) {  // nothing to read
        } else if (g.transpose_a) {  // [m/group][k][group]
          copy_rows(g.a + inner * g.lda + row, g.lda, k, p.m, group, copy.a.data());
          p.a = copy.a.data(), p.a_row = 1, p.a_col = group, p.a_group = group * k;
        } else {
          p.a = g.a + row * g.lda + inner, p.a_row = g.lda, p.a_col = 1;
          // The next block of a, which would otherwise come from memory while the first strip of b waits for it
          p.ahead = row + kRows < g.m ? p.a + kRows * g.lda : inner + k < g.k ? g.a + inner + k : nullptr;
        }
        for (Index j = 0; j < n; j += width) {
          S* c = g.c + row * g.ldc + column + j;
          const Index w = std::min(width, n - j);
          fetch_part(p, j / width, (n + width - 1) / width);
          p.b = copy.b.data() + j * k, p.n = round_up(w, lanes), p.c = c, p.c_row = g.ldc;
          if (w == p.n) {
            tile_product(p);
          } else {  // c has no room for whole vectors: in a copy
            S* edge = copy.edge.data();
            p.c = edge, p.c_row = width;
            for (Index i = 0; p.accumulate && i < p.m; ++i) std::copy_n(c + i * g.ldc, w, edge + i * width);
            tile_product(p);
            for (Index i = 0; i < p.m; ++i) std::copy_n(edge + i * width, w, c + i * g.ldc);
          }
          if (g.bias && inner + k == g.k) {
            for (Index i = 0; i < p.m; ++i) {
              for (Index x = 0; x < w; ++x) c[i * g.ldc + x] += g.bias[column + j + x];
            }
          }
        }
      }
      inner += kInner;
    } while (inner < g.k);
  }
}
template void gemm<float>(const Gemm<float>&);
template void gemm<double>(const Gemm<double>&);

}  // namespace glassformer::ops
