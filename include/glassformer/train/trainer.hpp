// Training: the schedule, one step, and the state that makes a resumed run equal one that never stopped.
#pragma once
#include <functional>
#include <span>

#include "glassformer/data/dataset.hpp"
#include "glassformer/exchange/exchange.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/model/decoder.hpp"
#include "glassformer/ops/optimizer.hpp"

namespace glassformer {

struct TrainOptions {
  Index steps = 2000;
  Index batch = 12;                                  // sequences a micro-batch
  Index accumulate = 1;                              // micro-batches a step: their gradients are summed, in a fixed tree, before the update
  double rate = 1e-3;                                // highest learning rate, reached after the warm-up
  double min_rate = 1e-4;                            // lowest, at the end of the cosine
  Index warmup = 100;                                // steps of linear rise
  double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8;  // AdamW
  double weight_decay = 0.1;  // decoupled; matrices and embeddings, never gains and biases; with Muon embeddings only
  double clip = 1.0;          // largest norm of the whole gradient; 0: no clipping
  bool muon = false;          // Muon for the hidden matrices, AdamW for the rest
  double muon_rate = 0.02, muon_momentum = 0.95;
  std::uint64_t seed = 1;  // of batches and dropout
  Exec exec = {};
  Exchange* exchange =
      nullptr;  // the processes that share out the micro-batches, each with its own model and trainer; null: this one does all
};

// Throws std::invalid_argument naming the option that is out of range.
void validate(const TrainOptions&);

// The factor of the highest rate at a step (from 0): linear over the warm-up, then a cosine down to min_rate/rate.
double schedule(const TrainOptions&, Index step);

// What one step did.
struct StepReport {
  Index step = 0;            // steps done, this one included
  double loss_nats = 0;      // mean over the scored tokens
  double gradient_norm = 0;  // before clipping
  double rate = 0;
  Index tokens = 0;  // read
};

// The micro-batch `micro` of step `step`: a pure function, so that a resumed run reads what it would have read.
using BatchSource = std::function<Batch(Index step, Index micro)>;

// The bits of a step depend on `accumulate`, but not on the number of processes: their gradients are summed in one tree
// (exchange/tree.hpp), and each process makes the same update. A process adds up at most log2(micro-batches of its own) + 1 gradients at
// once.
//
// Trains all parameters of a model, a slice of its arena (the last block, say), or only an attached adapter or soft prompt. Holds gradients
// and moments of what is trained, nothing of what is frozen. Not thread-safe; the model must outlive it.
template <class S>
class Trainer {
 public:
  Trainer(Decoder<S>&, const TrainOptions&);
  Trainer(Decoder<S>&, const Arena<S>& part, const TrainOptions&);  // part: Arena::slice of the model's
  Trainer(Decoder<S>&, const Adapter<S>&, const TrainOptions&);     // the adapter must be attached to the model

  // One step on accumulated micro-batches. Throws std::runtime_error when the loss is no number, naming the step; the parameters are
  // then those before the step.
  StepReport step(const BatchSource&);

  Index steps_done() const { return done_; }
  const TrainOptions& options() const { return options_; }
  const Decoder<S>& model() const { return model_; }
  // The state beside the parameters: both moments, to be saved and put back. A parameter under Muon uses the first one only.
  Arena<S>& first_moment() { return m_; }
  Arena<S>& second_moment() { return v_; }
  Arena<S>& parameters() { return parameters_; }
  void set_steps_done(Index steps) { done_ = steps; }
  // What the last step computed, summed over its micro-batches and before clipping; the next step begins by clearing it.
  DecoderGrads<S>& gradients() { return sums_.front(); }
  // Looks on in the passes of all steps to come, and may edit them; null: nobody.
  void watch(Trace<S>* trace) { trace_ = trace; }

 private:
  Trainer(Decoder<S>&, const TrainOptions&, Arena<S> parameters, const std::function<DecoderGrads<S>()>& make_gradients);
  // Forward and backward over this process's micro-batches. Returns the sums of losses of all of the step and leaves the sum of all
  // gradients in gradients().
  std::span<const double> pass_all(Index first_micro, S scale);
  // The last micro-batch's gradients are complete from here on: adds them to the others of this process, and begins to add up those of all.
  void sum_from(Index begin);
  void update(double rate_factor, double gradient_scale);

  Decoder<S>& model_;
  TrainOptions options_;
  Arena<S> parameters_, m_, v_;  // parameters_ shares the memory of the model or the adapter
  std::shared_ptr<const SharedTree> tree_;
  std::vector<DecoderGrads<S>> sums_;  // a stack: TreeStack
  std::vector<Index> merges_;          // after each micro-batch of this process: how often the two top sums become one
  std::vector<ops::AdamwStretch> by_adamw_;
  std::vector<Index> complete_;        // by block: from here on the arena's gradients are complete once the block's are
  Index summed_from_ = 0;              // sum_from has been here
  std::vector<Batch> batches_;         // of this process's micro-batches, and
  std::vector<double> losses_;         // the sums of their losses: kept from step to step for their memory
  DecoderSaved<S> saved_;
  Workspace workspace_;
  Trace<S>* trace_ = nullptr;
  Index done_ = 0;
};

extern template class Trainer<float>;
extern template class Trainer<double>;

}  // namespace glassformer
