// What faults are planted in, and how their symptoms are measured: all by the engine's own functions.
//
//   Rig rig = make_rig(1);                                  // a small model, trained for a few seconds
//   const Symptom healthy = measure(rig, Probe::evaluation);
//   const auto planted = plant(fault("scale"), rig);        // until `planted` ends
//   const Symptom faulty = measure(rig, Probe::evaluation);
//
// For a model of your own: fill in Rig::model (and what else the fault needs), plant, and give rig.trace to your passes.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "glassformer/learn/fault.hpp"
#include "glassformer/sample/generate.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer {

// All that a run is made of. Measurements read nothing else, so a fault planted here is in all of them.
struct Rig {
  Tokenizer tokenizer = byte_tokenizer();
  Decoder<float> model;
  Arena<float> fresh;                       // the weights that a training run starts from
  std::shared_ptr<Adapter<float>> adapter;  // trained on `other`, not attached
  std::vector<Token> train, val, other;     // documents, each behind the start token where the model has one
  double source_nats = 0;                   // entropy of `val`'s source per token; 0: not known
  TrainOptions training;                    // of a run from `fresh`
  GenerateOptions writing;
  std::string prompt;
  Index batch_documents = 16;  // in a batch when evaluating

  // Where faults act beside the fields above. Empty: nothing happens.
  Trace<float>* trace = nullptr;                      // in passes of training and evaluation; writing has its own, writing.trace
  Trace<float>* drawing_trace = nullptr;              // in place of writing.trace where tokens are drawn at a temperature above zero
  bool evaluates_as_training = false;                 // Pass::training of an evaluation
  std::function<void(Batch&)> collate;                // what is done to a batch before it is run
  std::function<void(Trainer<float>&)> after_step;    // of training
  std::function<void(Decoder<float>&)> after_attach;  // of the adapter
  bool planted = false;                               // a fault is in it
};

// A two-layer model (grouped heads, RoPE, LayerNorm, GELU, tied) of a small grammar whose entropy is known, trained for a
// few seconds; an adapter of it for another grammar. A pure function of the seed. `progress` hears of (steps done, of).
Rig make_rig(std::uint64_t seed, const std::function<void(Index, Index)>& progress = {});
// The same for a model from elsewhere, on documents of the stories corpus: no adapter and no weights to train from, so only faults whose
// probe needs neither can be planted (see `obstacle`). The decoder's memory is shared.
Rig make_rig(const Decoder<float>&, const Tokenizer&, std::uint64_t seed);

struct ProbeReading {
  std::string name;  // "loss on held-out text"
  double value = 0;
  std::string unit;  // "nats", "%", …; may be empty
  int decimals = 3;
};
struct Symptom {
  std::vector<ProbeReading> readings;
  std::vector<std::pair<std::string, std::string>> texts;  // name, text
  double at(std::string_view reading) const;               // throws std::invalid_argument naming those that there are
};

// Probe::evaluation   loss and first choices on held-out text
//        training     a run of rig.training.steps from rig.fresh; the model keeps the weights that it ended with
//        cache        greedy text and logits with the KV cache and without
//        adapter      loss on the other text: without the adapter, with it, and with it merged
//        neighbours   the loss of documents in one batch, and one by one
//        beginning    the first letters of a document
//        drawing      letters drawn after the same prompt, against their probability
//        repetition   the same text scored twice
// Throws std::invalid_argument when the rig lacks what the probe needs.
Symptom measure(Rig&, Probe);

// Σ loss of held-out documents, by the rig's own way to evaluate; `number` tells evaluations apart where chance plays a part.
Loss evaluate(const Rig&, std::span<const Token> ids, std::uint64_t number = 0, std::vector<double>* losses_by_place = nullptr);
// One training run from rig.fresh. Ends early where a step throws, with the sentence in `stopped`.
struct TrainingRun {
  std::vector<StepReport> steps;
  std::string stopped;
};
TrainingRun train(Rig&);
// Logits [T, V] of a text: in one pass, or its first `prefill` tokens in one pass and the others one by one through the cache.
Matrix<float> logits_at_once(const Rig&, std::span<const Token> ids, Trace<float>* look = nullptr);
Matrix<float> logits_by_cache(const Rig&, std::span<const Token> ids, Index prefill, Trace<float>* look = nullptr);

// A fault in a rig, from plant() until its end. Then the rig is as before, to the bit: weights, options, views.
class PlantedFault {
 public:
  PlantedFault(const Fault&, Rig&);
  ~PlantedFault();
  PlantedFault(const PlantedFault&) = delete;
  PlantedFault& operator=(const PlantedFault&) = delete;

 private:
  struct Kept;
  std::unique_ptr<Kept> kept_;
};
// Throws std::invalid_argument when something is planted already, or when `obstacle` says why this fault cannot be.
std::unique_ptr<PlantedFault> plant(const Fault&, Rig&);
// Why this fault cannot be planted in this rig ("this model has no RoPE"); empty: it can.
std::string obstacle(const Fault&, const Rig&);

// The fault's edits of the backward pass of a model of this configuration, for GradientCheckOptions::trace; null: its backward pass is
// right.
std::unique_ptr<Trace<double>> backward_mistake(const Fault&, const ModelConfig&);

// A trace that looks on beside a planted one: `look` sees each value as the pass goes on with it.
std::unique_ptr<Trace<float>> watched(Trace<float>* planted, Trace<float>* look);

}  // namespace glassformer
