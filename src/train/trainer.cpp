#include "glassformer/train/trainer.hpp"

#include <charconv>
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
  require(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, "beta: expected at least 0 and below 1, found {} and {}", o.beta1,
          o.beta2);
  require(o.epsilon > 0, "epsilon: expected a positive number, found {}", o.epsilon);
  require(o.weight_decay >= 0 && o.weight_decay < 100, "weight-decay: expected 0 or more, found {}", o.weight_decay);
  require(o.clip >= 0, "clip: expected 0 (none) or more, found {}", o.clip);
  require(o.muon_rate > 0 && o.muon_rate < 100 && o.muon_momentum >= 0 && o.muon_momentum < 1,
          "muon: expected a positive rate and a momentum below 1, found {} and {}", o.muon_rate, o.muon_momentum);
}

double schedule(const TrainOptions& o, Index step) {
  const double lowest = o.min_rate / o.rate;
  if (step < o.warmup) return static_cast<double>(step + 1) / static_cast<double>(o.warmup);
  if (step >= o.steps) return lowest;
  const double share = static_cast<double>(step - o.warmup) / static_cast<double>(std::max<Index>(1, o.steps - o.warmup));
  return lowest + 0.5 * (1 + std::cos(std::numbers::pi * share)) * (1 - lowest);
}

namespace {

constexpr std::size_t kLeastBytes = 1 << 18;  // of gradients that are worth a round of messages of their own

template <class S>
Arena<S>& arena_of(DecoderGrads<S>& grads) {
  return grads.arena ? grads.arena : grads.adapter;
}

// The block whose backward pass completes a tensor's gradient: what lies above the blocks is complete before the last one's, what lies
// below (and a tied embedding) only at the end: −1.
Index completed_by(const TensorInfo& tensor, Index blocks) {
  const std::string_view name = tensor.name;
  if (name.starts_with("ln_final.") || name.starts_with("unembed.")) return blocks - 1;
  Index block = -1;
  constexpr std::string_view kBlocks = "blocks.";
  if (name.starts_with(kBlocks)) std::from_chars(name.data() + kBlocks.size(), name.data() + name.size(), block);
  return block;
}

std::vector<Index> complete_from(const ArenaLayout& layout, Index blocks) {
  std::vector<Index> from(static_cast<std::size_t>(blocks), layout.size());
  for (Index block = 0; block < blocks; ++block) {
    for (auto t = layout.tensors().rbegin(); t != layout.tensors().rend() && completed_by(*t, blocks) >= block; ++t)
      from[static_cast<std::size_t>(block)] = t->offset;
  }
  return from;
}

bool by_muon(const TrainOptions& options, const TensorInfo& t) { return options.muon && t.kind == ParameterKind::hidden; }

// What AdamW updates, neighbours with one treatment as one.
std::vector<ops::AdamwStretch> adamw_stretches(const TrainOptions& options, const ArenaLayout& layout) {
  std::vector<ops::AdamwStretch> stretches;
  for (const TensorInfo& t : layout.tensors()) {
    if (by_muon(options, t)) continue;
    const bool joins = !stretches.empty() && stretches.back().decays == t.decay() && stretches.back().end == t.offset;
    if (!joins) stretches.push_back({t.offset, t.offset, t.decay()});
    stretches.back().end = t.end();
  }
  return stretches;
}

}  // namespace

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const TrainOptions& options, Arena<S> parameters,
                    const std::function<DecoderGrads<S>()>& make_gradients)
    : model_(model),
      options_(options),
      parameters_(std::move(parameters)),
      m_(parameters_.shared_layout()),
      v_(parameters_.shared_layout()) {
  validate(options_);
  const Exchange* exchange = options_.exchange;
  tree_ = std::make_shared<SharedTree>(options_.accumulate, exchange ? exchange->ranks() : 1);
  for (std::size_t i = 0; i < tree_->most_sums(); ++i) sums_.push_back(make_gradients());
  TreeStack stack(options_.accumulate);
  const Leaves share = tree_->share(exchange ? exchange->rank() : 0);
  for (Index micro = share.begin; micro < share.end; ++micro) merges_.push_back(stack.push(micro));
  by_adamw_ = adamw_stretches(options_, parameters_.layout());
  complete_ = complete_from(parameters_.layout(), static_cast<Index>(model_.blocks.size()));
}

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const TrainOptions& options)
    : Trainer(model, options, model.arena, [&] { return make_gradients(model); }) {}

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const Arena<S>& part, const TrainOptions& options)
    : Trainer(model, options, part, [&] { return make_gradients(model, part); }) {}

template <class S>
Trainer<S>::Trainer(Decoder<S>& model, const Adapter<S>& adapter, const TrainOptions& options)
    : Trainer(model, options, adapter.arena, [&] { return make_adapter_gradients(model, adapter); }) {}

