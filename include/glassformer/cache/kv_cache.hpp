// The KV cache: keys and values of tokens that a decoder has read, so that a new token costs one row and not all of them again.
// Layout [layer][slot][G][T][D]: G key-value heads, T capacity, D head width; one slot a sequence.
//   floating         the numbers as they are: 2·layers·slots·T·G·D·sizeof(S) bytes
//   int8             D codes of 8 bits and one float scale a token and head (quantize/row.hpp): 2·layers·slots·T·G·(D + 4) bytes
//   contiguous       holds `capacity` tokens and then is full
//   sliding window   when full, forgets the oldest token but keeps the first `sinks` (Xiao et al. 2023). Places are counted in the
//                    cache and not in the text, so with RoPE keys are kept unrotated and turned when read.
#pragma once
#include <cstdint>
#include <vector>

#include "glassformer/core/workspace.hpp"
#include "glassformer/ops/attention_core.hpp"

namespace glassformer {

enum class CacheKind { floating, int8 };

struct CacheShape {
  Index layers = 0, slots = 1, kv_heads = 0, capacity = 0, head_dim = 0;
  bool sliding = false;
  Index sinks = 0;
  CacheKind kind = CacheKind::floating;
};

// Not thread-safe as a whole; different slots may be written by different threads.
template <class S> class KvCache {
 public:
  // Throws std::invalid_argument when a size is not positive, overflows, or sinks leave no room.
  explicit KvCache(const CacheShape&);

  const CacheShape& shape() const { return shape_; }
  Index length(Index slot) const { return length_[static_cast<std::size_t>(slot)]; }
  Index bytes() const;  // of the arrays that it holds

  // Makes room for `tokens` new tokens and returns the place of the first. A sliding cache forgets what it must; a
  // contiguous one that is full throws std::invalid_argument. Every layer then writes its rows at these places.
  Index reserve(Index slot, Index tokens);
  // The reserved tokens of the slot are complete in every layer: length grows.
  void commit(Index slot, Index tokens);
  // Forgets all tokens at `length` and later (a rejected draft, a new prompt).
  void truncate(Index slot, Index length);

  // A token's keys and values of all heads, [G, D] each, at a reserved place. In 8 bits each head's row is rounded here.
  void write(Index layer, Index slot, Index place, const S* keys, const S* values);
  // The first `tokens` places as [tokens, G, D]: where they lie, or, in 8 bits, a copy of this layer and slot alone in `workspace`. A row
  // that was written with a number that is not finite is NaN.
  ops::Heads<const S> keys(Index layer, Index slot, Index tokens, Workspace& w) const { return read(keys_, layer, slot, tokens, w); }
  ops::Heads<const S> values(Index layer, Index slot, Index tokens, Workspace& w) const { return read(values_, layer, slot, tokens, w); }

 private:
  struct Rows {                 // keys, or values: [layers, slots, G, T] rows; uninitialised, for no place is read before it is written
    template <class T> using Numbers = std::vector<T, LargeAllocator<T>>;
    Numbers<S> numbers;          // floating: D a row
    Numbers<std::int8_t> codes;  // int8: D a row
    Numbers<float> scales;       // int8: 1 a row
  };
  Index& length_of(Index slot);  // throws when there is no such slot
  Index row(Index layer, Index slot, Index head, Index place) const {
    return ((layer * shape_.slots + slot) * shape_.kv_heads + head) * shape_.capacity + place;
  }
  ops::Heads<const S> read(const Rows&, Index layer, Index slot, Index tokens, Workspace&) const;

  CacheShape shape_;
  std::vector<Index> length_;
  Rows keys_, values_;
};

extern template class KvCache<float>;
extern template class KvCache<double>;

}  // namespace glassformer
