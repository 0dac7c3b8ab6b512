// The innermost loops of a matrix product on operands that lie in cache, in vectors of L numbers. Included by one source file for each
// instruction set; everything is in an unnamed namespace, so that no instruction set's code is taken for another's.
#pragma once
#include <cstring>

#include "ops/kernels/kernels.hpp"

namespace glassformer::ops::kernels {
namespace {

// R rows and V vectors of c in registers: two loads of b and R of a for 2·R multiply-adds.
template <class S, int L, int R, int V, bool kRowsAdjacent>
[[gnu::always_inline]] inline void registers(const Product<S>& p, const S* a, const S* b, S* c) {
  typedef S Vec __attribute__((vector_size(L * sizeof(S))));
  const ptrdiff_t a_row = kRowsAdjacent ? 1 : p.a_row, a_col = kRowsAdjacent ? p.a_col : 1;
  for (int r = 0; r < R; ++r) __builtin_prefetch(c + r * p.c_row, 1);  // has all of the loop to arrive
  for (ptrdiff_t x = p.ahead_begin; !kRowsAdjacent && x < p.ahead_end; x += 64 / sizeof(S)) {
    // as a number: of a shorter block some rows would lie beyond its end
    for (int r = 0; r < R; ++r) {
      __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p.ahead) + sizeof(S) * static_cast<std::size_t>(a - p.a + r * a_row + x)));
    }
  }
  Vec sum[R][V] = {};
  for (ptrdiff_t i = 0; i < p.k; ++i) {
    Vec row[V];
    for (int v = 0; v < V; ++v) std::memcpy(&row[v], b + i * p.b_row + v * L, sizeof(Vec));
    for (int r = 0; r < R; ++r) {
      const S x = a[r * a_row + i * a_col];
      for (int v = 0; v < V; ++v) sum[r][v] += x * row[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      S* to = c + r * p.c_row + v * L;
      Vec before = {};
      if (p.accumulate) std::memcpy(&before, to, sizeof(Vec));
      before += p.alpha * sum[r][v];
      std::memcpy(to, &before, sizeof(Vec));
    }
  }
}

// Rows [i, m) of c, R at a time, of a whose rows come in groups of kRows.
template <class S, int L, int kRows, int R, int V, bool kRowsAdjacent>
[[gnu::always_inline]] inline void rows_by(ptrdiff_t& i, const Product<S>& p, ptrdiff_t j) {
  const ptrdiff_t group = p.a_group ? p.a_group : kRows * (kRowsAdjacent ? 1 : p.a_row);
  for (; i + R <= p.m; i += R) {
    const S* a = p.a + i / kRows * group + i % kRows * (kRowsAdjacent ? 1 : p.a_row);
    registers<S, L, R, V, kRowsAdjacent>(p, a, p.b + j, p.c + i * p.c_row + j);
  }
}

template <class S, int L, int kRows, int V, bool kRowsAdjacent>
inline void columns_by(ptrdiff_t& j, const Product<S>& p) {
  for (; j + V * L <= p.n; j += V * L) {
    ptrdiff_t i = 0;
    rows_by<S, L, kRows, kRows, V, kRowsAdjacent>(i, p, j);
    rows_by<S, L, kRows, 4, V, kRowsAdjacent>(i, p, j);
    rows_by<S, L, kRows, 2, V, kRowsAdjacent>(i, p, j);
    rows_by<S, L, kRows, 1, V, kRowsAdjacent>(i, p, j);
  }
}

template <ProductTile tile, class S>
void product(const Product<S>& p) {
  constexpr int L = tile.vector_bytes / static_cast<int>(sizeof(S));
  ptrdiff_t j = 0;
  if (p.a_row == 1) {
    columns_by<S, L, tile.rows, 2, true>(j, p), columns_by<S, L, tile.rows, 1, true>(j, p);
  } else {
    columns_by<S, L, tile.rows, 2, false>(j, p), columns_by<S, L, tile.rows, 1, false>(j, p);
  }
}

}  // namespace
}  // namespace glassformer::ops::kernels
