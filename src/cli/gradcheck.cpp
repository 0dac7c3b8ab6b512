// gradcheck: is the backward pass the derivative of the forward pass?
#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/explain/gradient_check.hpp"

namespace glassformer::cli {
namespace {

Options declare() {
  Options o("gradcheck", "Holds the hand-written backward pass against numeric gradients, in double, tensor by tensor.");
  o.integer("vocab", 11, 2, "tokens of the vocabulary");
  o.integer("entries", 0, 0, "of each tensor at most N entries, drawn at random; 0: all of them");
  o.integer("lora-rank", 0, 0, "attach an adapter of this rank and check it too; 0: none");
  o.flag("dora", "make it a DoRA adapter; the model's own tensors are then left out");
  o.flag("lora-embedding", "adapt the token embedding too");
  o.integer("soft-prompt", 0, 0, "tokens of a soft prompt before each sequence, checked too; 0: none");
  o.text("base-type", "TYPE", "quantize the matrices (q8_0, q4_0, int4, nf4), which then stay frozen; needs widths of 64");
  o.flag("mask-prompt", "the first half of each sequence is not scored");
  declare_model_options(o, "2 layers, 2 heads, width 8, context 8, GPT-2's choices unless given");
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer gradcheck --position rope --norm rmsnorm --mlp swiglu --no-bias --kv-heads 1");
  return o;
}

std::string row(const TensorCheck& c) {
  const std::string count = c.checked == c.size ? std::to_string(c.size) : fmt::format("{} of {}", c.checked, c.size);
  return fmt::format("{:<34} {:>14} {:>14.6e} {:>14.6e} {:>10.1e}  {}\n", c.name, count, c.analytic_norm, c.numeric_norm, c.error,
                     c.error > kGradientTolerance ? "FAIL"
                     : c.zero                     ? "pass (zero)"
                                                  : "pass");
}

}  // namespace

int gradcheck_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  GradientCheckOptions options;
  ModelConfig base;
  base.vocab = o.integer("vocab"), base.layers = 2, base.heads = 2, base.width = 8, base.context = 8;
  options.config = resolved(model_options(o, base));
  options.seed = o.seed();
  options.kernels = o.exec().kernels;
  options.threads = o.exec().threads;
  options.mask_prompt = o.is_set("mask-prompt");
  options.entries = o.integer("entries");
  if (const Index rank = o.integer("lora-rank"); rank > 0) {
    options.lora = LoraConfig{.rank = rank, .alpha = 2.0 * static_cast<double>(rank), .dora = o.is_set("dora")};
    if (o.is_set("lora-embedding")) {
      options.lora->targets = default_adapter_targets(options.config);
      options.lora->targets.emplace_back("embed");
    }
  }
  for (const char* name : {"dora", "lora-embedding"}) require_usage(options.lora || !o.is_set(name), "--{}: expected --lora-rank beside it", name);
  options.soft_prompt = o.integer("soft-prompt");
  require_usage(options.soft_prompt < options.config.context, "--soft-prompt: expected less than the context of {}, found {}", options.config.context,
                options.soft_prompt);
  if (o.given("base-type")) {
    const auto type = quantized_named(o.text("base-type"));
    require_usage(type.has_value(), "--base-type: {}", type ? "" : type.error());
    options.base = *type;
    require_usage(options.lora || options.soft_prompt > 0, "--base-type: expected something to train beside it: --lora-rank or --soft-prompt");
  }

  const bool table = !o.json();
  if (table) print_output(fmt::format("{:<34} {:>14} {:>14} {:>14} {:>10}\n", "tensor", "parameters", "|analytic|", "|numeric|", "error"));
  const std::vector<TensorCheck> checks = check_gradients(options, [&](const TensorCheck& c) {
    if (table) print_output(row(c)), flush_output();
  });
  const TensorCheck& worst = worst_check(checks);
  const bool pass = worst.error <= kGradientTolerance;
  if (table) {
    print_output(fmt::format("{}: the largest error is {:.1e}, of {}; at most {:.0e} is right\n", pass ? "PASS" : "FAIL", worst.error,
                             worst.name, kGradientTolerance));
  } else {
    JsonLine json;
    for (const TensorCheck& c : checks) {
      JsonLine tensor;
      tensor.add("name", std::string_view(c.name)).add("size", c.size).add("checked", c.checked).add("analytic_norm", c.analytic_norm);
      json.push("tensors", tensor.add("numeric_norm", c.numeric_norm).add("error", c.error).add("zero", c.zero));
    }
    json.add("largest_error", worst.error)
        .add("largest_error_tensor", std::string_view(worst.name))
        .add("tolerance", kGradientTolerance)
        .add("pass", pass)
        .print();
  }
  return pass ? 0 : 1;
}

}  // namespace glassformer::cli
