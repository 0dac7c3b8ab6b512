// The loss of a model on text.
// Perplexity is exp(nats per token); bits per byte = Σ nats/(Σ bytes·ln 2) compares models with different tokenizers.
#pragma once
#include <optional>
#include <span>

#include "glassformer/data/corpus.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/model/decoder.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

struct Score {
  double sum_nats = 0;
  Index tokens = 0;   // scored
  Index bytes = 0;    // of the scored tokens; a special token has none
  Index correct = 0;  // scored tokens that were the model's first choice
  double loss_nats() const { return sum_nats / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_byte() const;
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(tokens); }
};

// The token that begins each document, for a model that was trained on documents apart; none for one that was trained on windows of running text.
std::optional<Token> document_separator(const ModelConfig&);

// The text once, in non-overlapping windows of `context` tokens or document by document, some 2,048 tokens a batch, with the `prompt` tokens that are going
// to stand before each window. Throws as whole_split does.
std::vector<Batch> scoring_batches(std::span<const Token> ids, Index context, std::optional<Token> separator, Index prompt = 0);
// The loss on these: every token but the first is scored once.
// An attached soft prompt stands before each window, and is a part of its `context`. Throws std::invalid_argument when there are fewer than
// two tokens.
Score score_tokens(const Decoder<float>&, const Tokenizer&, std::span<const Token> ids, Index context, const Exec&);
// Batches as they are (prompts masked by targets of −1, say).
Score score_batches(const Decoder<float>&, const Tokenizer&, std::span<const Batch>, const Exec&);

// Σ −log p of `continuation` after `prefix` (and the soft prompt and the start token, where the model has them), in nats, over the prefix's
// last tokens that fit the context.
double continuation_nats(const Decoder<float>&, const Tokenizer&, std::string_view prefix, std::string_view continuation, const Exec&);

// The share of items whose right continuation is more likely, per item, than every wrong one.
double agreement_accuracy(const Decoder<float>&, const Tokenizer&, std::span<const AgreementItem>, const Exec&);

}  // namespace glassformer
