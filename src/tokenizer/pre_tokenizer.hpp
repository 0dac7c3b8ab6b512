// GPT-2's pre-tokenizer, by hand.
#pragma once
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
inline std::size_t pre_token_length(std::string_view text) { return match_pre_token(text).length; }

template <class F>
void for_each_pre_token(std::string_view text, F&& f) {
  while (!text.empty()) {
    const std::size_t n = pre_token_length(text);
    f(text.substr(0, n));
    text.remove_prefix(n);
  }
}

}  // namespace glassformer::tokenizer
