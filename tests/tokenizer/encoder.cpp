#include "glassformer/tokenizer/encoder.hpp"

#include <doctest/doctest.h>

#include "glassformer/core/random.hpp"
#include "tokenizer/segments.hpp"

using namespace glassformer;

namespace {

Tokenizer trained(std::string_view text, Index vocab_size) {
  BpeOptions options;
  options.vocab_size = vocab_size;
  options.special = {"<|endoftext|>", "<|a b|>"};
  return train_bpe(text, options);
}

// Words of some letters, numbers, spaces, other scripts, special tokens.
std::string mixed_text(std::uint64_t seed, std::size_t words) {
  static constexpr std::string_view kinds[] = {
      " ", " ", " ", "\n", "\n\n  ", "'s ", ", ", " <|endoftext|>", "<|a b|>", " \u00e9t\u00e9 ", "\u00a0", "\xff"};
  const RandomStream stream{seed, 7};
  std::string text;
  for (std::uint64_t i = 0; i < words; ++i) {
    for (std::uint64_t letter = 0, n = random_below(stream, 4 * i, 9); letter < n; ++letter)
      text += static_cast<char>((i % 11 == 0 ? '0' : 'a') + static_cast<char>(random_below(stream, 400 * i + letter, 7)));
    text += kinds[random_below(stream, 4 * i + 1, std::size(kinds))];
  }
  return text;
}

}  // namespace

TEST_CASE("the same ids for any number of threads, special tokens spelled in the text or not") {
  const std::string text = mixed_text(1, 120'000);
  REQUIRE(text.size() > 600'000);  // several tasks
  const Tokenizer bpe = trained(text.substr(0, 20'000), 600);
  for (const Tokenizer& t : {bpe, byte_tokenizer()}) {
    const auto ids = t.encode(text), with_special = t.encode_with_special(text);
    for (const int threads : {2, 3, 8}) {
      CHECK(encode_parallel(t, text, threads) == ids);
      CHECK(encode_with_special_parallel(t, text, threads) == with_special);
    }
  }
  CHECK(bpe.encode_with_special(text) != bpe.encode(text));
  const std::string line(600'000, 'a');  // no place to cut
  CHECK(encode_parallel(bpe, line, 4) == bpe.encode(line));
}

TEST_CASE("a text may be cut where a space follows another character, and only there") {
  using tokenizer::Segment;
  const auto ends = [](std::string_view text, std::size_t bytes) {
    std::vector<std::size_t> out;
    for (const Segment& s : tokenizer::cut_segments(text, {{0, text.size(), 7}}, bytes)) {
      CHECK(s.begin == (out.empty() ? 0 : out.back()));
      CHECK(s.before == (out.empty() ? 7 : -1));
      out.push_back(s.end);
    }
    return out;
  };
  using Ends = std::vector<std::size_t>;
  CHECK(ends("ab cd\nef", 1) == Ends{2, 5, 8});
  CHECK(ends("ab cd\nef", 3) == Ends{5, 8});
  CHECK(ends("ab   c", 1) == Ends{2, 6});             // not within a run of spaces
  CHECK(ends("\u00e9 \u00a0 x y", 1) == Ends{7, 9});  // not after a byte that may be part of a space
  CHECK(ends("", 1) == Ends{0});
  const std::string text = mixed_text(2, 300);
  const Tokenizer t = trained(text, 400);
  std::vector<Token> joined;
  for (const Segment& s : tokenizer::cut_segments(text, {{0, text.size()}}, 1))
    for (const Token id : t.encode(std::string_view(text).substr(s.begin, s.end - s.begin))) joined.push_back(id);
  CHECK(joined == t.encode(text));
}

TEST_CASE("documents: each alone, a token before each, the same for any number of threads") {
  const std::string text = mixed_text(3, 120'000);
  const Tokenizer t = trained(text.substr(0, 20'000), 600);
  std::vector<Index> starts = {0};
  for (std::uint64_t i = 0; static_cast<std::size_t>(starts.back()) + 5000 < text.size(); ++i)
    starts.push_back(starts.back() + static_cast<Index>(random_below({4, 4}, i, 5000)));  // within words, empty ones too
  std::vector<Token> one_by_one;
  for (std::size_t d = 0; d < starts.size(); ++d) {
    const auto begin = static_cast<std::size_t>(starts[d]),
               end = d + 1 < starts.size() ? static_cast<std::size_t>(starts[d + 1]) : text.size();
    one_by_one.push_back(9);
    for (const Token id : t.encode_with_special(std::string_view(text).substr(begin, end - begin))) one_by_one.push_back(id);
  }
  for (const int threads : {1, 2, 5}) CHECK(encode_documents(t, text, starts, 9, threads) == one_by_one);
  CHECK(encode_documents(t, text, std::vector<Index>{0}, std::nullopt, 2) == t.encode_with_special(text));
  CHECK_THROWS_AS(encode_documents(t, "abc", std::vector<Index>{0, 2, 1}, std::nullopt, 1), std::invalid_argument);
  CHECK_THROWS_AS(encode_documents(t, "abc", std::vector<Index>{4}, std::nullopt, 1), std::invalid_argument);
}

TEST_CASE("the first character that is missing is named, for any number of threads") {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "ab ab\n";
  text[700'000] = 'y', text[1'000'000] = 'z';
  for (const int threads : {1, 4})
    CHECK_THROWS_WITH_AS(encode_parallel(character_tokenizer("ab \n"), text, threads),
                         "character y (U+0079) at byte 700000 is not in the vocabulary of 4 characters", std::invalid_argument);
}

TEST_CASE("an encoder that remembers gives the same ids, and merges only what is new") {
  const std::string text = mixed_text(5, 20'000);
  const Tokenizer t = trained(text.substr(0, 20'000), 500);
  const auto ids = t.encode(text);
  Encoder encoder(t);
  std::vector<Token> out;
  encoder.append(text, out);
  CHECK(out == ids);
  const auto first = encoder.work();
  CHECK(first.pre_tokens == static_cast<Index>(t.pre_tokens(text).size()));
  encoder.append(text, out);
  CHECK(std::vector<Token>(out.begin() + static_cast<std::ptrdiff_t>(ids.size()), out.end()) == ids);
  CHECK(encoder.work().pre_tokens == 2 * first.pre_tokens);
  CHECK(encoder.work().merged - first.merged < first.merged / 20);  // a few places are overwritten
}

TEST_CASE("more distinct pre-tokens than an encoder keeps") {
  std::string text;
  for (std::int64_t i = 0; i < 400'000; ++i) text += fmt::format(" {}", i * 7919 % 1'000'003);
  for (int i = 0; i < 80'000; ++i) text += fmt::format(" {:020}", i);  // longer than 15 bytes
  const Tokenizer t = trained("10 20 30 40 50 100 200 300 10 20 30", 270);
  Encoder encoder(t);
  std::vector<Token> first, second;
  encoder.append(text, first);
  encoder.append(text, second);
  CHECK(first == second);
  CHECK(t.decode(first) == text);
  CHECK(encoder.work().merged > 480'000);
}
