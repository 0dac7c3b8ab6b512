// Where kernels say what they did: ops/count.hpp.
#pragma once
#include <atomic>
#include <cmath>

#include "glassformer/core/matrix.hpp"

namespace glassformer::ops {

struct Counters {
  std::atomic<Index> linear{0}, attention{0}, pairs{0};
};
extern std::atomic<Counters*> counters;  // null: nobody counts

inline void count_linear(Index m, Index n, Index k) {
  if (Counters* c = counters.load(std::memory_order_relaxed)) c->linear.fetch_add(m * n * k, std::memory_order_relaxed);
}
inline void count_attention(Index multiply_adds) {
  if (Counters* c = counters.load(std::memory_order_relaxed)) c->attention.fetch_add(multiply_adds, std::memory_order_relaxed);
}
inline void count_pairs(Index pairs) {
  if (Counters* c = counters.load(std::memory_order_relaxed)) c->pairs.fetch_add(pairs, std::memory_order_relaxed);
}
// Of a block of scores [n, columns], those that are not −∞.
template <class S> void count_pairs(const S* scores, Index n, Index columns, Index stride) {
  if (counters.load(std::memory_order_relaxed) == nullptr) return;
  Index seen = 0;
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < columns; ++j) seen += std::isfinite(scores[i * stride + j]);
  }
  count_pairs(seen);
}

}  // namespace glassformer::ops
