// Online softmax: Milakov, Gimelshein 2018; blocks and the backward pass from saved log-sum-exp: Dao et al. 2022.
// Legend: T queries, U keys, D head width (padded to whole vectors: Dp), i a query, j a key, in blocks of kQueries × kKeys.
#include "ops/attention_stream.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/counting.hpp"
#include "ops/gemm.hpp"
#include "ops/lanes.hpp"
#include "ops/transpose.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kQueries = 24;  // a multiple of the 6 or 12 rows that a product holds in registers; more of them compute more scores that are masked
constexpr Index kKeys = 128;
template <class S> constexpr Index kTileLanes = 64 / static_cast<Index>(sizeof(S));  // rows are padded to the longest vectors
template <class S> constexpr S kMinusInfinity = -std::numeric_limits<S>::infinity();
template <class S> using RowMap = Eigen::Map<Eigen::Array<S, 1, Eigen::Dynamic, Eigen::RowMajor>>;

// Scratch of one thread; grows to the largest sequence that it has seen and is used again.
template <class S> struct Scratch {
  std::vector<S> memory;
  std::size_t used = 0;
  void start(Index scalars) {
    if (static_cast<Index>(memory.size()) < scalars + 16) memory.resize(static_cast<std::size_t>(scalars) + 16);
    used = (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64 / sizeof(S);
  }
  S* take(Index scalars) {
    S* p = memory.data() + used;
    used += static_cast<std::size_t>(round_up(scalars, kTileLanes<S>));
    return p;
  }
};
template <class S> Scratch<S>& thread_scratch() {
  thread_local Scratch<S> scratch;
  return scratch;
}

template <class S>
void counted_product(Index m, Index n, Index k, const S* a, Index a_row, Index a_col, const S* b, Index ldb, S* c, Index ldc, bool accumulate) {
  count_attention(m * n * k);
  tile_product(kernels::Product<S>{m, n, k, a, a_row, a_col, 0, b, ldb, S(1), c, ldc, accumulate});
}

// rows [n, Dp] ← factor·head of a strided tensor, padding zero
template <class S> void pack_rows(const Heads<const S>& x, Index head, Index n, Index D, Index Dp, S factor, S* rows) {
  for (Index t = 0; t < n; ++t) {
    const S* from = x.at(t, head);
    S* to = rows + t * Dp;
    for (Index d = 0; d < D; ++d) to[d] = factor * from[d];
    std::fill(to + D, to + Dp, S(0));
  }
}

// Length of the rows of a head that lies transposed. The last whole vector keeps rows of a power of two apart, which would share a few sets of the cache.
template <class S> Index column_stride(Index U) { return round_up(U, kKeys) + kTileLanes<S>; }

// columns [D, Up] ← headᵀ, padding zero
template <class S> void pack_columns(const Heads<const S>& x, Index head, Index n, Index D, Index Up, S* columns) {
  transpose(x.at(0, head), x.token_stride, n, D, columns, Up);
  for (Index d = 0; d < D; ++d) std::fill(columns + d * Up + n, columns + (d + 1) * Up, S(0));
}

// The keys that some query of a block sees: [begin, end).
struct KeyRange {
  Index begin, end;
};
KeyRange key_range(const AttentionShape& shape, Index first_place, Index last_place, Index keys) {
  const Index begin = shape.window > 0 ? std::max<Index>(0, first_place - shape.window + 1) : 0;
  return {begin, shape.causal ? last_place + 1 : keys};
}

// scores [n, columns] of a block: adds ALiBi, writes −∞ where masked and in the padding beyond the last key.
template <class S>
void mask_scores(const AttentionShape& shape, Index head, Index place, Index n, Index key, Index columns, Index keys, S* scores, Index stride) {
  const bool all_seen = key + columns <= keys && (!shape.causal || key + columns - 1 <= place) && (shape.window == 0 || key > place + n - 1 - shape.window);
  const S slope = shape.slopes.empty() ? S(0) : static_cast<S>(shape.slopes[static_cast<std::size_t>(head)]);
  for (Index i = 0; i < n; ++i) {
    S* row = scores + i * stride;
    if (slope != S(0)) {
      for (Index j = 0; j < columns; ++j) row[j] -= slope * static_cast<S>(std::abs(place + i - key - j));
    }
    if (all_seen) continue;
    const Index seen_begin = shape.window > 0 ? std::max<Index>(0, place + i - shape.window + 1 - key) : 0;
    const Index seen_end = std::min(shape.causal ? place + i + 1 - key : columns, keys - key);
    for (Index j = 0; j < std::min(seen_begin, columns); ++j) row[j] = kMinusInfinity<S>;
    for (Index j = std::max<Index>(seen_end, 0); j < columns; ++j) row[j] = kMinusInfinity<S>;
  }
}

// p [n, columns] ⊙ dropout mask/(1 − rate), in place.
template <class S>
void drop(const AttentionShape& shape, Index sequence, Index head, Index query, Index n, Index key, Index columns, Index U, S* p, Index stride) {
  if (shape.dropout.rate <= 0) return;
  const S keep = static_cast<S>(1 / (1 - shape.dropout.rate));
  const Dropout dropout = attention_dropout_of(shape, sequence, head);
  for (Index i = 0; i < n; ++i) {
    const Index element = (query + i) * U + key;
    for (Index j = 0; j < columns; ++j) p[i * stride + j] *= dropout_keeps(dropout, element + j) ? keep : S(0);
  }
}

// One sequence and head. The scale is multiplied into q when it is packed.
template <class S> void forward_head(const AttentionShape& shape, const AttentionSequence<S>& s, Index sequence, Index head) {
  constexpr Index L = kTileLanes<S>;
  const Index T = s.queries, U = s.keys, D = shape.head_dim, Dp = round_up(D, L), Up = column_stride<S>(U), kv = head / (shape.heads / shape.kv_heads);
  auto& scratch = thread_scratch<S>();
  scratch.start(kQueries * Dp * 2 + D * Up + U * Dp + kQueries * (kKeys + 2) + 8 * L);
  S *q = scratch.take(kQueries * Dp), *z = scratch.take(kQueries * Dp), *kt = scratch.take(D * Up), *v = scratch.take(U * Dp);
  S *p = scratch.take(kQueries * kKeys), *max = scratch.take(kQueries), *sum = scratch.take(kQueries);
  pack_columns(s.k, kv, U, D, Up, kt);
  pack_rows(s.v, kv, U, D, Dp, S(1), v);

  for (Index query = 0; query < T; query += kQueries) {
    const Index n = std::min(kQueries, T - query), place = U - T + query;
    pack_rows(Heads<const S>{s.q.at(query, 0), s.q.token_stride, s.q.head_stride}, head, n, D, Dp, static_cast<S>(shape.scale), q);
    std::fill(max, max + n, kMinusInfinity<S>);
    std::fill(sum, sum + n, S(0));
    std::fill(z, z + n * Dp, S(0));
    const KeyRange range = key_range(shape, place, place + n - 1, U);
    for (Index key = range.begin / L * L; key < range.end; key += kKeys) {
      const Index columns = std::min(kKeys, round_up(range.end - key, L));
      counted_product<S>(n, columns, D, q, Dp, 1, kt + key, Up, p, kKeys, false);  // scores = q·kᵀ/√D
      mask_scores(shape, head, place, n, key, columns, U, p, kKeys);
      count_pairs(p, n, columns, kKeys);
      for (Index i = 0; i < n; ++i) {
        RowMap<S> row(p + i * kKeys, columns);
        const S before = max[i], now = std::max(before, row.maxCoeff());
        if (now == kMinusInfinity<S>) {  // nothing of this block is seen by this query
          row.setZero();
          continue;
        }
        if (now != before) {
          const S shrink = std::exp(before - now);
          sum[i] *= shrink;
          RowMap<S>(z + i * Dp, Dp) *= shrink;
          max[i] = now;
        }
        sum[i] += exponentials(row.data(), columns, now);
      }
      drop(shape, sequence, head, query, n, key, columns, U, p, kKeys);
      counted_product<S>(n, Dp, std::min(columns, U - key), p, kKeys, 1, v + key * Dp, Dp, z, Dp, true);  // z += p·v
    }
    for (Index i = 0; i < n; ++i) {
      const S inverse = S(1) / sum[i];
      S* to = s.z.at(query + i, head);
      for (Index d = 0; d < D; ++d) to[d] = z[i * Dp + d] * inverse;
      if (s.logsumexp) s.logsumexp[head * T + query + i] = max[i] + std::log(sum[i]);
    }
  }
}

// One query's scores [n] = scale·q·k_j − slope·(n − 1 − j), L keys at a time, and their maximum; k_j [D] `stride` apart, L divides D.
template <class S, Index L> [[gnu::flatten]] S key_scores(const S* q, Index D, const S* k, Index stride, Index n, S scale, S slope, S* scores) {
  if constexpr (L > 1) {
    if (n < L) return key_scores<S, L / 2>(q, D, k, stride, n, scale, slope, scores);
  }
  using Vec = SomeLanes<S, L>;
  Vec most = Vec{} + kMinusInfinity<S>, later;
  for (Index r = 0; r < L; ++r) later[r] = static_cast<S>(L - 1 - r);
  for (Index next = 0; next < n; next += L) {
    const Index j = std::min(next, n - L);  // some of the last ones once more
    Vec sum[L] = {};
    for (Index d = 0; d < D; d += L) {
      Vec a, b;
      std::memcpy(&a, q + d, sizeof a);
      for (Index r = 0; r < L; ++r) std::memcpy(&b, k + (j + r) * stride + d, sizeof b), sum[r] += a * b;
    }
    Vec score = scale * sums_of<S, L>(sum);
    if (slope != S(0)) score -= slope * (static_cast<S>(n - L - j) + later);
    most = score > most ? score : most;
    std::memcpy(scores + j, &score, sizeof score);
  }
  S max = most[0];
  for (Index r = 1; r < L; ++r) max = std::max(max, most[r]);
  return max;
}

// z [V·L] = factor·Σ_j p_j·v_j in registers, in as many sums as hide the latency of a multiply-add; v_j [≥ V·L], `stride` apart
template <class S, Index L, Index V> void weighted_rows(const S* p, Index n, const S* v, Index stride, S factor, S* z) {
  using Vec = SomeLanes<S, L>;
  constexpr Index C = 8 / V;
  Vec sum[C][V] = {};
  const auto add = [&](Index j, Index c) {
    for (Index u = 0; u < V; ++u) {
      Vec row;
      std::memcpy(&row, v + j * stride + u * L, sizeof row);
      sum[c][u] += p[j] * row;
    }
  };
  Index j = 0;
  for (; j + C <= n; j += C) {
    for (Index c = 0; c < C; ++c) add(j + c, c);
  }
  for (; j < n; ++j) add(j, 0);
  for (Index u = 0; u < V; ++u) {
    for (Index half = C / 2; half > 0; half /= 2) {
      for (Index c = 0; c < half; ++c) sum[c][u] += sum[c + half][u];
    }
    sum[0][u] *= factor;
  }
  std::memcpy(z, sum[0], sizeof sum[0]);
}

// Decoding: one query against keys as they lie in the cache, nothing packed. Its bits do not depend on the queries beside it. L divides D.
template <class S, Index L> void forward_one_query(const AttentionShape& shape, const AttentionSequence<S>& s, Index sequence, Index head, Index query) {
  const Index place = s.keys - s.queries + query, U = place + 1, D = shape.head_dim, kv = head / (shape.heads / shape.kv_heads);
  const Index begin = shape.window > 0 ? std::max<Index>(0, U - shape.window) : 0, n = U - begin;
  auto& scratch = thread_scratch<S>();
  scratch.start(n + kLanes<S>);
  S* p = scratch.take(n + kLanes<S>);
  const S scale = static_cast<S>(shape.scale), slope = shape.slopes.empty() ? S(0) : static_cast<S>(shape.slopes[static_cast<std::size_t>(head)]);
  const S max = key_scores<S, L>(s.q.at(query, head), D, s.k.at(begin, kv), s.k.token_stride, n, scale, slope, p);
  count_attention(2 * n * D), count_pairs(p, 1, n, U);
  store<S>(p + n, AllLanes<S>{}, Lanes<S>{} + kMinusInfinity<S>);
  const S sum = exponentials(p, round_up(n, kLanes<S>), max), inverse = S(1) / sum;
  drop(shape, sequence, head, query, 1, begin, n, s.keys, p, U);
  const S* v = s.v.at(begin, kv);
  S* z = s.z.at(query, head);
  const Index stride = s.v.token_stride;
  Index d = 0;
  for (; d + 8 * L <= D; d += 8 * L) weighted_rows<S, L, 8>(p, n, v + d, stride, inverse, z + d);
  for (; d + 4 * L <= D; d += 4 * L) weighted_rows<S, L, 4>(p, n, v + d, stride, inverse, z + d);
  for (; d + 2 * L <= D; d += 2 * L) weighted_rows<S, L, 2>(p, n, v + d, stride, inverse, z + d);
  for (; d < D; d += L) weighted_rows<S, L, 1>(p, n, v + d, stride, inverse, z + d);
  if (s.logsumexp) s.logsumexp[head * s.queries + query] = max + std::log(sum);
}

// By vectors as long as the head's width is a multiple of.
template <class S, Index L = kLanes<S>>
void forward_one_query_by_width(const AttentionShape& shape, const AttentionSequence<S>& s, Index sequence, Index head, Index query) {
  if constexpr (L > 1) {
    if (shape.head_dim % L != 0) return forward_one_query_by_width<S, L / 2>(shape, s, sequence, head, query);
  }
  forward_one_query<S, L>(shape, s, sequence, head, query);
}

// One sequence and key-value head: dk and dv sum over the query heads that read it, in order.
//   P = exp(S − logsumexp)   dV += Pᵀ·dz   dP = dz·Vᵀ   dS = P ⊙ (dP − Σ dz ⊙ z)   dq = dS·k/√D   dk += dSᵀ·q/√D
template <class S>
void backward_kv_head(const AttentionShape& shape, const AttentionSequence<S>& s, const AttentionGradients<S>& g, Index sequence, Index kv) {
  constexpr Index L = kTileLanes<S>;
  const Index T = s.queries, U = s.keys, D = shape.head_dim, Dp = round_up(D, L), Up = column_stride<S>(U), group = shape.heads / shape.kv_heads;
  auto& scratch = thread_scratch<S>();
  scratch.start(kQueries * Dp * 3 + 2 * D * Up + 3 * U * Dp + 2 * kQueries * kKeys + kQueries + 16 * L);
  S *q = scratch.take(kQueries * Dp), *dz = scratch.take(kQueries * Dp), *dq = scratch.take(kQueries * Dp);
  S *kt = scratch.take(D * Up), *vt = scratch.take(D * Up), *k = scratch.take(U * Dp), *dk = scratch.take(U * Dp), *dv = scratch.take(U * Dp);
  S *p = scratch.take(kQueries * kKeys), *dp = scratch.take(kQueries * kKeys), *delta = scratch.take(kQueries);
  pack_columns(s.k, kv, U, D, Up, kt);
  pack_columns(s.v, kv, U, D, Up, vt);
  pack_rows(s.k, kv, U, D, Dp, S(1), k);
  std::fill(dk, dk + U * Dp, S(0));
  std::fill(dv, dv + U * Dp, S(0));
  const S scale = static_cast<S>(shape.scale);

  for (Index head = kv * group; head < (kv + 1) * group; ++head) {
    for (Index query = 0; query < T; query += kQueries) {
      const Index n = std::min(kQueries, T - query), place = U - T + query;
      pack_rows(Heads<const S>{s.q.at(query, 0), s.q.token_stride, s.q.head_stride}, head, n, D, Dp, scale, q);
      pack_rows(Heads<const S>{g.dz.at(query, 0), g.dz.token_stride, g.dz.head_stride}, head, n, D, Dp, S(1), dz);
      for (Index i = 0; i < n; ++i) {
        const S *a = dz + i * Dp, *b = s.z.at(query + i, head);
        delta[i] = Eigen::Map<const Vector<S>>(a, D).dot(Eigen::Map<const Vector<S>>(b, D));
      }
      const KeyRange range = key_range(shape, place, place + n - 1, U);
      bool first = true;
      for (Index key = range.begin / L * L; key < range.end; key += kKeys, first = false) {
        const Index columns = std::min(kKeys, round_up(range.end - key, L)), seen = std::min(columns, U - key);
        counted_product<S>(n, columns, D, q, Dp, 1, kt + key, Up, p, kKeys, false);
        mask_scores(shape, head, place, n, key, columns, U, p, kKeys);
        count_pairs(p, n, columns, kKeys);
        counted_product<S>(n, columns, D, dz, Dp, 1, vt + key, Up, dp, kKeys, false);
        drop(shape, sequence, head, query, n, key, columns, U, dp, kKeys);  // forward was: z = drop(P)·v
        for (Index i = 0; i < n; ++i) {
          RowMap<S> row(p + i * kKeys, columns), drow(dp + i * kKeys, columns);
          exponentials(row.data(), columns, s.logsumexp[head * T + query + i]);
          drow = row * (drow - delta[i]);
        }
        counted_product<S>(n, Dp, seen, dp, kKeys, 1, k + key * Dp, Dp, dq, Dp, !first);
        counted_product<S>(seen, Dp, n, dp, 1, kKeys, q, Dp, dk + key * Dp, Dp, true);
        drop(shape, sequence, head, query, n, key, columns, U, p, kKeys);
        counted_product<S>(seen, Dp, n, p, 1, kKeys, dz, Dp, dv + key * Dp, Dp, true);
      }
      for (Index i = 0; i < n; ++i) {
        S* to = g.dq.at(query + i, head);
        for (Index d = 0; d < D; ++d) to[d] = scale * dq[i * Dp + d];
      }
    }
  }
  for (Index t = 0; t < U; ++t) {
    std::copy(dk + t * Dp, dk + t * Dp + D, g.dk.at(t, kv));
    std::copy(dv + t * Dp, dv + t * Dp + D, g.dv.at(t, kv));
  }
}

}  // namespace

