// UTF-8, the classes of characters that GPT-2's pattern asks about, and GPT-2's table of bytes as visible characters.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "glassformer/tokenizer/utf8.hpp"

namespace glassformer::tokenizer {

void append_utf8(std::string& out, std::int32_t code_point);
// The first byte that is not part of valid UTF-8, if any.
std::optional<std::size_t> invalid_utf8_offset(std::string_view text);

// \p{L}, \p{N} and \s of Unicode 14 (utf8proc 2.8), and all the rest: marks, punctuation, symbols, controls, unassigned, invalid bytes.
enum class CharClass : std::uint8_t { letter, number, space, other };
CharClass char_class(std::int32_t code_point);

// GPT-2's table: each byte as one visible character, so that any bytes can stand in a JSON string. Printable Latin-1 is
// itself; the 68 others become U+0100, U+0101, … in the order of bytes.
const std::array<std::int32_t, 256>& byte_to_unicode();
// The bytes in the order of their characters in the table: '!' first. Id i of GPT-2 (i < 256) is byte gpt2_byte_order()[i].
const std::array<std::uint8_t, 256>& gpt2_byte_order();
// The inverse of bytes_to_visible (utf8.hpp); nothing where a character is not in the table.
std::optional<std::string> visible_to_bytes(std::string_view visible);

}  // namespace glassformer::tokenizer
