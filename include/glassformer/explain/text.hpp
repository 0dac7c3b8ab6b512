// The text that a story is about, as a model reads it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/decoder.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

struct ExplainedText {
  std::vector<Token> ids;                    // [T]
  std::vector<std::string> tokens;           // [T] bytes of each
  std::vector<std::string> vocabulary = {};  // [V] bytes of every token of the model; "?" for one that the tokenizer does not have
  std::string model = {};                    // what reads it: one line
  std::vector<std::string> notes = {};       // sentences for the reader
};

// As `generate` reads it, with the start token where the model was trained with one. Throws std::invalid_argument for no text, or one
// that the tokenizer cannot encode.
ExplainedText explained_text(const Decoder<float>&, const Tokenizer&, std::string_view prompt, std::string model);

// The token with exactly these bytes. Throws std::invalid_argument, naming what comes near it, when there is none; `what` begins the
// message.
Token token_named(const ExplainedText&, const char* what, std::string_view bytes);

}  // namespace glassformer
