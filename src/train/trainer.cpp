#include "glassformer/train/trainer.hpp"

#include <cmath>
#include <numbers>

#include "glassformer/core/require.hpp"
#include "glassformer/ops/optimizer.hpp"

namespace glassformer {

void validate(const TrainOptions& o) {
  require(o.steps > 0, "steps: expected a positive number, found {}", o.steps);
  require(o.batch > 0, "batch: expected a positive number, found {}", o.batch);
  require(o.accumulate > 0, "accumulate: expected a positive number, found {}", o.accumulate);
  require(o.warmup >= 0, "warmup: expected 0 or more steps, found {}", o.warmup);
  require(o.rate > 0 && o.rate < 100, "rate: expected a positive number, found {}", o.rate);
  require(o.min_rate >= 0 && o.min_rate <= o.rate, "min-rate: expected 0 to the rate {}, found {}", o.rate, o.min_rate);
  require(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, "beta: expected at least 0 and below 1, found {} and {}", o.beta1, o.beta2);
  require(o.epsilon > 0, "epsilon: expected a positive number, found {}", o.epsilon);
  require(o.weight_decay >= 0 && o.weight_decay < 100, "weight-decay: expected 0 or more, found {}", o.weight_decay);
  require(o.clip >= 0, "clip: expected 0 (none) or more, found {}", o.clip);
  require(o.muon_rate > 0 && o.muon_rate < 100 && o.muon_momentum >= 0 && o.muon_momentum < 1, "muon: expected a positive rate and a momentum below 1, found {} and {}",
          o.muon_rate, o.muon_momentum);
}

double schedule(const TrainOptions& o, Index step) {
  const double lowest = o.min_rate / o.rate;
  if (step < o.warmup) return static_cast<double>(step + 1) / static_cast<double>(o.warmup);
  if (step >= o.steps) return lowest;
  const double share = static_cast<double>(step - o.warmup) / static_cast<double>(std::max<Index>(1, o.steps - o.warmup));
  return lowest + 0.5 * (1 + std::cos(std::numbers::pi * share)) * (1 - lowest);
}

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const TrainOptions& options, Arena<S> parameters, DecoderGrads<S> grads)
    : model_(model), options_(options), parameters_(std::move(parameters)), m_(parameters_.shared_layout()), v_(parameters_.shared_layout()), grads_(std::move(grads)) {
  validate(options_);
}

template <class S> Trainer<S>::Trainer(Decoder<S>& model, const TrainOptions& options) : Trainer(model, options, model.arena, make_gradients(model)) {}

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const Arena<S>& part, const TrainOptions& options) : Trainer(model, options, part, make_gradients(model, part)) {}

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const Adapter<S>& adapter, const TrainOptions& options)
    : Trainer(model, options, adapter.arena, make_adapter_gradients(model, adapter)) {}

template <class S> StepReport Trainer<S>::step(const BatchSource& source) {
  std::vector<Batch> batches;
  StepReport report{done_ + 1, 0, 0, options_.rate * schedule(options_, done_), 0};
  Index scored = 0;
  for (Index micro = 0; micro < options_.accumulate; ++micro) {
    batches.push_back(source(done_, micro));
    scored += batches.back().scored();
    report.tokens += static_cast<Index>(batches.back().inputs.size());
  }
  require(scored > 0, "step {}: no token of its batch is scored", report.step);

  Arena<S>& gradient = grads_.arena ? grads_.arena : grads_.adapter;
  gradient.set_zero();
  const S scale = static_cast<S>(1.0 / static_cast<double>(scored));  // the mean over all tokens of the step, whatever the micro-batches
  for (Index micro = 0; micro < options_.accumulate; ++micro) {
    const Batch& batch = batches[static_cast<std::size_t>(micro)];
    Pass<S> pass;
    pass.exec = options_.exec, pass.starts = batch.starts, pass.workspace = &workspace_, pass.trace = trace_, pass.training = true;
    pass.random = RandomStream{options_.seed}.at("dropout").at(static_cast<std::uint64_t>(done_)).at(static_cast<std::uint64_t>(micro));
    report.loss_nats += decoder_loss<S>(model_, pass, batch.inputs, batch.targets, &saved_, &grads_, scale).sum_nats / static_cast<double>(scored);
  }
  report.gradient_norm = std::sqrt(ops::sum_of_squares<S>(gradient.values(), options_.exec));
  if (!std::isfinite(report.loss_nats) || !std::isfinite(report.gradient_norm)) {
    throw std::runtime_error(fmt::format("step {}: the loss is {} and the gradient's norm {}: training diverged, or the weights hold no numbers", report.step,
                                         report.loss_nats, report.gradient_norm));
  }
  const bool clips = options_.clip > 0 && report.gradient_norm > options_.clip;
  update(schedule(options_, done_), clips ? options_.clip / (report.gradient_norm + 1e-6) : 1.0);
  ++done_;
  return report;
}

template <class S> void Trainer<S>::update(double rate_factor, double gradient_scale) {
  const Arena<S>& gradient = grads_.arena ? grads_.arena : grads_.adapter;
  const ops::MuonStep muon{options_.muon_rate * rate_factor, options_.muon_momentum, 0, gradient_scale};
  ops::AdamwStep adamw{options_.rate * rate_factor, options_.beta1, options_.beta2, options_.epsilon, 0, done_ + 1, gradient_scale};

  // Neighbours with one treatment are updated in one pass over the arena.
  const auto& tensors = parameters_.layout().tensors();
  const auto by_muon = [&](const TensorInfo& t) { return options_.muon && t.kind == ParameterKind::hidden; };
  for (std::size_t i = 0; i < tensors.size();) {
    if (by_muon(tensors[i])) {
      ops::muon_update<S>(muon, parameters_.view(tensors[i]), gradient.view(tensors[i]), m_.view(tensors[i]), options_.exec);
      ++i;
      continue;
    }
    std::size_t j = i + 1;
    while (j < tensors.size() && !by_muon(tensors[j]) && tensors[j].decay() == tensors[i].decay()) ++j;
    const auto begin = static_cast<std::size_t>(tensors[i].offset);
    const auto length = static_cast<std::size_t>(j < tensors.size() ? tensors[j].offset : parameters_.layout().size()) - begin;
    adamw.decay = tensors[i].decay() ? options_.weight_decay : 0;
    const auto part = [&](const Arena<S>& arena) { return arena.values().subspan(begin, length); };
    ops::adamw_update<S>(adamw, part(parameters_), part(gradient), part(m_), part(v_), options_.exec);
    i = j;
  }
  if (grads_.adapter) refresh(model_, options_.exec);
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace glassformer
