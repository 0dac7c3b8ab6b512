// Bytes of tokens in, text out as it may be shown: whole UTF-8 characters only, and never past a stop string.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace glassformer {

// The text with every maximal ill-formed piece replaced by U+FFFD, as the Unicode Standard recommends (3.9, "U+FFFD Substitution of
// Maximal Subparts"): for JSON and terminals. "a\xC3" gives "a\uFFFD".
std::string valid_utf8(std::string_view bytes);

// Holds back the beginning of a character until its last byte is here, and what may be the beginning of a stop string until it is clear
// whether it is one. What is shown is valid UTF-8 (as valid_utf8 makes it); text() keeps the bytes as they came.
class TextStream {
 public:
  // `show` may be empty. Throws std::invalid_argument for an empty stop string.
  TextStream(std::vector<std::string> stop, std::function<void(std::string_view)> show);

  // Takes the bytes of a token. True when a stop string is complete: text() ends before the first one, and no more may be appended.
  bool append(std::string_view bytes);
  // The end: shows what was held back.
  void finish();
  const std::string& text() const { return text_; }

 private:
  void show_until(std::size_t end, bool last);

  std::vector<std::string> stop_;
  std::function<void(std::string_view)> show_;
  std::string text_;
  std::size_t shown_ = 0;  // bytes of text_
  bool stopped_ = false;
};

}  // namespace glassformer
