#include "tokenizer/pre_tokenizer.hpp"

#include <doctest/doctest.h>

#include <set>

#include "glassformer/core/random.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"
#include "tokenizer/unicode.hpp"

using namespace glassformer;

namespace {
std::vector<std::string> split(std::string_view text) {
  static const Tokenizer t = train_bpe("", BpeOptions{});
  return t.pre_tokens(text);
}
using Pieces = std::vector<std::string>;
}  // namespace

TEST_CASE("GPT-2's pattern, by hand") {
  CHECK(split("") == Pieces{});
  CHECK(split("Hello world") == Pieces{"Hello", " world"});
  CHECK(split("they'll we've I'm he'd it's don't you're") ==
        Pieces{"they", "'ll", " we", "'ve", " I", "'m", " he", "'d", " it", "'s", " don", "'t", " you", "'re"});
  CHECK(split("IT'S") == Pieces{"IT", "'", "S"});  // upper case is no contraction
  CHECK(split("a'sb") == Pieces{"a", "'s", "b"});  // the contraction ends where it ends
  CHECK(split("!'s") == Pieces{"!'", "s"});        // punctuation takes the apostrophe first
  CHECK(split(" 's") == Pieces{" '", "s"});        // and so does " ?" before it
  CHECK(split("'r 'l '") == Pieces{"'", "r", " '", "l", " '"});
  CHECK(split("abc123 456.78") == Pieces{"abc", "123", " 456", ".", "78"});
  CHECK(split("x  y") == Pieces{"x", " ", " y"});          // all but the last space, which the word takes
  CHECK(split("x\n\ny") == Pieces{"x", "\n", "\n", "y"});  // a newline is not " ?"
  CHECK(split("x \n y") == Pieces{"x", " \n", " y"});
  CHECK(split("x  ") == Pieces{"x", "  "});  // at the end the whole run
  CHECK(split(" ") == Pieces{" "});
  CHECK(split("  ") == Pieces{"  "});
  CHECK(split("\ta") == Pieces{"\t", "a"});
  CHECK(split("a \tb") == Pieces{"a", " ", "\t", "b"});
}

TEST_CASE("GPT-2's pattern beyond ASCII") {
  CHECK(split("\u00e9t\u00e9 \u4f60\u597d") == Pieces{"\u00e9t\u00e9", " \u4f60\u597d"});
  CHECK(split("e\u0301a") == Pieces{"e", "\u0301", "a"});                    // a mark is no letter
  CHECK(split("\u00bd\u2167\u0663x") == Pieces{"\u00bd\u2167\u0663", "x"});  // No, Nl, Nd
  CHECK(split("a\u00a0\u00a0b") == Pieces{"a", "\u00a0", "\u00a0", "b"});
  CHECK(split("!\u0085!") == Pieces{"!", "\u0085", "!"});  // U+0085 is a space for tiktoken (not for JavaScript)
  CHECK(split("!\ufeff!") == Pieces{"!\ufeff!"});          // U+FEFF is none (in JavaScript it is)
  CHECK(split("!\u200b!") == Pieces{"!\u200b!"});
  CHECK(split("a\xff\xfe!b") == Pieces{"a", "\xff\xfe!", "b"});  // invalid bytes go with punctuation
  CHECK(split("\xe4\xbd") == Pieces{"\xe4\xbd"});                // a cut character
  CHECK(split("\xed\xa0\x80") == Pieces{"\xed\xa0\x80"});        // a surrogate is not UTF-8
}

TEST_CASE("GPT-2's table of bytes: 256 distinct visible characters, printable ones themselves, and its inverse") {
  const auto& table = tokenizer::byte_to_unicode();
  CHECK(std::set<std::int32_t>(table.begin(), table.end()).size() == 256);
  CHECK(table['!'] == '!');
  CHECK(table['~'] == '~');
  CHECK(table[0xFF] == 0xFF);
  CHECK(table[0] == 0x100);
  CHECK(table[' '] == 0x120);   // Ġ
  CHECK(table['\n'] == 0x10A);  // Ċ
  CHECK(table[0x7F] == 0x121);
  CHECK(table[0xAD] == 0x143);  // the last of the 68
  for (std::size_t b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    CHECK(tokenizer::visible_to_bytes(tokenizer::bytes_to_visible(byte)) == byte);
  }
  CHECK_FALSE(tokenizer::visible_to_bytes(" ").has_value());
  CHECK_FALSE(tokenizer::visible_to_bytes("\u0144").has_value());
  const auto& order = tokenizer::gpt2_byte_order();
  CHECK(order[0] == '!');
  CHECK(order[187] == 0xFF);  // 188 visible bytes, then the others
  CHECK(order[188] == 0);
  CHECK(order[220] == ' ');  // GPT-2's id of a space
}

TEST_CASE("windows of 64 bytes cut as the pattern does match by match") {
  const std::vector<std::vector<std::string>> alphabets = {
      {"a", "b", "S", " ", "'", "s", "re", "ll"},
      {" ", "\n", "\t", "x", "'d", "'"},
      {"word", " ", "  ", "12", ".", "--", "'ve", "'VE", "\r\n", "m", "{", "`", "@", "[", "/", ":", "\x7F", std::string(1, '\0')},
      {"plain words and more of them ", "\u00e9", "\u00a0", "\u2003", "\u4f60", "\xff", "\xe4\xbd", "'", "t", " "},
      {std::string(70, 'q'), std::string(63, ' '), std::string(64, '.'), std::string(31, '7'), "'ll", "x", "\n", " "}};
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const auto& alphabet = alphabets[seed % alphabets.size()];
    std::string text;
    for (std::uint64_t i = 0; i < seed % 150; ++i) text += alphabet[random_below({seed, 3}, i, alphabet.size())];
    Pieces by_windows, by_matches;
    tokenizer::for_each_pre_token(text, [&](std::string_view piece) { by_windows.emplace_back(piece); });
    for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(by_matches.back().size()))
      by_matches.emplace_back(rest.substr(0, tokenizer::match_pre_token(rest).length));
    CAPTURE(seed);
    CAPTURE(text);
    CHECK(by_windows == by_matches);
  }
}
