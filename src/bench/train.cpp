#include "glassformer/bench/train.hpp"

#include <vector>

#include "bench/timing.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

TrainBench bench_train(const ModelConfig& config, Index batch, Index steps, const Exec& exec) {
  require(steps > 0, "bench: expected a positive number of steps, found {}", steps);
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  TrainOptions options;
  options.steps = steps + 1 + steps, options.batch = batch, options.warmup = 0, options.exec = exec;
  Trainer<float> trainer(model, options);
  const ModelConfig& c = model.config;
  const BatchSource source = [&](Index step, Index) {
    Batch b;
    const RandomStream stream = RandomStream{1}.at("bench").at(static_cast<std::uint64_t>(step));
    for (Index i = 0; i < batch * c.context; ++i) {
      b.inputs.push_back(static_cast<Token>(random_below(stream, static_cast<std::uint64_t>(2 * i), static_cast<std::uint64_t>(c.vocab))));
      b.targets.push_back(
          static_cast<Token>(random_below(stream, static_cast<std::uint64_t>(2 * i + 1), static_cast<std::uint64_t>(c.vocab))));
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
  const double typical = median(seconds);

  TrainBench result;
  const Index profiled = std::max<Index>(1, steps / 4);
  Profile profile;
  for (Index i = 0; i < profiled; ++i) trainer.step(source);
  profile.stop();
  result.operations = operation_times(profile, static_cast<double>(profiled));
  result.parameters = model.arena.layout().parameters();
  result.step_ms = typical * 1e3;
  const double tokens = static_cast<double>(batch * c.context);
  result.tokens_per_s = tokens / typical;
  const double products = 6.0 * static_cast<double>(result.parameters - model.pos_embed.size());
  const double attention = static_cast<double>(c.layers * c.heads * c.head_dim * c.context);
  result.gflops_per_s = (products + 12 * attention) * tokens / typical / 1e9;
  result.useful_gflops_per_s = (products + 6 * attention) * tokens / typical / 1e9;
  result.fma_peak_gflops_per_s = fma_peak_gflops(exec.threads);
  return result;
}

}  // namespace glassformer