template <class S> void stream_forward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, const Exec& exec) {
  const auto tasks = static_cast<Index>(sequences.size()) * shape.heads;
  Index work = 0;
  for (const auto& s : sequences) work += s.queries * s.keys * shape.heads * shape.head_dim;
  parallel_for(work < 16384 ? 1 : exec.threads, tasks, [&](Index task) {
    const Index sequence = task / shape.heads, head = task % shape.heads;
    const auto& s = sequences[static_cast<std::size_t>(sequence)];
    const bool one_by_one = s.queries == 1 || (exec.row_exact && shape.causal);
    for (Index query = 0; one_by_one && query < s.queries; ++query) forward_one_query_by_width<S>(shape, s, sequence, head, query);
    if (!one_by_one && s.queries > 0) forward_head(shape, s, sequence, head);
  });
}

template <class S>
void stream_backward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, std::span<const AttentionGradients<S>> gradients,
                     const Exec& exec) {
  parallel_for(exec.threads, static_cast<Index>(sequences.size()) * shape.kv_heads, [&](Index task) {
    const auto sequence = static_cast<std::size_t>(task / shape.kv_heads);
    backward_kv_head(shape, sequences[sequence], gradients[sequence], task / shape.kv_heads, task % shape.kv_heads);
  });
}

template void stream_forward<float>(const AttentionShape&, std::span<const AttentionSequence<float>>, const Exec&);
template void stream_forward<double>(const AttentionShape&, std::span<const AttentionSequence<double>>, const Exec&);
template void stream_backward<float>(const AttentionShape&, std::span<const AttentionSequence<float>>, std::span<const AttentionGradients<float>>, const Exec&);
template void stream_backward<double>(const AttentionShape&, std::span<const AttentionSequence<double>>, std::span<const AttentionGradients<double>>,
                                      const Exec&);

}  // namespace glassformer::ops
