#include "glassformer/bench/tokenizer.hpp"

#include <stdexcept>

#include "bench/timing.hpp"
#include "glassformer/tokenizer/encoder.hpp"

namespace glassformer {

EncodeBench bench_encode(const Tokenizer& tokenizer, std::string_view text, Index repeats, int threads) {
  require(!text.empty() && repeats > 0, "bench: expected some text and a positive number of repeats, found {} bytes and {}", text.size(),
          repeats);
  EncodeBench result;
  result.bytes = static_cast<Index>(text.size());
  std::vector<double> cold, warm, parallel;
  std::vector<Token> first, ids;
  for (Index i = 0; i < repeats; ++i) {
    Encoder encoder(tokenizer);
    const auto timed_pass = [&](std::vector<double>& seconds) {
      ids.clear();  // its memory stays: what is timed is encoding
      const auto start = Clock::now();
      encoder.append(text, ids);
      seconds.push_back(seconds_since(start));
      if (first.empty()) first = ids;
      if (ids != first) throw std::logic_error("bench: an encoder gave other ids than before");
    };
    if (i == 0) Encoder(tokenizer).append(text, ids);
    timed_pass(cold);
    result.pre_tokens = encoder.work().pre_tokens, result.merged = encoder.work().merged;
    timed_pass(warm);
    const auto start = Clock::now();
    const std::vector<Token> all = encode_parallel(tokenizer, text, threads);
    parallel.push_back(seconds_since(start));
    if (all != first) throw std::logic_error("bench: several threads gave other ids than one");
  }
  const auto rate = [&](const std::vector<double>& seconds) { return static_cast<double>(text.size()) / 1e6 / median(seconds); };
  result.tokens = static_cast<Index>(first.size());
  result.cold_mb_per_s = rate(cold), result.warm_mb_per_s = rate(warm), result.threads_mb_per_s = rate(parallel);
  return result;
}

LearnBench bench_learn(std::string_view text, Index vocab_size, Index repeats, int threads) {
  require(repeats > 0, "bench: expected a positive number of repeats, found {}", repeats);
  LearnBench result;
  std::vector<double> seconds;
  for (Index i = 0; i < repeats; ++i) {
    result.places = 0;
    BpeOptions options;
    options.vocab_size = vocab_size, options.special = {};
    const auto start = Clock::now();
    result.merges = static_cast<Index>(train_bpe_parallel(text, options, threads, &result.places).merges().size());
    seconds.push_back(seconds_since(start));
  }
  result.seconds = median(seconds);
  return result;
}

}  // namespace glassformer
