// Where a text comes from, and which tokenizer reads it: options that several commands share.
#pragma once
#include <optional>

#include "cli/options.hpp"
#include "glassformer/data/dataset.hpp"
#include "glassformer/model/config.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer::cli {

struct TextSource {
  std::string name;  // the file, or "corpus stories"
  std::string text;
  std::optional<double> bits_per_byte;  // entropy rate of the source, where it is known
  std::vector<Index> documents = {};    // byte offset of each document, where they are known: a generated corpus, or --document-end
  int threads = 1;                      // --threads: to encode it with, and to train a tokenizer on it
};

// --data FILE, or --corpus KIND with --corpus-bytes; --source-bits-per-byte for a file whose source is known.
void declare_text_source(Options&);
// Throws UsageError unless exactly one of --data and --corpus was given. The command has --threads.
TextSource read_text_source(const Options&, std::uint64_t seed);

// --tokenizer char|byte|bpe|DIR|tokenizer.json, by its value; bpe trains one with `vocab_size` on the text and tells its progress.
// Errors carry the name of the text or of the tokenizer's file.
Tokenizer choose_tokenizer(const std::string& choice, const TextSource&, Index vocab_size);

// The ids of a text to train or score on: a special token that the text spells, such as <|endoftext|>, is that token. With `start`, that token
// stands before each document.
std::vector<Token> encode_text(const Tokenizer&, const TextSource&, std::optional<Token> start = std::nullopt);
// The ids of a text that a model is scored on. Throws Failure when there are fewer than two.
std::vector<Token> tokens_to_score(const Tokenizer&, const TextSource&, const ModelConfig&);
// The ids of a text that is trained on, the end of it for validation. Throws Failure when either part is too short.
TokenSplit tokens_to_train(const Tokenizer&, const TextSource&, std::optional<Token> start, double val_fraction, Index context);

}  // namespace glassformer::cli
