// bench: speed against this machine's measured limits.
#include "cli/command.hpp"
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/bench/bench.hpp"
#include "glassformer/ops/linear.hpp"

namespace glassformer::cli {
namespace {

int bench_train_command(Arguments arguments) {
  Options o("bench train", "Times whole training steps (forward, backward, clipping, AdamW) on random tokens.");
  o.integer("layers", 4, 1, "blocks");
  o.integer("heads", 4, 1, "query heads");
  o.integer("kv-heads", 0, 0, "key-value heads; 0: as many as heads");
  o.integer("width", 128, 1, "channels");
  o.integer("hidden", 0, 0, "width of the MLP; 0: the architecture's usual");
  o.integer("context", 64, 1, "tokens a sequence");
  o.integer("batch", 12, 1, "sequences a step");
  o.integer("vocab", 65, 1, "tokens of the vocabulary");
  o.choice("arch", {"gpt2", "llama"}, "learned positions, LayerNorm, GELU, biases; or RoPE, RMSNorm, SwiGLU", "gpt2");
  o.integer("steps", 30, 1, "steps to time, after a first that is not");
  o.common(kThreads | kKernels | kJson);
  o.example("glassformer bench train --layers 6 --heads 6 --width 384 --context 256 --batch 8");
  if (!o.parse(arguments)) return 0;

  ModelConfig c;
  c.layers = o.integer("layers"), c.heads = o.integer("heads"), c.kv_heads = o.integer("kv-heads"), c.width = o.integer("width"), c.hidden = o.integer("hidden");
  c.context = o.integer("context"), c.vocab = o.integer("vocab");
  if (o.text("arch") == "llama") c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  const TrainBench b = bench_train(c, o.integer("batch"), o.integer("steps"), o.exec());
  print_output(fmt::format("parameters          {:>12}\n"
                           "step                {:>12.2f} ms\n"
                           "tokens              {:>12.0f} a second\n"
                           "arithmetic          {:>12.1f} GFLOP/s (masked scores counted, as the peers do)\n"
                           "multiply-add peak   {:>12.1f} GFLOP/s on {} threads\n"
                           "share of the peak   {:>12.1f} % (masked scores not counted)\n"
                           "matrix products by  {:>12}\n",
                           grouped(b.parameters), b.step_ms, b.tokens_per_s, b.gflops_per_s, b.fma_peak_gflops_per_s, o.exec().threads,
                           100 * b.share_of_fma_peak(), ops::multiply_backend()));
  if (o.json()) {
    JsonLine()
        .add("parameters", b.parameters)
        .add("step_ms", b.step_ms)
        .add("tokens_per_s", b.tokens_per_s)
        .add("gflops_per_s", b.gflops_per_s)
        .add("fma_peak_gflops_per_s", b.fma_peak_gflops_per_s)
        .add("share_of_fma_peak", b.share_of_fma_peak())
        .print();
  }
  return 0;
}

}  // namespace

int bench_command(Arguments arguments) {
  const std::vector<Command> commands = {{"train", "a training step", bench_train_command}};
  return dispatch("glassformer bench", "Measures speed, and the machine's own limit in the same run.", commands, arguments);
}

}  // namespace glassformer::cli
