// Checks, and the choice between the streaming kernel and the one that materialises scores.
#include "glassformer/ops/attention_core.hpp"

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/attention.hpp"
#include "ops/attention_stream.hpp"
#include "ops/counting.hpp"

namespace glassformer::ops {
namespace {

template <class S> void check(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences) {
  require(shape.heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0, "attention: expected positive heads and head width, found {}, {}, {}", shape.heads,
          shape.kv_heads, shape.head_dim);
  require(shape.heads % shape.kv_heads == 0, "attention: {} query heads are no multiple of {} key-value heads", shape.heads, shape.kv_heads);
  require(shape.window >= 0, "attention: expected a window of 0 (all keys) or more, found {}", shape.window);
  require(shape.slopes.empty() || static_cast<Index>(shape.slopes.size()) == shape.heads, "attention: expected one ALiBi slope a head ({}), found {}", shape.heads,
          shape.slopes.size());
  for (const auto& s : sequences) require(s.queries <= s.keys, "attention: {} queries but only {} keys", s.queries, s.keys);
}

// The reference multiplies every query with every key; `products` of them: q·k and p·v, and five backward.
template <class S> void count_reference(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, Index products) {
  if (counters.load(std::memory_order_relaxed) == nullptr) return;
  for (const auto& s : sequences) {
    count_attention(products * shape.heads * s.queries * s.keys * shape.head_dim);
    for (Index t = 0; t < s.queries; ++t) {
      for (Index u = 0; u < s.keys; ++u) count_pairs(shape.sees(s.keys - s.queries + t, u) ? shape.heads : 0);
    }
  }
}

}  // namespace

template <class S>
void attention_core_forward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, const AttentionWatch<S>& watch, const Exec& exec) {
  const Timed timed(Operation::attention);
  check(shape, sequences);
  if (watch || exec.kernels == Kernels::reference) return count_reference(shape, sequences, 2), reference::attention_core_forward<S>(shape, sequences, watch);
  stream_forward(shape, sequences, exec);
}

template <class S>
void attention_core_backward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, std::span<const AttentionGradients<S>> gradients,
                             const AttentionWatch<S>& watch, const Exec& exec) {
  const Timed timed(Operation::attention);
  check(shape, sequences);
  require(sequences.size() == gradients.size(), "attention: {} sequences, gradients of {}", sequences.size(), gradients.size());
  if (watch || exec.kernels == Kernels::reference) {
    return count_reference(shape, sequences, 5), reference::attention_core_backward<S>(shape, sequences, gradients, watch);
  }
  stream_backward(shape, sequences, gradients, exec);
}

template void attention_core_forward<float>(const AttentionShape&, std::span<const AttentionSequence<float>>, const AttentionWatch<float>&, const Exec&);
template void attention_core_forward<double>(const AttentionShape&, std::span<const AttentionSequence<double>>, const AttentionWatch<double>&, const Exec&);
template void attention_core_backward<float>(const AttentionShape&, std::span<const AttentionSequence<float>>, std::span<const AttentionGradients<float>>,
                                             const AttentionWatch<float>&, const Exec&);
template void attention_core_backward<double>(const AttentionShape&, std::span<const AttentionSequence<double>>, std::span<const AttentionGradients<double>>,
                                              const AttentionWatch<double>&, const Exec&);

}  // namespace glassformer::ops
