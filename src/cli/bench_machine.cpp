// bench machine, bench matmul, bench memory: what the machine can do, how near the matrix products come to it, and what training keeps in
// memory.
#include "cli/bench.hpp"
#include "cli/terminal.hpp"
#include "cli/training.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/bench/train.hpp"
#include "glassformer/ops/linear.hpp"

namespace glassformer::cli {

int bench_machine_command(Arguments arguments) {
  Options o(
      "bench machine",
      "Measures the limits that every other figure is a share of: multiply-adds in registers, a large matrix product, reading memory.");
  o.common(kThreads | kJson);
  o.example("glassformer bench machine");
  if (!o.parse(arguments)) return 0;
  JsonLine json;
  print_output(machine_table(o.exec().threads, json));
  if (o.json()) json.print();
  return 0;
}

std::string machine_table(int threads, JsonLine& json) {
  const double fma = fma_peak_gflops(threads), gemm = gemm_gflops(Product::forward, 1024, 1024, 1024, threads),
               memory = MemoryMeter(threads).read_gb_per_s(8);
  json.add("threads", static_cast<Index>(threads))
      .add("fma_peak_gflops_per_s", fma)
      .add("gemm_gflops_per_s", gemm)
      .add("memory_gb_per_s", memory);
  add_kernels(json);
  return fmt::format(
      "{} threads\n"
      "multiply-adds       {:>12.1f} GFLOP/s in registers\n"
      "matrix product      {:>12.1f} GFLOP/s, 1024·1024·1024: {:.1f} % of that\n"
      "reading memory      {:>12.1f} GB/s\n"
      "{}",
      threads, fma, gemm, 100 * gemm / fma, memory, kernels_line());
}

namespace {

struct Layer {
  const char* name;
  Index rows, columns, inner;
};
constexpr Layer kLayers[] = {
    {"0.8M q, k, v", 768, 384, 128},    {"0.8M MLP up", 768, 512, 128},    {"0.8M MLP down", 768, 128, 512},
    {"10.8M q, k, v", 2048, 1152, 384}, {"10.8M MLP up", 2048, 1536, 384}, {"10.8M MLP down", 2048, 384, 1536},
    {"124M q, k, v", 256, 2304, 768},   {"124M MLP up", 256, 3072, 768},   {"124M MLP down", 256, 768, 3072},
    {"124M head", 256, 50257, 768},
};

}  // namespace

int bench_matmul_command(Arguments arguments) {
  Options o("bench matmul",
            "Times the three matrix products of the linear layers that training at 0.8M, 10.8M and 124M parameters meets: y = x·Wᵀ, dx = "
            "dy·W, dW = dyᵀ·x, beside "
            "the multiply-adds that the machine reaches in registers.");
  o.positive("seconds", 0.1, "how long to measure each");
  o.common(kThreads | kJson);
  o.example("glassformer bench matmul --seconds 0.05");
  if (!o.parse(arguments)) return 0;
  const int threads = o.exec().threads;
  const double seconds = o.real("seconds"), peak = fma_peak_gflops(threads);
  JsonLine json;
  json.add("threads", static_cast<Index>(threads)).add("fma_peak_gflops_per_s", peak);
  add_kernels(json);
  std::string table =
      fmt::format("GFLOP/s by {} on {} threads, and % of the multiply-adds ({:.1f})\n{:<16}{:>8}{:>8}{:>8}{:>16}{:>16}{:>16}\n",
                  ops::kernel_name(), threads, peak, "", "tokens", "outputs", "inputs", "x·Wᵀ", "dy·W", "dyᵀ·x");
  for (const Layer& l : kLayers) {
    double speed[3];
    std::string cells;
    for (int p = 0; p < 3; ++p) {
      speed[p] = gemm_gflops(static_cast<Product>(p), l.rows, l.columns, l.inner, threads, seconds);
      cells += fmt::format("{:>9.1f} {:>5.1f}%", speed[p], 100 * speed[p] / peak);
    }
    table += fmt::format("{:<16}{:>8}{:>8}{:>8}{}\n", l.name, l.rows, l.columns, l.inner, cells);
    json.push("products", JsonLine()
                              .add("layer", l.name)
                              .add("tokens", l.rows)
                              .add("outputs", l.columns)
                              .add("inputs", l.inner)
                              .add("forward_gflops_per_s", speed[0])
                              .add("input_gflops_per_s", speed[1])
                              .add("parameters_gflops_per_s", speed[2]));
  }
  print_output(table);
  if (o.json()) json.print();
  return 0;
}

int bench_memory_command(Arguments arguments) {
  Options o("bench memory",
            "The most memory that one training step on one sequence takes, for contexts of 512 tokens and on, doubled up to --context. "
            "Attention that held its scores would "
            "grow by the square of the context; here each token costs the same.");
  ModelConfig standard;
  standard.layers = 2, standard.width = 64, standard.vocab = 65, standard.context = 4096;
  declare_shape(o, standard, "llama");
  o.common(kThreads | kJson);
  o.example("glassformer bench memory --context 2048");
  if (!o.parse(arguments)) return 0;
  ModelConfig config = shape_of(o);
  const Index most = config.context;
  require_usage(most >= 512, "--context: expected at least 512, found {}", most);
  const std::optional<Index> before = peak_bytes();
  if (!before) throw Failure("bench memory: expected a system that tells a process's peak of memory, found another");
  JsonLine json;
  std::string table =
      fmt::format("peak over {} bytes before, one sequence, {} layers, {} heads\n{:>10}{:>16}{:>16}{:>34}\n", grouped(*before),
                  config.layers, config.heads, "tokens", "bytes", "a token", "scores of all heads and layers");
  for (config.context = 512; config.context <= most; config.context *= 2) {
    bench_train(config, 1, 1, o.exec());
    const Index T = config.context, bytes = *peak_bytes() - *before,
                scores = config.layers * config.heads * T * T * static_cast<Index>(sizeof(float));
    table += fmt::format("{:>10}{:>16}{:>16}{:>34}\n", grouped(T), grouped(bytes), grouped(bytes / T), grouped(scores));
    json.push("contexts",
              JsonLine().add("context", T).add("peak_bytes", bytes).add("bytes_per_token", bytes / T).add("scores_bytes", scores));
  }
  print_output(table);
  if (o.json()) json.print();
  return 0;
}

}  // namespace glassformer::cli
