// Tokenization, told: the bytes of a text, its pre-tokens, every merge with its rank or score, the ids; and what training had done.
// All of it is the engine's: Tokenizer::explain (the encoder's own loop), train_bpe.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/story/story.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

struct TokenizerQuestion {
  Index piece = -1;                  // the pre-token whose merges are written out; −1: the one with the most of them
  std::string_view training = {};    // the text that the tokenizer was trained on, where it is known and small: its merges are counted again
};

// A character of the text, or a byte that is part of none.
struct TextCharacter {
  std::string bytes;
  Index code_point = -1;  // −1: not valid UTF-8
  Index count = 0;        // how often it stands in the text
};

struct TokenizerSteps {
  static constexpr std::size_t kShownSteps = 24, kLearned = 12;
  std::string name;  // what the tokenizer is: one line
  bool is_example = false;
  TokenizerKind kind = TokenizerKind::byte;
  Index vocab_size = 0;
  std::string text;
  std::vector<TextCharacter> characters;  // in the order in which they first come
  std::vector<EncodedPiece> pieces;       // pre-tokens; other kinds: one, the whole text
  std::vector<std::vector<std::string>> piece_tokens;  // the bytes of each piece's ids
  Index piece = 0;                        // which is followed
  std::vector<Token> ids;                 // of the whole text
  std::string decoded;                    // and back
  struct State {                          // of the followed piece: at the start and after each of its first kShownSteps steps
    std::vector<std::string> tokens;      // bytes
    Index at = -1;                        // which of them the step made
  };
  std::vector<State> states;

  struct Learned {  // a merge of the tokenizer
    std::string left, right, bytes;
    Index count = -1;  // of the pair when it was merged; −1: not known
    double score = 0;  // kind score: of the token that it makes
  };
  std::vector<Learned> learned;  // the first in rank order (kind score: the best scores), at most kLearned
  Index merges = 0;              // how many there are (kind score: tokens that text may merge into)

  struct Probe {                 // something short, encoded
    std::string what, bytes;
    std::vector<std::string> tokens;
    std::vector<Token> ids;
    std::string error;           // what encode said, where it would not
  };
  Probe card, invalid;           // a test card number; the byte FF, which is never UTF-8
};

// A byte-level BPE trained on some words (after Sennrich et al. 2016), with twelve merges.
std::string_view tokenizer_example_training();
std::string_view tokenizer_example_text();
TokenizerSteps explain_tokenizer_example(Index piece = -1, std::string_view text = tokenizer_example_text());

// Throws std::invalid_argument, naming the valid ones, for a pre-token that does not exist; for an empty text; and as encode().
TokenizerSteps explain_tokenizer(const Tokenizer&, std::string_view text, const TokenizerQuestion& = {});

Story tokenizer_story(const TokenizerSteps&);

}  // namespace glassformer