template <class S>
StepReport Trainer<S>::step(const BatchSource& source) {
  batches_.clear();
  StepReport report{done_ + 1, 0, 0, options_.rate * schedule(options_, done_), 0};
  Index scored = 0;
  const Leaves share = tree_->share(options_.exchange ? options_.exchange->rank() : 0);
  for (Index micro = 0; micro < options_.accumulate;
       ++micro) {  // all of them, others' too: cheaper than asking how many tokens are scored there
    Batch batch = source(done_, micro);
    scored += batch.scored();
    report.tokens += static_cast<Index>(batch.inputs.size());
    if (micro >= share.begin && micro < share.end) batches_.push_back(std::move(batch));
  }
  require(scored > 0, "step {}: no token of its batch is scored", report.step);

  const S scale = static_cast<S>(1.0 / static_cast<double>(scored));  // the mean over all tokens of the step, whatever the micro-batches
  for (const double sum_nats : pass_all(share.begin, scale)) report.loss_nats += sum_nats / static_cast<double>(scored);
  report.gradient_norm = std::sqrt(ops::sum_of_squares<S>(arena_of(sums_.front()).values(), options_.exec));
  if (!std::isfinite(report.loss_nats) || !std::isfinite(report.gradient_norm)) {
    throw std::runtime_error(
        fmt::format("step {}: the loss is {} and the gradient's norm {}: training diverged, or the weights hold no numbers", report.step,
                    report.loss_nats, report.gradient_norm));
  }
  const bool clips = options_.clip > 0 && report.gradient_norm > options_.clip;
  update(schedule(options_, done_), clips ? options_.clip / (report.gradient_norm + 1e-6) : 1.0);
  ++done_;
  return report;
}

template <class S>
std::span<const double> Trainer<S>::pass_all(Index first_micro, S scale) {
  losses_.clear();
  std::size_t held = 0;  // sums on the stack
  summed_from_ = parameters_.layout().size();
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    DecoderGrads<S>& grads = sums_[held++];
    arena_of(grads).set_zero(options_.exec.threads);
    const bool last = i + 1 == batches_.size();
    if (last && options_.exchange) grads.block_done = [this](Index block) { sum_from(complete_[static_cast<std::size_t>(block)]); };
    const Batch& batch = batches_[i];
    Pass<S> pass;
    pass.exec = options_.exec, pass.starts = batch.starts, pass.workspace = &workspace_, pass.trace = trace_, pass.training = true;
    pass.random =
        RandomStream{options_.seed}.at("dropout").at(static_cast<std::uint64_t>(done_)).at(static_cast<std::uint64_t>(first_micro) + i);
    losses_.push_back(decoder_loss<S>(model_, pass, batch.inputs, batch.targets, &saved_, &grads, scale).sum_nats);
    grads.block_done = nullptr;
    if (last) break;
    for (Index merge = 0; merge < merges_[i]; ++merge, --held)
      add_to<S>(arena_of(sums_[held - 2]).values(), arena_of(sums_[held - 1]).values(), options_.exec.threads);
  }
  sum_from(0);
  if (!options_.exchange) return losses_;
  options_.exchange->wait();
  return losses_ = options_.exchange->gather_all<double>(losses_);
}

template <class S>
void Trainer<S>::sum_from(Index begin) {
  const Index end = summed_from_;
  if (begin > 0 && static_cast<std::size_t>(end - begin) * sizeof(S) < kLeastBytes) return;
  const auto part = [&](std::size_t sum) {
    return arena_of(sums_[sum]).values().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  };
  std::size_t held = tree_->pieces(options_.exchange ? options_.exchange->rank() : 0).size() + static_cast<std::size_t>(merges_.back());
  for (Index merge = 0; merge < merges_.back(); ++merge, --held) add_to<S>(part(held - 2), part(held - 1), options_.exec.threads);
  summed_from_ = begin;
  if (!options_.exchange) return;
  std::vector<Arena<S>> parts;
  for (std::size_t sum = 0; sum < held; ++sum) parts.push_back(arena_of(sums_[sum]));
  options_.exchange->begin_sum(tree_, std::move(parts), begin, end);
}

template <class S>
void Trainer<S>::update(double rate_factor, double gradient_scale) {
  const Arena<S>& gradient = arena_of(sums_.front());
  const ops::MuonStep muon{options_.muon_rate * rate_factor, options_.muon_momentum, 0, gradient_scale};
  const ops::AdamwStep adamw{options_.rate * rate_factor, options_.beta1, options_.beta2, options_.epsilon, options_.weight_decay, done_ + 1, gradient_scale};
  if (options_.muon) {
    for (const TensorInfo& t : parameters_.layout().tensors()) {
      if (by_muon(options_, t)) ops::muon_update<S>(muon, parameters_.view(t), gradient.view(t), m_.view(t), options_.exec);
    }
  }
  ops::adamw_update<S>(adamw, by_adamw_, parameters_.values(), gradient.values(), m_.values(), v_.values(), options_.exec);
  if (sums_.front().adapter) refresh(model_, options_.exec);
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace glassformer
