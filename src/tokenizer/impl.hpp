// What a Tokenizer holds. Built once by build(), then never changed.
#pragma once
#include <array>
#include <string_view>
#include <unordered_map>

#include "glassformer/tokenizer/tokenizer.hpp"
#include "tokenizer/flat_map.hpp"
#include "tokenizer/segments.hpp"

namespace glassformer {

struct Tokenizer::Impl {
  TokenizerKind kind = TokenizerKind::byte;
  std::vector<std::string> tokens;              // the bytes of each id; of a special token its spelling
  std::vector<bool> special;                    // [vocab_size]
  std::vector<std::pair<Token, Token>> merges;  // in rank order
  std::vector<Token> merged;                    // what each merge makes
  std::optional<Token> bos, eos, unknown;       // unknown: kind character, for characters outside the vocabulary

  std::unordered_map<std::string_view, Token> ids;  // views into `tokens`; an ordinary token before a special one
  std::array<Token, 256> byte_ids{};                // kind character: −1 where a byte alone is no character of the vocabulary
  tokenizer::PairMap ranks;                         // (left, right) → rank
  tokenizer::Spellings special_spellings;

  // Kind score: the spelling in the file ("<0x0A>" for a byte), scores, and the file's own "longest token".
  std::vector<std::string> spellings;
  std::vector<float> scores;
  std::unordered_map<std::string_view, Token> mergeable;  // spelling → id of the tokens that text may become
  std::uint32_t longest = 0;

  Impl() = default;
  Impl(const Impl&) = delete;  // the maps hold views into the vectors
  Impl& operator=(const Impl&) = delete;

  // Fills the tables from `tokens`, `special`, `merges` and `merged`, and freezes it.
  static Tokenizer build(std::shared_ptr<Impl>);
};

namespace tokenizer {

class PieceCache;

// Appends the ids of a text without special tokens.
void encode_bpe(const Tokenizer::Impl&, PieceCache&, std::string_view text, std::vector<Token>& out);
void encode_score(const Tokenizer::Impl&, std::string_view text, std::vector<Token>& out);
// The same, told step by step.
std::vector<EncodedPiece> explain_bpe(const Tokenizer::Impl&, std::string_view text);
EncodedPiece explain_score(const Tokenizer::Impl&, std::string_view text);
std::string decode_score(const Tokenizer::Impl&, std::span<const Token> ids);

inline constexpr Token score_bos = 1, score_eos = 2, score_first_byte = 3;  // 0 is "<unk>"
inline constexpr std::string_view end_of_text = "<|endoftext|>";

// Reading: `name` stands first in every error.
Expected<std::string> read_tokenizer_file(const std::filesystem::path&);
Expected<Tokenizer> parse_tokenizer_json(const std::string& name, std::string_view text);
Expected<Tokenizer> parse_tokenizer_bin(const std::string& name, std::string_view bytes);

}  // namespace tokenizer
}  // namespace glassformer
