// How fast a model reads a prompt and writes a text, beside the limits of this machine: reading a prompt is bound by arithmetic, writing by
// memory. Legend: B sequences, C channels, L layers, V vocabulary.
#pragma once
#include <optional>
#include <vector>

#include "glassformer/bench/operations.hpp"
#include "glassformer/model/quantize.hpp"

namespace glassformer {

struct InferenceOptions {
  Index batch = 1;     // sequences at once, each with a slot of the cache (decode)
  Index tokens = 200;  // to decode, from an empty cache; of the prompt (prefill)
  Index repeats = 4;   // of which the best counts, as for llama.cpp (llama_bench); at least 1
  Exec exec;
};

// A model of random weights, in few bits where `types` says so: as large and as fast as a trained one.
Decoder<float> random_model(const ModelConfig&, const std::optional<QuantizeTypes>& types, const Exec&);

// Bytes that one step of decoding must read from memory: every weight but tables that are looked up (a tied embedding is the head, and
// read), and the keys and values of `places` tokens in each of B slots.
Index decode_step_bytes(const Decoder<float>&, Index batch, double places);

struct DecodeBench {
  double seconds = 0;       // of the best repeat: options.tokens steps of B sequences
  double tokens_per_s = 0;  // of the best repeat, all sequences together
  double median_tokens_per_s = 0;
  double step_ms = 0;                     // of the best repeat: one token of each sequence
  Index weight_bytes = 0;                 // of the whole model
  Index step_bytes = 0;                   // read in a step, on average over the text
  double read_gb_per_s = 0;               // of the best repeat
  double memory_gb_per_s = 0;             // the most that was measured between the repeats
  double share_of_memory_limit = 0;       // median over the repeats, each against the limit measured right before and after
  std::vector<Token> ids;                 // the first sequence's tokens, greedy
  std::vector<OperationTime> operations;  // of a step, in a repeat of its own
};
// Decodes tokens 1 … options.tokens of B sequences greedily as `generate` does: one pass a step with exec.row_exact and a KV cache, the
// head's logits, the largest. The tokenizer and the text's other costs are not in it. Throws std::invalid_argument for more tokens than the
// context.
DecodeBench bench_decode(const Decoder<float>&, const InferenceOptions&);

struct PrefillBench {
  double ms = 0;  // of the best repeat
  double tokens_per_s = 0;
  double median_tokens_per_s = 0;
  double gflops_per_s = 0;  // 2·(weights of the blocks)·tokens + 2·V·C for the last token's logits + attention without masked scores
  double fma_peak_gflops_per_s = 0;
  std::vector<OperationTime> operations;  // of the prompt, in a repeat of its own
  double share_of_fma_peak() const { return gflops_per_s / fma_peak_gflops_per_s; }
};
// Reads a prompt of options.tokens in one pass into an empty cache, and computes the last token's logits. options.batch is not read.
PrefillBench bench_prefill(const Decoder<float>&, const InferenceOptions&);

}  // namespace glassformer
