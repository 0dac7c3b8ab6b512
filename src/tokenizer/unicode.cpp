#include "tokenizer/unicode.hpp"

#include <utf8proc.h>

namespace glassformer::tokenizer {

CodePoint code_point_at(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  if (first < 0x80) return {first, 1};
  utf8proc_int32_t value = -1;
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto bytes = utf8proc_iterate(data, static_cast<utf8proc_ssize_t>(std::min<std::size_t>(text.size(), 4)), &value);
  return bytes > 0 ? CodePoint{value, static_cast<int>(bytes)} : CodePoint{-1, 1};
}

void append_utf8(std::string& out, std::int32_t code_point) {
  utf8proc_uint8_t buffer[4];
  const auto bytes = utf8proc_encode_char(code_point, buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(bytes));
}

std::optional<std::size_t> invalid_utf8_offset(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text.substr(i));
    if (c.value < 0) return i;
    i += static_cast<std::size_t>(c.bytes);
  }
  return std::nullopt;
}

namespace {

bool is_space(std::int32_t c) {  // the property White_Space, as tiktoken's \s
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

CharClass classify(std::int32_t c) {
  if (c < 0) return CharClass::other;
  if (is_space(c)) return CharClass::space;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::number;
    default:
      return CharClass::other;
  }
}

std::array<CharClass, 128> ascii_classes() {
  std::array<CharClass, 128> classes;
  for (int c = 0; c < 128; ++c) classes[static_cast<std::size_t>(c)] = classify(c);
  return classes;
}

std::array<std::int32_t, 256> make_byte_to_unicode() {
  std::array<std::int32_t, 256> table;
  std::int32_t next = 256;
  for (std::int32_t b = 0; b < 256; ++b) {
    const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    table[static_cast<std::size_t>(b)] = visible ? b : next++;
  }
  return table;
}

// Where U+0000 … U+0143 stand in the table, −1 for those that do not.
std::array<std::int16_t, 324> make_unicode_to_byte() {
  std::array<std::int16_t, 324> inverse;
  inverse.fill(-1);
  for (std::size_t b = 0; b < 256; ++b) inverse[static_cast<std::size_t>(byte_to_unicode()[b])] = static_cast<std::int16_t>(b);
  return inverse;
}

}  // namespace

CharClass char_class(std::int32_t code_point) {
  static const std::array<CharClass, 128> ascii = ascii_classes();
  if (code_point >= 0 && code_point < 128) return ascii[static_cast<std::size_t>(code_point)];
  return classify(code_point);
}

const std::array<std::int32_t, 256>& byte_to_unicode() {
  static const std::array<std::int32_t, 256> table = make_byte_to_unicode();
  return table;
}

const std::array<std::uint8_t, 256>& gpt2_byte_order() {
  static const std::array<std::uint8_t, 256> order = [] {
    std::array<std::uint8_t, 256> bytes;
    std::size_t n = 0;
    for (const bool shifted : {false, true})
      for (std::size_t b = 0; b < 256; ++b)
        if ((byte_to_unicode()[b] >= 256) == shifted) bytes[n++] = static_cast<std::uint8_t>(b);
    return bytes;
  }();
  return order;
}

std::string bytes_to_visible(std::string_view bytes) {
  std::string visible;
  for (const char b : bytes) append_utf8(visible, byte_to_unicode()[static_cast<unsigned char>(b)]);
  return visible;
}

std::optional<std::string> visible_to_bytes(std::string_view visible) {
  static const std::array<std::int16_t, 324> inverse = make_unicode_to_byte();
  std::string bytes;
  while (!visible.empty()) {
    const CodePoint c = code_point_at(visible);
    if (c.value < 0 || c.value >= static_cast<std::int32_t>(inverse.size()) || inverse[static_cast<std::size_t>(c.value)] < 0)
      return std::nullopt;
    bytes += static_cast<char>(inverse[static_cast<std::size_t>(c.value)]);
    visible.remove_prefix(static_cast<std::size_t>(c.bytes));
  }
  return bytes;
}

}  // namespace glassformer::tokenizer
