// How fast text becomes ids, and how fast a vocabulary is learned.
#pragma once
#include <string_view>

#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

// Rates in MB/s (10⁶ bytes of text). Median of the repeats.
struct EncodeBench {
  Index bytes = 0, tokens = 0;
  Index pre_tokens = 0, merged = 0;  // kind bpe: in the text, and how many of them a new encoder had to merge; 0 for the other kinds
  double cold_mb_per_s = 0;          // a new encoder, which has met no pre-token, on one thread
  double warm_mb_per_s = 0;          // an encoder that has read this text before, on one thread
  double threads_mb_per_s = 0;       // encode_parallel, as the commands call it: cold, on `threads` threads
  // Of the time of a cold pass, what goes into pre-tokens that are new: the rest finds pre-tokens and looks them up.
  double share_of_merging() const { return 1 - cold_mb_per_s / warm_mb_per_s; }
};
// Throws std::invalid_argument for an empty text and where encode() throws; std::logic_error if two ways gave different ids.
EncodeBench bench_encode(const Tokenizer&, std::string_view text, Index repeats, int threads);

struct LearnBench {
  Index merges = 0;
  Index places = 0;    // looked at by all merges together: grows as the text's distinct words do
  double seconds = 0;  // median
};
LearnBench bench_learn(std::string_view text, Index vocab_size, Index repeats, int threads);

}  // namespace glassformer
