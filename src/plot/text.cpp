#include "glassformer/plot/text.hpp"

#include <fmt/core.h>
#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace glassformer::plot {
namespace {

// The first character of non-empty `text`. Invalid UTF-8 (overlong forms, surrogates, beyond U+10FFFF) gives one byte and code −1.
struct Character {
  std::int32_t code;
  std::size_t bytes;
};
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {static_cast<std::int32_t>(lead), 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return {-1, 1};
  std::int32_t code = static_cast<std::int32_t>(lead & (0xffu >> (length + 1)));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80) return {-1, 1};
    code = code << 6 | static_cast<std::int32_t>(byte(i) & 0x3fu);
  }
  const std::int32_t least = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
  if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {-1, 1};
  return {code, length};
}

// Columns of a code point, −1 for controls and unassigned ones. The C library knows in a UTF-8 locale, whatever the program's own.
int character_width(std::int32_t code) {
  if (code < 0x7f) return code >= 0x20 ? 1 : -1;
#if defined(__EMSCRIPTEN__)
  return wcwidth(static_cast<wchar_t>(code));  // musl's knows no locale
#else
  static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (utf8 == nullptr) return code >= 0xa0 ? 1 : -1;
  const locale_t before = uselocale(utf8);  // of this thread alone
  const int width = wcwidth(static_cast<wchar_t>(code));
  uselocale(before);
  return width;
#endif
}

// Bytes of the escape sequence that `text` starts with, ESC [ … letter; 0 where there is none.
std::size_t escape_bytes(std::string_view text) {
  if (!text.starts_with("\x1b[")) return 0;
  for (std::size_t i = 2; i < text.size(); ++i) {
    if (text[i] >= 0x40 && text[i] <= 0x7e) return i + 1;
  }
  return text.size();
}

// The first character of non-empty `text`, or the escape sequence that it starts with, which takes no column.
struct Piece {
  std::size_t bytes;
  Index width;
};
Piece first_piece(std::string_view text) {
  if (const std::size_t escape = escape_bytes(text)) return {escape, 0};
  const auto [code, bytes] = first_character(text);
  const int columns = code < 0 ? 1 : character_width(code);
  return {bytes, columns < 0 ? 1 : columns};
}

std::string utf8(std::int32_t code) {  // of a code point in U+0800 … U+FFFF
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)), static_cast<char>(0x80 | (code & 0x3f))};
}

bool is_bidirectional_control(std::int32_t c) {
  return c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

Index display_width(std::string_view text) {
  Index width = 0;
  while (!text.empty()) {
    const Piece piece = first_piece(text);
    width += piece.width;
    text.remove_prefix(piece.bytes);
  }
  return width;
}

std::string visible(std::string_view bytes, bool mark_spaces) {
  std::string out;
  while (!bytes.empty()) {
    const auto [code, length] = first_character(bytes);
    const std::string_view here = bytes.substr(0, length);
    if (code < 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(here[0]));
    } else if (code == '\n') {
      out += "↵";
    } else if (code == '\t') {
      out += "⇥";
    } else if (code == ' ') {
      out += mark_spaces ? "␣" : " ";
    } else if (code < 0x20 || code == 0x7f) {
      out += utf8(code == 0x7f ? 0x2421 : 0x2400 + code);
    } else if (character_width(code) < 0 || is_bidirectional_control(code)) {
      out += fmt::format("\\u{{{:04x}}}", code);
    } else {
      out += here;
    }
    bytes.remove_prefix(length);
  }
  return out;
}

std::string without_escapes(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t escape = escape_bytes(text);
    if (escape == 0) out += text[0];
    text.remove_prefix(escape == 0 ? 1 : escape);
  }
  return out;
}

std::string fit(std::string_view text, Index columns) {
  if (display_width(text) <= columns) return std::string(text);
  std::string out;
  Index width = 0;
  while (!text.empty()) {
    const std::string_view next = text.substr(0, first_character(text).bytes);
    const Index more = display_width(next);
    if (width + more > columns - 1) break;
    out += next;
    width += more;
    text.remove_prefix(next.size());
  }
  return columns > 0 ? out + "…" : out;
}

std::string pad_right(std::string_view text, Index columns) {
  return std::string(text) + std::string(static_cast<std::size_t>(std::max<Index>(0, columns - display_width(text))), ' ');
}
std::string pad_left(std::string_view text, Index columns) {
  return std::string(static_cast<std::size_t>(std::max<Index>(0, columns - display_width(text))), ' ') + std::string(text);
}

std::vector<std::string> wrap(std::string_view text, Index columns, std::string_view indent) {
  const Index room = std::max<Index>(2, columns - display_width(indent));
  std::vector<std::string> lines;
  std::string line;
  const auto flush = [&] {
    if (!line.empty()) lines.push_back(std::string(indent) + line);
    line.clear();
  };
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    std::string_view word = text.substr(0, space);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
    Index left = display_width(word);  // of the word, measured once
    if (!line.empty() && display_width(line) + 1 + left > room) flush();
    if (!line.empty()) line += ' ';
    for (; left > room; flush()) {  // only ever at the beginning of a line
      Index used = 0;
      for (Piece next = first_piece(word); used + next.width <= room; next = first_piece(word)) {
        line += word.substr(0, next.bytes);
        word.remove_prefix(next.bytes);
        used += next.width, left -= next.width;
      }
    }
    line += word;
  }
  flush();
  return lines;
}

std::string number(double value, int decimals) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "−∞" : "∞";
  std::string text = fmt::format("{:.{}f}", value, decimals);
  if (text.starts_with('-') && text.find_first_of("123456789") == std::string::npos) text.erase(0, 1);
  return text;
}

}  // namespace glassformer::plot
