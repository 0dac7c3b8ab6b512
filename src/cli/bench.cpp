// bench: speed against this machine's measured limits.
#include "cli/bench.hpp"

#include "glassformer/ops/linear.hpp"

namespace glassformer::cli {

void declare_shape(Options& o, const ModelConfig& standard, const char* arch) {
  o.integer("layers", standard.layers, 1, "blocks");
  o.integer("heads", standard.heads, 1, "query heads");
  o.integer("kv-heads", standard.kv_heads, 0, "key-value heads; 0: as many as heads");
  o.integer("width", standard.width, 1, "channels");
  o.integer("hidden", standard.hidden, 0, "width of the MLP; 0: the architecture's usual");
  o.integer("context", standard.context, 1, "tokens a sequence");
  o.integer("vocab", standard.vocab, 1, "tokens of the vocabulary");
  o.choice("arch", {"gpt2", "llama"}, "learned positions, LayerNorm, GELU, biases; or RoPE, RMSNorm, SwiGLU", arch);
  o.toggle("tied", "the head is the token embedding; on unless --no-tied");
}

ModelConfig shape_of(const Options& o) {
  ModelConfig c;
  c.layers = o.integer("layers"), c.heads = o.integer("heads"), c.kv_heads = o.integer("kv-heads"), c.width = o.integer("width");
  c.hidden = o.integer("hidden"), c.context = o.integer("context"), c.vocab = o.integer("vocab");
  c.tied = o.toggled("tied").value_or(true);
  if (o.text("arch") == "llama") c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  return resolved(c);
}

ModelConfig llama_110m() {
  ModelConfig c;
  c.layers = 12, c.heads = 12, c.width = 768, c.hidden = 2048, c.context = 512, c.vocab = 32000;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  return c;
}

std::string kernels_line() {
  return fmt::format("kernels             {:>12}\n", ops::kernel_name());
}

void add_kernels(JsonLine& json) { json.add("instruction_set", ops::kernel_name()); }

std::string operations_table(const std::vector<OperationTime>& operations) {
  std::string out = "where the time goes\n";
  for (const OperationTime& o : operations) out += fmt::format("  {:<18}{:>12.3f} ms {:>6.1f} %\n", o.name, o.ms, 100 * o.share);
  return out;
}

void add_operations(JsonLine& json, const std::vector<OperationTime>& operations) {
  for (const OperationTime& o : operations) json.push("operations", JsonLine().add("name", o.name).add("ms", o.ms).add("share", o.share));
}

int bench_command(Arguments arguments) {
  const std::vector<Command> commands = {
      {"all", "everything once: what `glassformer bench` alone does too", bench_all_command},
      {"machine", "the limits: multiply-adds, a matrix product, reading memory", bench_machine_command},
      {"matmul", "the matrix products of training, by shape", bench_matmul_command},
      {"memory", "the peak of memory against the context", bench_memory_command},
      {"train", "a training step", bench_train_command},
      {"decode", "writing, token by token", bench_decode_command},
      {"prefill", "reading a prompt", bench_prefill_command},
      {"tokenizer", "text to ids, and learning a vocabulary", bench_tokenizer_command},
  };
  if (arguments.empty() || (arguments[0].starts_with("--") && arguments[0] != "--help")) return bench_all_command(arguments);
  return dispatch("glassformer bench", "Measures speed, and the machine's own limit in the same run.", commands, arguments);
}

}  // namespace glassformer::cli
