// The KV cache: keys and values of tokens that a decoder has read, so that a new token costs one row and not all of them again.
// Layout [layer][slot][G][T][D]: G key-value heads, T capacity, D head width; one slot a sequence.
// Bytes: 2·layers·slots·T·G·D·sizeof(S).
//   contiguous       holds `capacity` tokens and then is full
//   sliding window   when full, forgets the oldest token but keeps the first `sinks` (Xiao et al. 2023). Places are counted in the
//                    cache and not in the text, so with RoPE keys are kept unrotated and turned when read.
#pragma once
#include <memory>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

struct CacheShape {
  Index layers = 0, slots = 1, kv_heads = 0, capacity = 0, head_dim = 0;
  bool sliding = false;
  Index sinks = 0;
};

// Not thread-safe as a whole; different slots may be written by different threads.
template <class S> class KvCache {
 public:
  // Throws std::invalid_argument when a size is not positive, overflows, or sinks leave no room.
  explicit KvCache(const CacheShape&);

  const CacheShape& shape() const { return shape_; }
  Index length(Index slot) const { return length_[static_cast<std::size_t>(slot)]; }
  Index bytes() const;

  // Makes room for `tokens` new tokens and returns the place of the first. A sliding cache forgets what it must; a
  // contiguous one that is full throws std::invalid_argument. Every layer then writes its rows at these places.
  Index reserve(Index slot, Index tokens);
  // The reserved tokens of the slot are complete in every layer: length grows.
  void commit(Index slot, Index tokens);
  // Forgets all tokens at `length` and later (a rejected draft, a new prompt).
  void truncate(Index slot, Index length);

  // First element of [G, T, D]; a head is capacity·head_dim apart, a token head_dim.
  S* keys(Index layer, Index slot) const { return keys_.get() + offset(layer, slot); }
  S* values(Index layer, Index slot) const { return values_.get() + offset(layer, slot); }

 private:
  Index& length_of(Index slot);  // throws when there is no such slot
  Index offset(Index layer, Index slot) const { return (layer * shape_.slots + slot) * shape_.kv_heads * shape_.capacity * shape_.head_dim; }

  CacheShape shape_;
  std::vector<Index> length_;
  std::unique_ptr<S[]> keys_, values_;
};

extern template class KvCache<float>;
extern template class KvCache<double>;

}  // namespace glassformer
