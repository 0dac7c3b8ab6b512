#include "tokenizer/pre_tokenizer.hpp"

#include "tokenizer/unicode.hpp"

namespace glassformer::tokenizer {
namespace {

// 's|'t|'re|'ve|'m|'ll|'d : its length, 0 where there is none. Lower case only.
std::size_t contraction_length(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l':
      return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

struct Run {
  std::size_t end;   // where the run of one class that starts at `begin` ends
  std::size_t last;  // where its last character starts
};

Run run_of(CharClass wanted, std::string_view text, std::size_t begin) {
  Run run{begin, begin};
  while (run.end < text.size()) {
    const CodePoint c = code_point_at(text.substr(run.end));
    if (char_class(c.value) != wanted) break;
    run.last = run.end;
    run.end += static_cast<std::size_t>(c.bytes);
  }
  return run;
}

}  // namespace

PreTokenMatch match_pre_token(std::string_view text) {
  if (const std::size_t n = contraction_length(text)) return {n, "'s|'t|'re|'ve|'m|'ll|'d"};
  const std::size_t start = text[0] == ' ' && text.size() > 1 ? 1 : 0;  // " ?"
  const CharClass first = char_class(code_point_at(text.substr(start)).value);
  if (first != CharClass::space) {
    const std::string_view rule = first == CharClass::letter ? " ?\\p{L}+" : first == CharClass::number ? " ?\\p{N}+" : " ?[^\\s\\p{L}\\p{N}]+";
    return {run_of(first, text, start).end, rule};
  }
  const Run spaces = run_of(CharClass::space, text, 0);
  // \s+(?!\S): up to the end of the text the whole run; before other text all but its last character, which \s+ (or " ?") takes next.
  if (spaces.end != text.size() && spaces.last != 0) return {spaces.last, "\\s+(?!\\S)"};
  return {spaces.end, spaces.end == text.size() ? "\\s+(?!\\S)" : "\\s+"};
}

}  // namespace glassformer::tokenizer
