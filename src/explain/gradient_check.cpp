#include "glassformer/explain/gradient_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "glassformer/core/require.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/model/quantize.hpp"

namespace glassformer {
namespace {

// Weights of natural size, so that no part is linear, saturated or zero by accident. Each tensor has its own stream. An adapter's B is
// divided by its scale, or α/r would make a change far larger than the weights, and a loss too crooked to be differentiated.
void draw(const Arena<double>& arena, const RandomStream& stream, double scale = 1) {
  for (const TensorInfo& info : arena.layout().tensors()) {
    if (info.name.ends_with(".magnitude")) continue;  // it starts at the row norms: see disturb
    const bool gain = info.kind == ParameterKind::vector && info.name.ends_with(".weight");
    const double natural = info.kind == ParameterKind::vector ? 0.2 : 1 / std::sqrt(static_cast<double>(info.cols));
    const double deviation = info.name.ends_with("lora_B") ? natural / scale : natural;
    const MatrixView<double> view = arena.view(info);
    const RandomStream own = stream.at(info.name);
    for (Index i = 0; i < view.size(); ++i) view.data[i] = (gain ? 1 : 0) + deviation * random_normal(own, static_cast<std::uint64_t>(i));
  }
}

// DoRA's magnitudes away from the row norms, where W' = V would hide a mistake.
void disturb_magnitudes(const Adapter<double>& adapter, const RandomStream& stream) {
  for (const AdapterTarget& t : adapter.targets) {
    const MatrixView<double> m = adapter.arena.view(t.name + ".magnitude");
    for (Index i = 0; i < m.size(); ++i) m.data[i] *= 1 + 0.2 * random_normal(stream.at(t.name), static_cast<std::uint64_t>(i));
  }
}

// Packed sequences of random tokens, with targets.
Batch random_batch(const GradientCheckOptions& options, const ModelConfig& c, const RandomStream& stream) {
  const auto vocab = static_cast<std::uint64_t>(c.vocab);
  const RandomStream of_ids = stream.at("ids"), of_targets = stream.at("targets");
  Batch b;
  b.starts = {0};
  for (Index length : options.lengths) {
    require(length >= 1, "gradient check: expected sequences of at least one token, found {}", length);
    length = std::min(length, c.context - options.soft_prompt);
    for (Index t = 0; t < length; ++t) {
      const auto n = static_cast<std::uint64_t>(b.inputs.size());
      const bool hidden = options.mask_prompt ? t < length / 2 : n % 4 == 1;
      b.inputs.push_back(static_cast<Token>(random_below(of_ids, n, vocab)));
      b.targets.push_back(hidden ? Token{-1} : static_cast<Token>(random_below(of_targets, n, vocab)));
    }
    b.starts.push_back(static_cast<Index>(b.inputs.size()));
  }
  require(!b.targets.empty(), "gradient check: expected at least one sequence, found none");
  return b;
}

// Which entries of a tensor to compare: all, or `most` different ones.
std::vector<Index> sample(Index size, Index most, const RandomStream& stream) {
  std::set<Index> chosen;
  const bool all = most == 0 || most >= size;
  for (Index i = 0; all && i < size; ++i) chosen.insert(i);
  for (std::uint64_t draw = 0; !all && static_cast<Index>(chosen.size()) < most; ++draw) {
    chosen.insert(static_cast<Index>(random_below(stream, draw, static_cast<std::uint64_t>(size))));
  }
  return {chosen.begin(), chosen.end()};
}

// ∂L/∂x at one place by five-point differences; x is as before afterwards, to the bit.
template <class F> double numeric_derivative(double& x, double h, F&& loss) {
  const double before = x;
  const auto at = [&](double offset) {
    x = before + offset;
    return loss();
  };
  const double near = at(h) - at(-h), far = at(2 * h) - at(-2 * h);
  x = before;
  return (8 * near - far) / (12 * h);
}

// Root mean square: h is a fraction of it, for what is a small change of a parameter depends on how large it is.
double size_of(MatrixView<double> x) { return (*x).norm() / std::sqrt(static_cast<double>(x.size())); }

template <class F> TensorCheck compare(const TensorInfo& info, double* x, const double* analytic, const std::vector<Index>& entries, double h, F&& loss) {
  TensorCheck check{info.name, info.size(), static_cast<Index>(entries.size()), 0, 0, 0, false};
  double difference = 0;
  for (const Index i : entries) {
    const double a = analytic[i], n = numeric_derivative(x[i], h, loss);
    check.analytic_norm += a * a, check.numeric_norm += n * n, difference += (a - n) * (a - n);
  }
  check.analytic_norm = std::sqrt(check.analytic_norm), check.numeric_norm = std::sqrt(check.numeric_norm);
  // A loss is a number of size 1 to 10 and rounds by some ten ε in all; that divided by h is what a difference cannot see.
  const double size = check.analytic_norm + check.numeric_norm;
  const double noise = 20 * std::numeric_limits<double>::epsilon() * std::max(1.0, std::abs(loss())) / h * std::sqrt(static_cast<double>(entries.size()));
  check.zero = size <= noise;
  check.error = check.zero ? size : std::sqrt(difference) / size;
  if (std::isnan(check.error)) check.error = std::numeric_limits<double>::infinity();
  return check;
}

}  // namespace

std::vector<TensorCheck> check_gradients(const GradientCheckOptions& options, const std::function<void(const TensorCheck&)>& progress) {
  require(options.step > 0 && options.step < 1, "gradient check: expected a step above 0 and below 1, found {}", options.step);
  require(options.entries >= 0, "gradient check: expected a number of entries, found {}", options.entries);
  ModelConfig config = options.config;
  if (config.vocab == 0) config.vocab = 11;
  Decoder<double> model = make_decoder<double>(config);
  const RandomStream random = RandomStream{options.seed}.at("gradient check");
  draw(model.arena, random.at("weights"));
  if (options.base) model = convert_decoder<double>(quantize_decoder(convert_decoder<float>(model), QuantizeTypes::all(*options.base)));
  require(!options.base || !model.quantized.empty(), "gradient check: expected widths that are multiples of {} under {}, found none",
          block_length(options.base.value_or(QuantizedType::q8_0)), quantized_name(options.base.value_or(QuantizedType::q8_0)));
  std::optional<Adapter<double>> adapter, prompt;
  if (options.lora) {
    adapter = make_adapter<double>(model, *options.lora, options.seed);
    draw(adapter->arena, random.at("adapter"), options.lora->scale());
    disturb_magnitudes(*adapter, random.at("magnitude"));
    attach(model, *adapter);
  }
  if (options.soft_prompt > 0) {
    prompt = make_soft_prompt<double>(model, options.soft_prompt, options.seed);
    attach(model, *prompt);
  }

  const Batch batch = prepend(random_batch(options, model.config, random.at("batch")), soft_prompt_ids(model));
  Workspace workspace;
  Pass<double> pass;
  pass.exec.kernels = options.kernels, pass.exec.threads = options.threads;
  pass.starts = batch.starts, pass.workspace = &workspace;
  pass.training = true, pass.random = random.at("dropout");
  const auto mean_loss = [&] {
    refresh(model);  // A or B may have moved under DoRA's norms
    return decoder_loss<double>(model, pass, batch.inputs, batch.targets, nullptr, nullptr, 1).mean();
  };

  std::vector<TensorCheck> checks;
  const auto check_arena = [&](const Arena<double>& parameters, const Arena<double>& gradients) {
    for (const TensorInfo& info : parameters.layout().tensors()) {
      const std::vector<Index> entries = sample(info.size(), options.entries, random.at("entries").at(info.name));
      checks.push_back(compare(info, parameters.view(info).data, gradients.view(info).data, entries, options.step * size_of(parameters.view(info)), mean_loss));
      if (progress) progress(checks.back());
    }
  };
  const auto analytic = [&](DecoderGrads<double> gradients) {
    DecoderSaved<double> saved;
    Pass<double> watched = pass;
    watched.trace = options.trace;
    decoder_loss<double>(model, watched, batch.inputs, batch.targets, &saved, &gradients, 1 / static_cast<double>(batch.scored()));
    return gradients;
  };
  if (!options.base && !(options.lora && options.lora->dora)) check_arena(model.arena, analytic(make_gradients(model)).arena);
  if (adapter) check_arena(adapter->arena, analytic(make_adapter_gradients(model, *adapter)).adapter);
  if (prompt) check_arena(prompt->arena, analytic(make_adapter_gradients(model, *prompt)).adapter);
  return checks;
}

const TensorCheck& worst_check(const std::vector<TensorCheck>& checks) {
  require(!checks.empty(), "gradient check: no tensor was checked");
  return *std::ranges::max_element(checks, {}, &TensorCheck::error);
}

}  // namespace glassformer
