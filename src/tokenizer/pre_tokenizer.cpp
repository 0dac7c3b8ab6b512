#include "tokenizer/pre_tokenizer.hpp"

#include <algorithm>
#include <cstring>

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

// Eight bytes in a 64-bit word, each below 0x80, so that sums never carry into the next: the high bit of each byte is the answer.
using Bytes = std::uint64_t;
static_assert(std::endian::native == std::endian::little);
constexpr Bytes ones = 0x0101010101010101u, high_bits = 0x80 * ones;

constexpr Bytes at_least(Bytes b, unsigned char least) { return b + (0x80u - least) * ones; }
constexpr Bytes between(Bytes b, unsigned char least, unsigned char most) {
  return at_least(b, least) & ~at_least(b, static_cast<unsigned char>(most + 1));
}
// The high bits of the eight bytes, the first in bit 0.
constexpr std::uint64_t gathered(Bytes answer) { return ((answer & high_bits) >> 7) * 0x0102040810204080u >> 56; }

// Of up to 64 bytes, bit i is byte i's.
struct Masks {
  std::uint64_t beyond_ascii = 0, letter = 0, number = 0, space = 0, blank = 0, quote = 0;  // space: any white space; blank: ' '
};

Masks masks_of(const char* bytes) {
  Masks m;
  for (int w = 0; w < 8; ++w) {
    Bytes raw;
    std::memcpy(&raw, bytes + 8 * w, 8);
    const Bytes b = raw & ~high_bits, blank = between(b, ' ', ' ');
    m.beyond_ascii |= gathered(raw) << 8 * w;
    m.letter |= gathered(between(b | 0x20 * ones, 'a', 'z')) << 8 * w;
    m.number |= gathered(between(b, '0', '9')) << 8 * w;
    m.space |= gathered(between(b, '\t', '\r') | blank) << 8 * w;
    m.blank |= gathered(blank) << 8 * w;
    m.quote |= gathered(between(b, '\'', '\'')) << 8 * w;
  }
  return m;
}

constexpr std::uint64_t lowest(std::size_t bits) { return bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1; }

}  // namespace

std::uint64_t pre_token_ends(std::string_view text) {
  char copy[64];
  const char* bytes = text.data();
  if (text.size() < 64) {
    std::memset(copy, 0, sizeof copy);
    std::memcpy(copy, bytes, text.size());
    bytes = copy;
  }
  const Masks m = masks_of(bytes);
  const auto ascii = static_cast<std::size_t>(std::countr_zero(m.beyond_ascii));
  const bool whole = text.size() <= ascii;  // the window holds all that is left
  const std::size_t n = std::min(ascii, text.size());
  if (n < 2 && !whole) return 0;

  const std::uint64_t valid = lowest(n);
  const std::uint64_t letter = m.letter & valid, number = m.number & valid, space = m.space & valid,
                      other = valid & ~(letter | number | space);
  const std::uint64_t goes_on =
      (letter & letter << 1) | (number & number << 1) | (other & other << 1) | (~space & m.blank << 1);  // " ?" takes a blank
  // A run of spaces is cut before its last character, unless the text ends with it.
  const std::uint64_t space_follows = space >> 1 | (whole ? ~lowest(n - 1) : 0);
  std::uint64_t starts = (valid & ~space & ~goes_on) | (space & ~(space << 1 & space_follows));
  for (std::uint64_t quotes = m.quote & starts; quotes != 0; quotes &= quotes - 1) {
    const auto at = static_cast<std::size_t>(std::countr_zero(quotes));
    const std::size_t length = contraction_length(std::string_view(bytes, n).substr(at));
    if (length == 0) continue;
    starts &= ~(std::uint64_t{2} << at);
    if (at + length < 64) starts |= std::uint64_t{1} << (at + length);
  }
  // Byte i's neighbours decide whether a match starts there.
  return whole ? (starts & valid) >> 1 | std::uint64_t{1} << (n - 1) : (starts & lowest(n - 1)) >> 1;
}

PreTokenMatch match_pre_token(std::string_view text) {
  if (const std::size_t n = contraction_length(text)) return {n, "'s|'t|'re|'ve|'m|'ll|'d"};
  const std::size_t start = text[0] == ' ' && text.size() > 1 ? 1 : 0;  // " ?"
  const CharClass first = char_class(code_point_at(text.substr(start)).value);
  if (first != CharClass::space) {
    const std::string_view rule = first == CharClass::letter   ? " ?\\p{L}+"
                                  : first == CharClass::number ? " ?\\p{N}+"
                                                               : " ?[^\\s\\p{L}\\p{N}]+";
    return {run_of(first, text, start).end, rule};
  }
  const Run spaces = run_of(CharClass::space, text, 0);
  // \s+(?!\S): up to the end of the text the whole run; before other text all but its last character, which \s+ (or " ?") takes next.
  if (spaces.end != text.size() && spaces.last != 0) return {spaces.last, "\\s+(?!\\S)"};
  return {spaces.end, spaces.end == text.size() ? "\\s+(?!\\S)" : "\\s+"};
}

}  // namespace glassformer::tokenizer
