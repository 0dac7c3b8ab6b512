#include "glassformer/cache/kv_cache.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

using namespace glassformer;

namespace {

// A row that 8 bits hold exactly: its scale is a power of two, which depends on the token, and its codes name the layer, head, token and
// kind. Tokens below 128.
constexpr Index D = 5;
template <class S> Vector<S> row_of(Index layer, Index head, Index token, bool value) {
  Vector<S> row(D);
  row << S(127), static_cast<S>(layer), static_cast<S>(-head), static_cast<S>(token), value ? S(1) : S(2);
  return row * static_cast<S>(std::ldexp(1, static_cast<int>(token % 5)));
}
template <class S>
void append(KvCache<S>& cache, Index slot, Index first, Index tokens) {
  const CacheShape& s = cache.shape();
  const Index place = cache.reserve(slot, tokens);
  for (Index layer = 0; layer < s.layers; ++layer) {
    for (Index t = 0; t < tokens; ++t) {
      Matrix<S> keys(s.kv_heads, D), values(s.kv_heads, D);
      for (Index g = 0; g < s.kv_heads; ++g) {
        keys.row(g) = row_of<S>(layer, g, first + t, false);
        values.row(g) = row_of<S>(layer, g, first + t, true);
      }
      cache.write(layer, slot, place + t, keys.data(), values.data());
    }
  }
  cache.commit(slot, tokens);
}

// True when the slot holds exactly these tokens, in this order, in every layer and head.
template <class S>
bool holds(const KvCache<S>& cache, Index slot, const std::vector<Index>& tokens) {
  const CacheShape& s = cache.shape();
  Workspace workspace;
  if (cache.length(slot) != static_cast<Index>(tokens.size())) return false;
  for (Index layer = 0; layer < s.layers; ++layer) {
    const auto keys = cache.keys(layer, slot, cache.length(slot), workspace), values = cache.values(layer, slot, cache.length(slot), workspace);
    for (Index g = 0; g < s.kv_heads; ++g) {
      for (Index t = 0; t < cache.length(slot); ++t) {
        const Index token = tokens[static_cast<std::size_t>(t)];
        if (Eigen::Map<const Vector<S>>(keys.at(t, g), D) != row_of<S>(layer, g, token, false)) return false;
        if (Eigen::Map<const Vector<S>>(values.at(t, g), D) != row_of<S>(layer, g, token, true)) return false;
      }
    }
  }
  return true;
}

CacheShape shape_of(Index capacity, bool sliding, Index sinks, Index slots = 1, CacheKind kind = CacheKind::floating) {
  return {.layers = 2, .slots = slots, .kv_heads = 3, .capacity = capacity, .head_dim = D, .sliding = sliding, .sinks = sinks, .kind = kind};
}

// What a test runs with: float or double numbers, kept as they are or in 8 bits.
template <class Scalar, CacheKind K> struct Kept {
  using S = Scalar;
  static constexpr CacheKind kind = K;
};
#define ALL_KINDS \
  Kept<float, CacheKind::floating>, Kept<double, CacheKind::floating>, Kept<float, CacheKind::int8>, Kept<double, CacheKind::int8>

}  // namespace

TEST_CASE_TEMPLATE("a contiguous cache keeps tokens in order and says when it is full", Cache, ALL_KINDS) {
  using S = typename Cache::S;
  KvCache<S> cache(shape_of(5, false, 0, 1, Cache::kind));
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

TEST_CASE_TEMPLATE("reserved tokens count only once committed", Cache, ALL_KINDS) {
  using S = typename Cache::S;
  KvCache<S> cache(shape_of(5, false, 0, 1, Cache::kind));
  CHECK(cache.reserve(0, 4) == 0);
  CHECK(cache.length(0) == 0);
  CHECK(cache.reserve(0, 2) == 0);
  cache.commit(0, 2);
  CHECK(cache.length(0) == 2);
  CHECK_THROWS_AS(cache.commit(0, 4), std::invalid_argument);
}

TEST_CASE_TEMPLATE("a sliding cache keeps its sinks and the newest tokens, in order", Cache, ALL_KINDS) {
  using S = typename Cache::S;
  KvCache<S> cache(shape_of(6, true, 2, 1, Cache::kind));
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

  KvCache<S> no_sinks(shape_of(3, true, 0, 1, Cache::kind));
  for (Index token = 0; token < 8; ++token) append(no_sinks, 0, token, 1);
  CHECK(holds(no_sinks, 0, {5, 6, 7}));
}

TEST_CASE_TEMPLATE("slots do not touch one another", Cache, ALL_KINDS) {
  using S = typename Cache::S;
  KvCache<S> cache(shape_of(4, true, 1, 3, Cache::kind));
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
  shape.kind = CacheKind::int8;
  CHECK(KvCache<float>(shape).bytes() == 13369344);  // 2·12·4·1024·2·(64 + 4)
  CHECK(KvCache<double>(shape).bytes() == 13369344);
}

TEST_CASE_TEMPLATE("8 bits round each head's row with a scale of its own, and keep a NaN visible in its row alone", S, float, double) {
  KvCache<S> cache(shape_of(4, false, 0, 1, CacheKind::int8));
  Matrix<S> keys = Matrix<S>::Zero(3, D), values = Matrix<S>::Constant(3, D, S(0.5));
  keys.row(0) << 254, 3.1, -5.2, 0, 1;             // scale 2
  keys.row(2) << 0.0254, 0.00031, -0.00052, 0, 0;  // scale 0.0002
  values(1, 3) = std::numeric_limits<S>::quiet_NaN();
  cache.write(1, 0, cache.reserve(0, 2), keys.data(), values.data());
  Workspace workspace;
  const auto k = cache.keys(1, 0, 1, workspace), v = cache.values(1, 0, 1, workspace);
  Vector<S> first(D), third(D);
  first << 254, 4, -6, 0, 0;
  third << 0.0254, 0.0004, -0.0006, 0, 0;
  CHECK(Eigen::Map<const Vector<S>>(k.at(0, 0), D) == first);
  CHECK(Eigen::Map<const Vector<S>>(k.at(0, 1), D) == Vector<S>::Zero(D));
  CHECK((Eigen::Map<const Vector<S>>(k.at(0, 2), D) - third).cwiseAbs().maxCoeff() < 1e-8);
  for (Index g = 0; g < 3; ++g) {
    const Eigen::Map<const Vector<S>> row(v.at(0, g), D);
    if (g == 1) CHECK(row.array().isNaN().all());
    if (g != 1) CHECK((row.array() - S(0.5)).abs().maxCoeff() < 1e-7);
  }
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
