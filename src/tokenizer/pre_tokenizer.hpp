// GPT-2's pre-tokenizer, by hand.
#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

namespace glassformer::tokenizer {

struct PreTokenMatch {
  std::size_t length;     // in bytes
  std::string_view rule;  // the alternative that matched, as in the pattern
};

// The first match of GPT-2's pattern at the start of a text that is not empty; the matches tile the text:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// A byte that is not valid UTF-8 counts as one character of the third class. Time is linear in the text, whatever it holds.
PreTokenMatch match_pre_token(std::string_view text);

// The same matches, many at once: bit i is set where one ends after byte i, as far as the first 64 bytes of the text decide it. They are
// read as ASCII up to the first byte that is not. 0: use match_pre_token, as in the middle of a long match or before another script.
std::uint64_t pre_token_ends(std::string_view text);

// Calls f(piece) for each match. A match looks at nothing before it, so each window of 64 bytes begins where the last match ended.
template <class F>
void for_each_pre_token(std::string_view text, F&& f) {
  while (!text.empty()) {
    std::uint64_t ends = pre_token_ends(text);
    std::size_t begin = 0;
    if (ends == 0) f(text.substr(0, begin = match_pre_token(text).length));
    for (; ends != 0; ends &= ends - 1) {
      const auto end = static_cast<std::size_t>(std::countr_zero(ends)) + 1;
      f(text.substr(begin, end - begin));
      begin = end;
    }
    text.remove_prefix(begin);
  }
}

}  // namespace glassformer::tokenizer
