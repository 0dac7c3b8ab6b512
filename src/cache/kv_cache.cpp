#include "glassformer/cache/kv_cache.hpp"

#include <algorithm>
#include <limits>

#include "glassformer/core/require.hpp"

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
  keys_.reset(new S[static_cast<std::size_t>(size)]);  // uninitialised: no place is read before it is written
  values_.reset(new S[static_cast<std::size_t>(size)]);
}

template <class S> Index KvCache<S>::bytes() const {
  return 2 * shape_.layers * shape_.slots * shape_.kv_heads * shape_.capacity * shape_.head_dim * static_cast<Index>(sizeof(S));
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
  const Index D = shape_.head_dim;
  for (Index layer = 0; layer < shape_.layers; ++layer) {
    for (Index g = 0; g < shape_.kv_heads; ++g) {
      for (S* rows : {keys(layer, slot), values(layer, slot)}) {
        S* head = rows + g * shape_.capacity * D;
        std::copy(head + (shape_.sinks + excess) * D, head + length * D, head + shape_.sinks * D);
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

template class KvCache<float>;
template class KvCache<double>;

}  // namespace glassformer
