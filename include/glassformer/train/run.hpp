// A training run in a directory:
//   OUT/            the best model by validation loss, a Hugging Face directory (or the best adapter, a PEFT directory)
//   OUT/last/       the newest state: the same files, and trainer.safetensors with both moments and the step: what --resume reads
//   OUT/metrics.jsonl   one JSON object a line: each step's loss, each validation
// Every save is atomic, so a run that is killed leaves the checkpoint before.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "glassformer/io/save.hpp"
#include "glassformer/score/score.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer {

// The files that make up the thing in training, as it is now: a model's or an adapter's.
using CheckpointFiles = std::function<std::vector<FileToSave>()>;

struct RunProgress {
  StepReport step;
  Index steps = 0;              // in all
  double tokens_per_s = 0;      // of the last few steps
  double seconds_left = 0;
  double seconds = 0;           // since this process began to train
  const Score* validation = nullptr;  // of this step, when it was validated
  bool best = false;            // and it is the best so far
};

struct RunOptions {
  std::filesystem::path out;
  Index eval_every = 250;       // steps between validations; the last step is always validated
  bool resume = false;          // continue from OUT/last
  std::uint64_t text_hash = 0;  // of the whole text and of options that a trainer has not: several processes must have the same
  double until_loss = -1;       // stop once a validation's loss in nats is at most this
  std::function<Score()> validate;
  std::function<void(const RunProgress&)> on_step;   // may be empty
  std::function<bool()> interrupted;                 // asked after each step; true: save and stop. May be empty
};

struct RunResult {
  Index steps = 0;              // done
  Index best_step = 0;
  double train_loss_nats = 0;   // mean of the last steps (at most 100)
  double val_loss_nats = 0;     // of the best
  double val_bits_per_byte = 0;
  double val_accuracy = 0;
  double seconds = 0;           // of training and validation, in this process
  double tokens_per_s = 0;      // of training alone
  bool interrupted = false;
};

// Trains until options().steps are done. A diverged loss, a full disk: the sentence to show; the last good checkpoint is still there.
Expected<RunResult> run_training(Trainer<float>&, const BatchSource&, const CheckpointFiles&, const RunOptions&);

// The trainer's state as a file of a checkpoint, and back. Errors: "FILE: …" when it is another run's (shape, options, step).
struct RunState {
  Index best_step = 0;
  double best_loss_nats = 0, best_bits_per_byte = 0, best_accuracy = 0;
};
FileToSave trainer_file(Trainer<float>&, const RunState&);
Expected<RunState> read_trainer(const std::filesystem::path& file, Trainer<float>&);

}  // namespace glassformer
