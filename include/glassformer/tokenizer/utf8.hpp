// One character of UTF-8 at a time.
#pragma once
#include <cstdint>
#include <string_view>

namespace glassformer::tokenizer {

struct CodePoint {
  std::int32_t value;  // −1 where the bytes are not valid UTF-8; then `bytes` is 1
  int bytes;
};
// The code point at the start of a text that is not empty.
CodePoint code_point_at(std::string_view text);

}  // namespace glassformer::tokenizer
