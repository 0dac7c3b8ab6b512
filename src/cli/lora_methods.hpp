// How a model is adapted: the methods of `lora train`, what each of them trains and how it is kept. All else about a run is the same for
// all of them, so that they can be compared.
#pragma once
#include <memory>

#include "cli/options.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer::cli {

enum class Method {
  lora,         // a low-rank change of matrices; an adapter is saved
  full,         // all parameters; a whole model is saved
  last_block,   // the last block and the norm behind it; a whole model is saved
  soft_prompt,  // trained embeddings before each text (Lester et al. 2021); an adapter is saved
  few_shot      // nothing: examples before each question
};

// --method, and the options that belong to one of them.
void declare_method_options(Options&);
// Throws UsageError for an option that belongs to another method, by its first name in the command line's order of declaration.
Method method_of(const Options&);
// The recipe of a method, which the training options change.
TrainOptions standard_training(Method, bool muon);
Index prompt_tokens(const Options&, Method);  // of a soft prompt; else 0

// A model in training, and what of it is saved. Not copied: the trainer holds on to its model.
class Learner {
 public:
  // `base` as the user named it; --resume: what the run had reached is read from `last`.
  Learner(const Options&, Method, ModelFiles& base, const std::filesystem::path& last, const TrainOptions&);
  Trainer<float>& trainer() { return *trainer_; }
  std::vector<Token> prefix() const { return soft_prompt_ids(base_.decoder); }  // before each sequence
  bool is_adapter() const { return method_ == Method::lora || method_ == Method::soft_prompt; }
  Index trainable() const { return trainer_->parameters().layout().parameters(); }
  std::string description() const;  // "rank 8 on 12 matrices"
  std::vector<FileToSave> files(const Metadata&) const;
  // Puts back what was saved in this directory: the best of the run.
  void read(const std::filesystem::path& dir);

 private:
  Method method_;
  std::string base_name_;
  ModelFiles& base_;
  Adapter<float> adapter_;
  std::unique_ptr<Trainer<float>> trainer_;
};

// The metadata that a run left in `last`, whichever method it has.
Metadata run_metadata(const std::filesystem::path& last);

}  // namespace glassformer::cli
