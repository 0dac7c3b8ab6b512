#include "glassformer/cache/kv_cache.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>

using namespace glassformer;

namespace {

// Writes tokens first, first + 1, … at the places reserved for them; each number names its layer, head, token, channel and kind.
template <class S>
S number(Index layer, Index head, Index token, Index channel, bool value) {
  return static_cast<S>(((layer * 10 + head) * 1000 + token) * 10 + channel) + (value ? S(0.5) : S(0));
}
template <class S>
void append(KvCache<S>& cache, Index slot, Index first, Index tokens) {
  const CacheShape& s = cache.shape();
  const Index place = cache.reserve(slot, tokens);
  for (Index layer = 0; layer < s.layers; ++layer) {
    for (Index g = 0; g < s.kv_heads; ++g) {
      for (Index t = 0; t < tokens; ++t) {
        for (Index d = 0; d < s.head_dim; ++d) {
          const Index at = (g * s.capacity + place + t) * s.head_dim + d;
          cache.keys(layer, slot)[at] = number<S>(layer, g, first + t, d, false);
          cache.values(layer, slot)[at] = number<S>(layer, g, first + t, d, true);
        }
      }
    }
  }
  cache.commit(slot, tokens);
}

// True when the slot holds exactly these tokens, in this order, in every layer and head.
template <class S>
bool holds(const KvCache<S>& cache, Index slot, const std::vector<Index>& tokens) {
  const CacheShape& s = cache.shape();
  if (cache.length(slot) != static_cast<Index>(tokens.size())) return false;
  for (Index layer = 0; layer < s.layers; ++layer) {
    for (Index g = 0; g < s.kv_heads; ++g) {
      for (Index t = 0; t < cache.length(slot); ++t) {
        for (Index d = 0; d < s.head_dim; ++d) {
          const Index at = (g * s.capacity + t) * s.head_dim + d, token = tokens[static_cast<std::size_t>(t)];
          if (cache.keys(layer, slot)[at] != number<S>(layer, g, token, d, false)) return false;
          if (cache.values(layer, slot)[at] != number<S>(layer, g, token, d, true)) return false;
        }
      }
    }
  }
  return true;
}

CacheShape shape_of(Index capacity, bool sliding, Index sinks, Index slots = 1) {
  CacheShape shape;
  shape.layers = 2, shape.slots = slots, shape.kv_heads = 3, shape.capacity = capacity, shape.head_dim = 2, shape.sliding = sliding,
  shape.sinks = sinks;
  return shape;
}

}  // namespace

TEST_CASE_TEMPLATE("a contiguous cache keeps tokens in order and says when it is full", S, float, double) {
  KvCache<S> cache(shape_of(5, false, 0));
  CHECK(cache.length(0) == 0);
  append(cache, 0, 0, 3);
  append(cache, 0, 3, 2);
  CHECK(holds(cache, 0, {0, 1, 2, 3, 4}));
  CHECK_THROWS_AS(cache.reserve(0, 1), std::invalid_argument);
  CHECK(holds(cache, 0, {0, 1, 2, 3, 4}));  // and is as it was
  cache.truncate(0, 2);
  CHECK(holds(cache, 0, {0, 1}));
  append(cache, 0, 7, 3);
  CHECK(holds(cache, 0, {0, 1, 7, 8, 9}));
}

TEST_CASE_TEMPLATE("reserved tokens count only once committed", S, float, double) {
  KvCache<S> cache(shape_of(5, false, 0));
  CHECK(cache.reserve(0, 4) == 0);
  CHECK(cache.length(0) == 0);
  CHECK(cache.reserve(0, 2) == 0);
  cache.commit(0, 2);
  CHECK(cache.length(0) == 2);
  CHECK_THROWS_AS(cache.commit(0, 4), std::invalid_argument);
}

TEST_CASE_TEMPLATE("a sliding cache keeps its sinks and the newest tokens, in order", S, float, double) {
  KvCache<S> cache(shape_of(6, true, 2));
  append(cache, 0, 0, 4);
  append(cache, 0, 4, 2);
  CHECK(holds(cache, 0, {0, 1, 2, 3, 4, 5}));
  append(cache, 0, 6, 1);
  CHECK(holds(cache, 0, {0, 1, 3, 4, 5, 6}));
  append(cache, 0, 7, 3);
  CHECK(holds(cache, 0, {0, 1, 6, 7, 8, 9}));
  append(cache, 0, 10, 4);  // all but the sinks
  CHECK(holds(cache, 0, {0, 1, 10, 11, 12, 13}));
  CHECK_THROWS_AS(cache.reserve(0, 5), std::invalid_argument);
  CHECK(holds(cache, 0, {0, 1, 10, 11, 12, 13}));

  KvCache<S> no_sinks(shape_of(3, true, 0));
  for (Index token = 0; token < 8; ++token) append(no_sinks, 0, token, 1);
  CHECK(holds(no_sinks, 0, {5, 6, 7}));
}

TEST_CASE_TEMPLATE("slots do not touch one another", S, float, double) {
  KvCache<S> cache(shape_of(4, true, 1, 3));
  append(cache, 1, 50, 4);
  append(cache, 0, 0, 2);
  append(cache, 2, 90, 3);
  for (Index token = 2; token < 9; ++token) append(cache, 0, token, 1);
  CHECK(holds(cache, 0, {0, 6, 7, 8}));
  CHECK(holds(cache, 1, {50, 51, 52, 53}));
  cache.truncate(1, 0);
  CHECK(holds(cache, 1, {}));
  CHECK(holds(cache, 2, {90, 91, 92}));
  CHECK_THROWS_AS(cache.reserve(3, 1), std::invalid_argument);
  CHECK_THROWS_AS(cache.reserve(-1, 1), std::invalid_argument);
  CHECK_THROWS_AS(cache.truncate(0, 5), std::invalid_argument);
  CHECK_THROWS_AS(cache.truncate(0, -1), std::invalid_argument);
}

TEST_CASE("bytes: keys and values of every layer, slot, head, place and channel") {
  CacheShape shape;
  shape.layers = 12, shape.slots = 4, shape.kv_heads = 2, shape.capacity = 1024, shape.head_dim = 64;
  CHECK(KvCache<float>(shape).bytes() == 50331648);  // 2·12·4·1024·2·64·4
  CHECK(KvCache<double>(shape).bytes() == 100663296);
}

TEST_CASE("impossible caches are named") {
  const auto make = [](const CacheShape& shape) { KvCache<float> cache(shape); };
  const CacheShape good = shape_of(4, true, 3);
  CHECK_NOTHROW(make(good));
  for (Index CacheShape::*size :
       {&CacheShape::layers, &CacheShape::slots, &CacheShape::kv_heads, &CacheShape::capacity, &CacheShape::head_dim}) {
    for (const Index wrong : {Index{0}, Index{-1}, std::numeric_limits<Index>::max() / 2}) {
      CacheShape shape = good;
      shape.*size = wrong;
      CHECK_THROWS_AS(make(shape), std::invalid_argument);
    }
  }
  CHECK_THROWS_AS(make(shape_of(4, true, 4)), std::invalid_argument);
  CHECK_THROWS_AS(make(shape_of(4, true, -1)), std::invalid_argument);
}
