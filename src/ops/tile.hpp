// A small matrix product on tiles that lie in cache, for the attention kernels: too small for a packed GEMM to pay.
// The vectors are 64 bytes; a processor without AVX-512 works on halves or quarters of them.
#pragma once
#include <cstring>

#include "glassformer/core/matrix.hpp"

namespace glassformer::ops {

template <class S> constexpr Index kTileLanes = 64 / static_cast<Index>(sizeof(S));
inline Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

namespace detail {

template <class S> struct TileVector {
  typedef S Type __attribute__((vector_size(64)));
};

// R rows times V vectors of c in registers.
template <class S, int R, int V>
inline void tile_registers(Index k, const S* a, Index a_row, Index a_col, const S* b, Index ldb, S* c, Index ldc, bool accumulate) {
  using Vec = typename TileVector<S>::Type;
  constexpr Index L = kTileLanes<S>;
  Vec sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      if (accumulate) {
        std::memcpy(&sum[r][v], c + r * ldc + v * L, 64);
      } else {
        sum[r][v] = Vec{};
      }
    }
  }
  for (Index i = 0; i < k; ++i) {
    Vec row[V];
    for (int v = 0; v < V; ++v) std::memcpy(&row[v], b + i * ldb + v * L, 64);
    for (int r = 0; r < R; ++r) {
      const S x = a[r * a_row + i * a_col];
      for (int v = 0; v < V; ++v) sum[r][v] += x * row[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) std::memcpy(c + r * ldc + v * L, &sum[r][v], 64);
  }
}

template <class S, int R> inline void tile_columns(Index vectors, Index k, const S* a, Index a_row, Index a_col, const S* b, Index ldb, S* c, Index ldc, bool accumulate) {
  constexpr Index L = kTileLanes<S>;
  Index v = 0;
#ifdef __AVX512F__
  for (; v + 4 <= vectors; v += 4) tile_registers<S, R, 4>(k, a, a_row, a_col, b + v * L, ldb, c + v * L, ldc, accumulate);
  for (; v + 2 <= vectors; v += 2) tile_registers<S, R, 2>(k, a, a_row, a_col, b + v * L, ldb, c + v * L, ldc, accumulate);
#endif
  for (; v < vectors; ++v) tile_registers<S, R, 1>(k, a, a_row, a_col, b + v * L, ldb, c + v * L, ldc, accumulate);
}

}  // namespace detail

// c [m, n] (+)= a·b with a_ij = a[i·a_row + j·a_col] (so a may be transposed), b [k, n], n a multiple of the lanes.
template <class S>
void tile_product(Index m, Index n, Index k, const S* a, Index a_row, Index a_col, const S* b, Index ldb, S* c, Index ldc, bool accumulate) {
  const Index vectors = n / kTileLanes<S>;
  Index i = 0;
  for (; i + 6 <= m; i += 6) detail::tile_columns<S, 6>(vectors, k, a + i * a_row, a_row, a_col, b, ldb, c + i * ldc, ldc, accumulate);
  for (; i + 2 <= m; i += 2) detail::tile_columns<S, 2>(vectors, k, a + i * a_row, a_row, a_col, b, ldb, c + i * ldc, ldc, accumulate);
  for (; i < m; ++i) detail::tile_columns<S, 1>(vectors, k, a + i * a_row, a_row, a_col, b, ldb, c + i * ldc, ldc, accumulate);
}

}  // namespace glassformer::ops
