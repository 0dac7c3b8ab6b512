// Where a text is cut: at the spellings of special tokens, and where its ids provably stay the same.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::tokenizer {

// Spellings of special tokens, found in a text: the leftmost first, the longest of several at one place.
class Spellings {
 public:
  struct Found {
    std::size_t begin, length;
    Token id;
  };

  void add(std::string_view spelling, Token id);  // not empty; of equal ones the first added counts
  std::optional<Found> next(std::string_view text, std::size_t from) const;

 private:
  struct Spelling {
    std::string bytes;
    Token id;
  };
  std::array<std::vector<Spelling>, 256> by_first_byte_;  // the longest first
  std::string first_bytes_;
};

// text[begin, end), which is encoded alone, and the token that stands before it, −1 for none.
struct Segment {
  std::size_t begin, end;
  Token before = -1;
};

// Appends text[begin, end), cut at special tokens.
void append_segments(const Spellings& special, std::string_view text, std::size_t begin, std::size_t end, std::vector<Segment>& out);

// The segments, those of more than `bytes` cut further where a character of ASCII that is no space is followed by a space of ASCII. There a
// pre-token ends whatever stands around it (none holds a space behind another character), and so does a character.
std::vector<Segment> cut_segments(std::string_view text, const std::vector<Segment>& segments, std::size_t bytes);

// Tasks of at least `bytes` bytes each, if there are as many: task i is segments tasks[i] … tasks[i + 1] - 1.
std::vector<std::size_t> tasks_of(const std::vector<Segment>& segments, std::size_t bytes);

}  // namespace glassformer::tokenizer
