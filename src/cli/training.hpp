// A training run as the program shows it: progress, Ctrl-C, what is kept for --resume, what is reported. Shared by train and lora train.
#pragma once
#include <filesystem>
#include <optional>

#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "cli/text_source.hpp"
#include "glassformer/io/safetensors.hpp"
#include "glassformer/train/run.hpp"

namespace glassformer::cli {

// --eval-every, --out, --resume, --overwrite.
void declare_run_options(Options&, const std::string& what, bool out_is_required = required);

// Throws Failure when the directory cannot take the run: it holds one already (without --resume or --overwrite), is a file, has other
// things in it, or may not be written. Better now than at the first save.
void check_out(const Options&);

// What a run writes into its checkpoints' metadata, so that --resume needs no other option.
class RunRecord {
 public:
  // A new run: all that was given but `out`, `json`, `threads` and the like, and a hash of the text.
  RunRecord(const Options&, const TextSource&);
  // With the losses of the last validation, when that was at this step.
  Metadata metadata(Index step) const;
  // Of the text and the options, wherever the text lies.
  std::uint64_t hash() const;
  void validated(Index step, const Score& score) { step_ = step, score_ = score; }

 private:
  Metadata fixed_;
  Index step_ = -1;
  Score score_;
};

// Supplies the options of the run that the metadata of `file` records. Throws UsageError when one that was given disagrees with it.
void supply_recorded(Options&, const std::string& file, const Metadata&);
// Throws Failure when the text is not the one that the run began with.
void check_same_text(const TextSource&, const std::string& file, const Metadata&);

struct Run {
  Trainer<float>* trainer = nullptr;
  BatchSource batches;
  std::function<std::vector<FileToSave>(const Metadata&)> files;
  std::function<Score()> validate;
  RunRecord* record = nullptr;
  std::string expected;               // beside the loss: what it should come to
  std::optional<double> source_bits;  // per byte, where known
  double until_loss = -1;             // stop once the validation's is at most this
};

// Trains and shows it on standard error. Throws Failure with the library's sentence.
RunResult run_and_show(const Options&, const Run&);

// The keys that every training prints.
JsonLine run_json(const RunResult&, Index parameters, const std::string& out);
// With several processes: how many, and what a step of this one exchanged.
void add_exchange(JsonLine&, const Trainer<float>&);
// The most memory that this process ever had in use, mapped files included; none where the system does not tell.
std::optional<Index> peak_bytes();
// Says that the run was interrupted and how it goes on; the exit code, 130.
int interrupted_exit(const Options&, const RunResult&);

}  // namespace glassformer::cli
