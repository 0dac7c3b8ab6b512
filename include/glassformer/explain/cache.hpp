// The KV cache, told: one text decoded with it and without, step by step, by the engine.
// Legend: L layers, T tokens, H query heads, G key-value heads, D head width, b bytes a number.
//   without   each step reads all tokens again: rows 1 + 2 + … + n = n(n + 1)/2
//   with      each step reads its new tokens, and takes keys and values of the others from the cache: n rows, 2·L·T·G·D·b bytes
//   in 8 bits the same decode once more with an int8 cache, 2·L·T·G·(D + 4) bytes: what that does to the logits
// The rows are counted by a Trace at attn.k, keys and values are read out of the KvCache, its bytes are those of its arrays.
#pragma once
#include "glassformer/explain/text.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct CacheQuestion {
  Index layer = 0, head = 0;  // whose cached rows are shown; the head is a query head
  Index new_tokens = 8;       // decoded greedily after the prompt
  Index sinks = 4;            // of the sliding cache
  Exec exec{};
};

// The text is read at once (prefill), then the model goes on greedily. Throws std::invalid_argument for a layer, head or number of tokens
// that does not exist or does not fit the context; for no token; for a model that is not causal, or logits that are NaN.
Story explain_cache(const Decoder<float>&, const ExplainedText&, const CacheQuestion& = {});

// Five tokens, one by one, through two layers of two heads of width two over `kv_heads` (2 or 1) key-value heads.
Story explain_cache_example(Index kv_heads = 2, const CacheQuestion& = {.new_tokens = 4, .sinks = 1});

}  // namespace glassformer
