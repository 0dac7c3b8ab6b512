// A decode with the KV cache and without, as it happened. Legend: T tokens read, D head width.
#pragma once
#include <memory>

#include "glassformer/explain/cache.hpp"

namespace glassformer {

struct CacheStep {
  Index read = 0;                      // tokens in the text when the step ends
  Index computed = 0, from_cache = 0;  // with the cache: rows computed, rows taken from it
  Index computed_without = 0;          // without
  double difference = 0, size = 0;     // largest difference between the two logits, largest logit
  bool same_choice = true;             // both would go on with the same token
  double ms = 0, ms_without = 0, ms_int8 = 0;
  // An 8-bit cache against the one in 32 bits, on the same tokens: largest difference of a logit, KL divergence in nats, both's choice.
  double difference_int8 = 0, divergence_int8 = 0;
  bool same_choice_int8 = true;
};

// x ≈ scale·codes
struct RoundedRow {
  Vector<double> x, back;  // [D]
  double scale = 0;
  std::vector<int> codes;
};

// What a cache of this class and size still holds when more tokens came than it has room for: places in the text.
struct SlidingProbe {
  Index capacity = 0, sinks = 0;
  std::vector<std::vector<Index>> kept;  // after each token
};

struct CacheRun {
  ExplainedText text;  // with what was decoded
  Index prompt = 0;    // tokens read in the first step
  std::vector<CacheStep> steps = {};
  std::unique_ptr<KvCache<float>> cache = nullptr;
  Matrix<double> keys = {}, values = {};            // [T, D] of the layer and head, out of the cache
  Matrix<double> full_keys = {}, full_values = {};  // [T, D] the same of one pass over the whole text
  RoundedRow key_int8 = {};  // the last token's key
  Index measured_bytes = 0, measured_bytes_int8 = 0;
};

CacheRun run_cache(const Decoder<float>&, const ExplainedText&, const CacheQuestion&);
// Writes each token's place in the text into a KvCache as its key, and reads back which are there.
SlidingProbe probe_sliding(Index capacity, Index sinks, Index tokens);

Story cache_story(const Decoder<float>&, const CacheRun&, const CacheQuestion&, const SlidingProbe& small, const SlidingProbe& real,
                  bool example);

}  // namespace glassformer
