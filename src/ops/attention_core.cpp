// Checks, and the choice between the streaming kernel and the one that materialises scores.
#include "glassformer/ops/attention_core.hpp"

#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/attention.hpp"
#include "ops/attention_stream.hpp"

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

}  // namespace

template <class S>
void attention_core_forward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, const AttentionWatch<S>& watch, const Exec& exec) {
  check(shape, sequences);
  if (watch || exec.kernels == Kernels::reference) return reference::attention_core_forward<S>(shape, sequences, watch);
  stream_forward(shape, sequences, exec);
}

template <class S>
void attention_core_backward(const AttentionShape& shape, std::span<const AttentionSequence<S>> sequences, std::span<const AttentionGradients<S>> gradients,
                             const AttentionWatch<S>& watch, const Exec& exec) {
  check(shape, sequences);
  require(sequences.size() == gradients.size(), "attention: {} sequences, gradients of {}", sequences.size(), gradients.size());
  if (watch || exec.kernels == Kernels::reference) return reference::attention_core_backward<S>(shape, sequences, gradients, watch);
  stream_backward(shape, sequences, gradients, exec);
}

template void attention_core_forward<float>(const AttentionShape&, std::span<const AttentionSequence<float>>, const AttentionWatch<float>&, const Exec&);
template void attention_core_forward<double>(const AttentionShape&, std::span<const AttentionSequence<double>>, const AttentionWatch<double>&, const Exec&);
template void attention_core_backward<float>(const AttentionShape&, std::span<const AttentionSequence<float>>, std::span<const AttentionGradients<float>>,
                                             const AttentionWatch<float>&, const Exec&);
template void attention_core_backward<double>(const AttentionShape&, std::span<const AttentionSequence<double>>, std::span<const AttentionGradients<double>>,
                                              const AttentionWatch<double>&, const Exec&);

}  // namespace glassformer::ops
