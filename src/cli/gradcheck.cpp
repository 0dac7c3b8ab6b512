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
  if (const Index rank = o.integer("lora-rank"); rank > 0) options.lora = LoraConfig{rank, 2.0 * static_cast<double>(rank), 0, false, {}};

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
