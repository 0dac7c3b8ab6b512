// One character of UTF-8 at a time, and bytes as visible characters.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace glassformer::tokenizer {

struct CodePoint {
  std::int32_t value;  // −1 where the bytes are not valid UTF-8; then `bytes` is 1
  int bytes;
};
// The code point at the start of a text that is not empty.
CodePoint code_point_at(std::string_view text);

// Bytes as files of byte-level BPE spell them: each is one visible character (GPT-2's table).
std::string bytes_to_visible(std::string_view bytes);

}  // namespace glassformer::tokenizer
