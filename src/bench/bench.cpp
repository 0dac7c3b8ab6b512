#include "glassformer/bench/bench.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Enough independent chains to fill two multiply-add units of four cycles' latency.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef float Lanes __attribute__((vector_size(kVectorBytes)));
constexpr int kChains = 12;

float multiply_adds(Index iterations, float x) {
  Lanes sum[kChains], factor = Lanes{} + x, term = Lanes{} + 1e-3F;
  for (int c = 0; c < kChains; ++c) sum[c] = Lanes{} + static_cast<float>(c);
  for (Index i = 0; i < iterations; ++i) {
    for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * factor + term;
  }
  float total = 0;
  for (const Lanes& s : sum) total += s[0] + s[3];
  return total;
}

}  // namespace

double fma_peak_gflops(int threads, double seconds) {
  constexpr Index kIterations = 1 << 16;
  constexpr double kFlops = 2.0 * (kVectorBytes / 4) * kChains * kIterations;
  std::vector<double> done(static_cast<std::size_t>(threads)), took(done.size());
  std::vector<float> keep(done.size());
  parallel_for(threads, threads, [&](Index t) {
    const auto at = static_cast<std::size_t>(t);
    const auto start = Clock::now();
    while (took[at] < seconds) {
      keep[at] += multiply_adds(kIterations, static_cast<float>(0.999 - 1e-3 * took[at]));  // another factor each time, or it is computed once
      done[at] += kFlops;
      took[at] = seconds_since(start);
    }
  });
  require(std::accumulate(keep.begin(), keep.end(), 0.0F) != 0.5F, "unreachable: keeps the sums alive");
  double rate = 0;
  for (std::size_t t = 0; t < done.size(); ++t) rate += done[t] / took[t] / 1e9;
  return rate;
}

TrainBench bench_train(const ModelConfig& config, Index batch, Index steps, const Exec& exec) {
  require(steps > 0, "bench: expected a positive number of steps, found {}", steps);
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  TrainOptions options;
  options.steps = steps + 1, options.batch = batch, options.warmup = 0, options.exec = exec;
  Trainer<float> trainer(model, options);
  const ModelConfig& c = model.config;
  const BatchSource source = [&](Index step, Index) {
    Batch b;
    const RandomStream stream = RandomStream{1}.at("bench").at(static_cast<std::uint64_t>(step));
    for (Index i = 0; i < batch * c.context; ++i) {
      b.inputs.push_back(static_cast<Token>(random_below(stream, static_cast<std::uint64_t>(2 * i), static_cast<std::uint64_t>(c.vocab))));
      b.targets.push_back(static_cast<Token>(random_below(stream, static_cast<std::uint64_t>(2 * i + 1), static_cast<std::uint64_t>(c.vocab))));
    }
    for (Index s = 0; s <= batch; ++s) b.starts.push_back(s * c.context);
    return b;
  };
  std::vector<double> seconds;
  for (Index i = 0; i <= steps; ++i) {
    const auto start = Clock::now();
    trainer.step(source);
    if (i > 0) seconds.push_back(seconds_since(start));
  }
  std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
  const double median = seconds[seconds.size() / 2];

  TrainBench result;
  result.parameters = model.arena.layout().parameters();
  result.step_ms = median * 1e3;
  const double tokens = static_cast<double>(batch * c.context);
  result.tokens_per_s = tokens / median;
  const double products = 6.0 * static_cast<double>(result.parameters - model.pos_embed.size());
  const double attention = static_cast<double>(c.layers * c.heads * c.head_dim * c.context);
  result.gflops_per_s = (products + 12 * attention) * tokens / median / 1e9;
  result.useful_gflops_per_s = (products + 6 * attention) * tokens / median / 1e9;
  result.fma_peak_gflops_per_s = fma_peak_gflops(exec.threads);
  return result;
}

}  // namespace glassformer
