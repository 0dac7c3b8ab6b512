// What `lora train` learns from and is judged by, whatever the method: windows of a text, or questions whose answers alone are scored.
#pragma once
#include <memory>

#include "cli/text_source.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/model/config.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer::cli {

class Lessons {
 public:
  // The end of the text validates. `reserve` tokens of the context are kept for what will stand before each sequence (a soft prompt), so
  // answers that would not fit behind them are left out of training and of every validation alike. Throws Failure when too little is left.
  Lessons(const TextSource&, const Tokenizer&, const ModelConfig&, bool answers_only, double val_fraction, Index reserve);

  // Batches of a step, with `prefix` before each sequence, both together within the context.
  BatchSource batches(const TrainOptions&, const std::vector<Token>& prefix) const;
  // All of the validation text, or all of its answers, at most `sequences` at a time; the same tokens are scored whatever stands before
  // them.
  std::vector<Batch> validation(Index sequences, std::span<const Token> prefix) const;

  // The validation with lessons before it instead of in the weights. Answers: `shots` questions with their answers drawn from the training
  // part, as many of them as the context holds beside the dialogue that is asked; `used` gets their mean number. Windows: the start of the
  // training text, half a context.
  std::vector<Batch> few_shot(Index sequences, Index shots, std::uint64_t seed, double& used) const;

  const std::string& description() const { return description_; }

 private:
  void read_windows(const TextSource&, const Tokenizer&, double val_fraction);
  void read_answers(const TextSource&, const Tokenizer&, double val_fraction, Index reserve);

  Index context_ = 0;
  std::optional<Token> separator_;
  bool answers_only_ = false;
  std::shared_ptr<const TokenSplit> tokens_;                 // windows
  std::shared_ptr<const std::vector<Example>> train_, val_;  // answers
  std::vector<std::vector<Token>> shots_;                    // question, answer and a blank line, of each example of train_
  std::string description_;
};

// Scored tokens of the batches.
Index scored_tokens(std::span<const Batch>);

}  // namespace glassformer::cli
