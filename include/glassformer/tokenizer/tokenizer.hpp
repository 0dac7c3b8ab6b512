// Text to token ids and back: characters, bytes, byte-level BPE as GPT-2 has it, and llama2.c's score-merge BPE.
//
// A Tokenizer is an immutable value: copies share their tables, and any number of threads may use one.
// Ids are 0 … vocab_size()-1 without holes. See docs/tokenizer.md for the algorithms and the file formats.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "glassformer/core/matrix.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

enum class TokenizerKind {
  character,  // one id a code point of the training text, in the order of code points
  byte,       // the 256 bytes; id = byte
  bpe,        // byte-level BPE (Sennrich et al. 2016, over bytes as in GPT-2)
  score       // llama2.c's: a leading space, code points, byte fallback, the best-scoring adjacent merge until none
};

// One merge of an encoding: the piece that begins at byte `begin` of the pre-token and its right neighbour became one token.
struct MergeStep {
  Index begin = 0;
  Token left = 0, right = 0, token = 0;
  Index rank = -1;   // kind bpe: the lower merges first
  double score = 0;  // kind score: the higher merges first
};
// How one pre-token became ids.
struct EncodedPiece {
  std::string bytes;             // kind score: with the space that is put before the text
  std::string_view rule;         // kind bpe: the alternative of GPT-2's pattern that cut it out; empty for the other kinds
  std::vector<Token> symbols;    // before any merge: bytes; kind score: characters, or bytes where the vocabulary lacks one
  std::vector<MergeStep> steps;  // in the order in which they happen; none for kinds character and byte
  std::vector<Token> ids;        // after the last
};

class Tokenizer {
 public:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl>);  // for this module: others have the functions below

  TokenizerKind kind() const;
  Index vocab_size() const;

  // The text's ids. Text is data: the spelling of a special token in it is ordinary text, and no start token is added (the
  // model decides that). Any bytes are accepted, valid UTF-8 or not, and decode() gives them back (score: with a leading space).
  // Kind character throws std::invalid_argument, naming character and byte offset, where the vocabulary lacks one and has no unknown token.
  std::vector<Token> encode(std::string_view text) const;
  // As encode, but a special token spelled in the text becomes its id: the leftmost first, the longest of several at one place.
  std::vector<Token> encode_with_special(std::string_view text) const;

  // The bytes of the tokens; a special token gives its spelling. A lone token may be part of a character: not always valid UTF-8.
  // Kind score as llama2.c prints: a start token that comes first gives nothing, and after a start token a leading space is dropped.
  // Throws std::invalid_argument on an id outside the vocabulary.
  std::string decode(std::span<const Token> ids) const;
  // One token's bytes, a view that lives as long as this tokenizer or a copy. Throws std::invalid_argument on an id outside.
  std::string_view token_bytes(Token) const;
  // The token with exactly these bytes, special ones included.
  std::optional<Token> find(std::string_view bytes) const;

  std::optional<Token> bos() const;  // start of text: "<|endoftext|>" where it exists, as in GPT-2; kind score: 1
  std::optional<Token> eos() const;  // end of text: "<|endoftext|>" too; kind score: 2
  bool is_special(Token) const;      // control tokens, which encode() never yields

  // Kind bpe: pairs in rank order, the first learned first. Empty for the other kinds.
  const std::vector<std::pair<Token, Token>>& merges() const;
  // Kind score: one score a token, as in tokenizer.bin. Empty for the other kinds.
  const std::vector<float>& scores() const;
  // Kind bpe: the pieces between whose borders merges happen, in order; together they are the text. Other kinds: the whole text.
  std::vector<std::string> pre_tokens(std::string_view text) const;
  // How encode() comes to its ids, by the same merge loop: one entry a pre-token; their ids, joined, are encode(text). Throws as encode().
  // Example: for merges aa, ab, aaab the text "aaab" has the symbols a a a b and the steps aa (at byte 0), ab (at 2), aaab (at 0).
  std::vector<EncodedPiece> explain(std::string_view text) const;

  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

// 256 ids, each its byte. No special tokens.
Tokenizer byte_tokenizer();

// The sorted distinct code points of the text. Throws std::invalid_argument when the text is empty or not valid UTF-8 (names the offset).
Tokenizer character_tokenizer(std::string_view utf8_text);

// One step of BPE training: the most frequent adjacent pair becomes a token.
struct Merge {
  Index rank;                // 0 for the first
  Token left, right, token;  // the pair, and what it becomes
  std::string left_bytes, right_bytes, bytes;
  Index count;  // how often the pair stood in the text when it was merged
};

struct BpeOptions {
  Index vocab_size = 512;                                // 256 bytes + merged tokens + special tokens
  std::vector<std::string> special = {"<|endoftext|>"};  // get the last ids, as in GPT-2; the text is cut where it spells one
  std::function<void(const Merge&)> on_merge;            // called after each merge
};

// Byte-level BPE: ids 0–255 are the bytes in the order of GPT-2's table ('!' is 0), then merged tokens as they are learned, then the
// special ones. Each step merges the most frequent pair; of equally frequent ones that with the smaller (left, right). Fewer merges than
// asked when no pair occurs twice. Example: "aaabdaaabac" merges aa, ab, aaab and is then aaab d aaab a c.
// Throws std::invalid_argument when vocab_size < 256 + special, or a special token is empty, repeated, or also an ordinary token.
Tokenizer train_bpe(std::string_view text, const BpeOptions&);

// A directory (its tokenizer.json, else tokenizer.bin, else GPT-2's encoder.json and vocab.bpe), a Hugging Face tokenizer.json or a llama2.c tokenizer.bin, told apart by
// content.
Expected<Tokenizer> load_tokenizer(const std::filesystem::path&);
// GPT-2 as OpenAI published it.
Expected<Tokenizer> load_gpt2_tokenizer(const std::filesystem::path& encoder_json, const std::filesystem::path& vocab_bpe);

// The text of a Hugging Face tokenizer.json. Throws std::invalid_argument for kind score.
std::string tokenizer_json(const Tokenizer&);
// The bytes of a llama2.c tokenizer.bin. Throws std::invalid_argument for the other kinds.
std::string tokenizer_bin(const Tokenizer&);

}  // namespace glassformer
