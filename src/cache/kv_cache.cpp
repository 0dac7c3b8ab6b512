#include "glassformer/cache/kv_cache.hpp"

#include <algorithm>
#include <limits>

#include "glassformer/core/require.hpp"
#include "glassformer/quantize/row.hpp"

namespace glassformer {

template <class S> KvCache<S>::KvCache(const CacheShape& shape) : shape_(shape) {
  Index size = 1;
  for (const Index n : {shape.layers, shape.slots, shape.kv_heads, shape.capacity, shape.head_dim}) {
    require(n > 0, "KV cache: expected positive sizes, found layers {}, slots {}, heads {}, capacity {}, head width {}", shape.layers, shape.slots,
            shape.kv_heads, shape.capacity, shape.head_dim);
    require(size <= std::numeric_limits<Index>::max() / 16 / n, "KV cache: its size overflows");
    size *= n;
  }
  require(shape.sinks >= 0 && shape.sinks < shape.capacity, "KV cache: expected fewer sinks than the capacity {}, found {}", shape.capacity, shape.sinks);
  length_.resize(static_cast<std::size_t>(shape.slots));
  for (Rows* rows : {&keys_, &values_}) {
    if (shape.kind == CacheKind::floating) rows->numbers.resize(static_cast<std::size_t>(size));
    if (shape.kind == CacheKind::int8) rows->codes.resize(static_cast<std::size_t>(size)), rows->scales.resize(static_cast<std::size_t>(size / shape.head_dim));
  }
}

template <class S> Index KvCache<S>::bytes() const {
  Index bytes = 0;
  for (const Rows* rows : {&keys_, &values_}) {
    bytes += static_cast<Index>(rows->numbers.size() * sizeof(S) + rows->codes.size() + rows->scales.size() * sizeof(float));
  }
  return bytes;
}

template <class S> Index& KvCache<S>::length_of(Index slot) {
  require(slot >= 0 && slot < shape_.slots, "KV cache: expected a slot below {}, found {}", shape_.slots, slot);
  return length_[static_cast<std::size_t>(slot)];
}

template <class S> Index KvCache<S>::reserve(Index slot, Index tokens) {
  Index& length = length_of(slot);
  require(tokens >= 0, "KV cache: expected 0 tokens or more, found {}", tokens);
  const Index excess = length + tokens - shape_.capacity;
  if (excess <= 0) return length;
  require(shape_.sliding, "KV cache: {} tokens and {} new ones do not fit its capacity of {}", length, tokens, shape_.capacity);
  require(excess <= length - shape_.sinks, "KV cache: {} new tokens do not fit a window of {} with {} sinks", tokens, shape_.capacity, shape_.sinks);
  const Index D = shape_.head_dim, kept = length - shape_.sinks - excess;
  const auto forget = [&](auto& rows, Index first, Index width) {  // `first`: the row of place 0
    if (rows.size() == 0) return;
    auto* oldest = rows.data() + (first + shape_.sinks) * width;
    std::copy_n(oldest + excess * width, kept * width, oldest);
  };
  for (Index layer = 0; layer < shape_.layers; ++layer) {
    for (Index g = 0; g < shape_.kv_heads; ++g) {
      for (Rows* rows : {&keys_, &values_}) {
        const Index first = row(layer, slot, g, 0);
        forget(rows->numbers, first, D), forget(rows->codes, first, D), forget(rows->scales, first, 1);
      }
    }
  }
  length -= excess;
  return length;
}

template <class S> void KvCache<S>::commit(Index slot, Index tokens) {
  Index& length = length_of(slot);
  require(tokens >= 0 && length + tokens <= shape_.capacity, "KV cache: {} tokens committed beyond the capacity of {}", length + tokens, shape_.capacity);
  length += tokens;
}

template <class S> void KvCache<S>::truncate(Index slot, Index length) {
  Index& now = length_of(slot);
  require(length >= 0 && length <= now, "KV cache: cannot cut {} tokens to {}", now, length);
  now = length;
}

template <class S> void KvCache<S>::write(Index layer, Index slot, Index place, const S* keys, const S* values) {
  const Index D = shape_.head_dim;
  const auto one = [&](Rows& rows, Index at, const S* x) {
    if (shape_.kind == CacheKind::floating) {
      std::copy_n(x, D, rows.numbers.data() + at * D);
    } else {
      rows.scales[static_cast<std::size_t>(at)] = quantize_row<S>({x, static_cast<std::size_t>(D)}, rows.codes.data() + at * D);
    }
  };
  for (Index g = 0; g < shape_.kv_heads; ++g) {
    const Index at = row(layer, slot, g, place);
    one(keys_, at, keys + g * D);
    one(values_, at, values + g * D);
  }
}

template <class S>
ops::Heads<const S> KvCache<S>::read(const Rows& rows, Index layer, Index slot, Index tokens, Workspace& workspace) const {
  const Index D = shape_.head_dim, G = shape_.kv_heads, first = row(layer, slot, 0, 0);
  if (shape_.kind == CacheKind::floating) return {rows.numbers.data() + first * D, D, shape_.capacity * D};
  const MatrixView<S> copy = workspace.matrix<S>(G * tokens, D);
  for (Index g = 0; g < G; ++g) {
    for (Index t = 0; t < tokens; ++t) {
      const Index at = first + g * shape_.capacity + t;
      dequantize_row<S>(rows.scales[static_cast<std::size_t>(at)], rows.codes.data() + at * D, {copy.data + (g * tokens + t) * D, static_cast<std::size_t>(D)});
    }
  }
  return {copy.data, D, tokens * D};
}

template class KvCache<float>;
template class KvCache<double>;

}  // namespace glassformer
