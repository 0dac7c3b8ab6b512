// bench train: a training step.
#include "cli/bench.hpp"
#include "cli/terminal.hpp"
#include "cli/training.hpp"

namespace glassformer::cli {

JsonLine bench_json(const TrainBench& b) {
  JsonLine json;
  json.add("parameters", b.parameters)
      .add("step_ms", b.step_ms)
      .add("tokens_per_s", b.tokens_per_s)
      .add("gflops_per_s", b.gflops_per_s)
      .add("fma_peak_gflops_per_s", b.fma_peak_gflops_per_s)
      .add("share_of_fma_peak", b.share_of_fma_peak());
  add_operations(json, b.operations);
  add_kernels(json);
  return json;
}

int bench_train_command(Arguments arguments) {
  Options o("bench train", "Times whole training steps (forward, backward, clipping, AdamW) on random tokens.");
  ModelConfig standard;
  standard.vocab = 65;
  declare_shape(o, standard, "gpt2");
  o.integer("batch", 12, 1, "sequences a step");
  o.integer("steps", 30, 1, "steps to time, after a first that is not");
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer bench train --layers 6 --heads 6 --width 384 --context 256 --batch 8");
  if (!o.parse(arguments)) return 0;

  const TrainBench b = bench_train(shape_of(o), o.integer("batch"), o.integer("steps"), o.exec());
  print_output(
      fmt::format("parameters          {:>12}\n"
                  "step                {:>12.2f} ms\n"
                  "tokens              {:>12.0f} a second\n"
                  "arithmetic          {:>12.1f} GFLOP/s (masked scores counted, as the peers do)\n"
                  "multiply-add peak   {:>12.1f} GFLOP/s on {} threads\n"
                  "share of the peak   {:>12.1f} % (masked scores not counted)\n"
                  "{}",
                  grouped(b.parameters), b.step_ms, b.tokens_per_s, b.gflops_per_s, b.fma_peak_gflops_per_s, o.exec().threads,
                  100 * b.share_of_fma_peak(), kernels_line()));
  print_output(operations_table(b.operations));
  if (o.json()) {
    JsonLine json = bench_json(b);
    if (const auto peak = peak_bytes()) json.add("peak_bytes", *peak);
    json.print();
  }
  return 0;
}

}  // namespace glassformer::cli
