// Transposed copies for matrix products, four rows of four at a time: number by number a copy takes as long as the product that it is for, where that is small.
#pragma once
#include <cstring>

#include "glassformer/core/matrix.hpp"

namespace glassformer::ops {

// Four rows of four, transposed: to[i·to_row + t] ← from[t·from_row + i]
template <class S> void transpose4(const S* from, Index from_row, S* to, Index to_row) {
  typedef S Vec __attribute__((vector_size(4 * sizeof(S))));
  Vec x[4];
  for (Index t = 0; t < 4; ++t) std::memcpy(&x[t], from + t * from_row, sizeof(Vec));
  const Vec a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5), b = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
  const Vec c = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7), d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  const Vec y[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7), __builtin_shufflevector(c, d, 0, 1, 4, 5),
                    __builtin_shufflevector(c, d, 2, 3, 6, 7)};
  for (Index i = 0; i < 4; ++i) std::memcpy(to + i * to_row, &y[i], sizeof(Vec));
}

// to [m, n] ← fromᵀ for from [n, m]; rows of `from` and of `to` are from_row and to_row apart.
template <class S> void transpose(const S* from, Index from_row, Index n, Index m, S* to, Index to_row) {
  Index t = 0;
  for (; t + 4 <= n; t += 4) {
    const Index next = t + 8 <= n ? 4 * from_row : 0;  // to the four rows after these
    Index i = 0;
    for (; i + 16 <= m; i += 16) {
      for (Index x = t; x < t + 4; ++x) __builtin_prefetch(from + next + x * from_row + i);  // a line of each of them
      for (Index c = i; c < i + 16; c += 4) transpose4(from + t * from_row + c, from_row, to + c * to_row + t, to_row);
    }
    for (; i + 4 <= m; i += 4) transpose4(from + t * from_row + i, from_row, to + i * to_row + t, to_row);
    for (; i < m; ++i) {
      for (Index x = t; x < t + 4; ++x) to[i * to_row + x] = from[x * from_row + i];
    }
  }
  for (; t < n; ++t) {
    for (Index i = 0; i < m; ++i) to[i * to_row + t] = from[t * from_row + i];
  }
}

}  // namespace glassformer::ops
