// A prompt as a model reads it.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/config.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

// What stands before every text that the model reads, and ends one that it writes: the model's own, else the tokenizer's.
std::optional<Token> start_token(const ModelConfig&, const Tokenizer&);

struct Prompt {
  std::vector<Token> ids;          // with the start token, if one was added
  bool has_start = false;          // ids[0] is the start token
  std::vector<std::string> notes;  // sentences for the user
};

// The start token when config.prepend_bos, then the text. An empty text starts from the model's or the tokenizer's start token, else from
// a newline (with a note). Throws std::invalid_argument for a text that the tokenizer cannot encode, an empty one with nothing to start
// from, and a tokenizer with more tokens than the model.
Prompt read_prompt(const ModelConfig&, const Tokenizer&, std::string_view text);

// The bytes of each token; "?" for one that the tokenizer does not have.
std::vector<std::string> token_texts(const Tokenizer&, std::span<const Token> ids);

}  // namespace glassformer
