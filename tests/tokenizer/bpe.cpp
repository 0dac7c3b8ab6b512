#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "glassformer/core/random.hpp"
#include "glassformer/tokenizer/encoder.hpp"
#include "tokenizer/unicode.hpp"

using namespace glassformer;

namespace {

std::vector<std::string> pieces_of(const Tokenizer& t, std::span<const Token> ids) {
  std::vector<std::string> pieces;
  for (const Token id : ids) pieces.emplace_back(t.token_bytes(id));
  return pieces;
}

using Pieces = std::vector<std::string>;

// Encoding as the definition says, without cache, heap or scan: among all adjacent pairs the one with the lowest rank, the
// leftmost of equal ones, merges; again until none has a rank.
std::vector<Token> encode_by_definition(const Tokenizer& t, std::string_view text) {
  std::map<std::pair<Token, Token>, std::size_t> ranks;
  for (std::size_t r = 0; r < t.merges().size(); ++r) ranks.emplace(t.merges()[r], r);
  std::vector<Token> out;
  for (const std::string& piece : t.pre_tokens(text)) {
    std::vector<Token> ids;
    for (const char b : piece) ids.push_back(*t.find(std::string_view(&b, 1)));
    while (true) {
      std::size_t best = ranks.size(), at = 0;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto found = ranks.find({ids[i], ids[i + 1]});
        if (found != ranks.end() && found->second < best) best = found->second, at = i;
      }
      if (best == ranks.size()) break;
      ids[at] = *t.find(std::string(t.token_bytes(ids[at])) + std::string(t.token_bytes(ids[at + 1])));
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

// Training as the definition says: count all adjacent pairs anew after each merge.
std::vector<std::pair<Token, Token>> train_by_definition(const std::vector<std::string>& pieces, std::size_t merges) {
  std::vector<std::vector<Token>> words;
  std::array<Token, 256> byte_ids;
  for (std::size_t i = 0; i < 256; ++i) byte_ids[tokenizer::gpt2_byte_order()[i]] = static_cast<Token>(i);
  for (const std::string& p : pieces) {
    words.emplace_back();
    for (const char b : p) words.back().push_back(byte_ids[static_cast<unsigned char>(b)]);
  }
  std::vector<std::pair<Token, Token>> learned;
  while (learned.size() < merges) {
    std::map<std::pair<Token, Token>, int> counts;
    for (const auto& w : words)
      for (std::size_t i = 0; i + 1 < w.size(); ++i) ++counts[{w[i], w[i + 1]}];
    const auto best =
        std::max_element(counts.begin(), counts.end(), [](auto& a, auto& b) { return a.second < b.second; });  // the first of equal ones
    if (best == counts.end() || best->second < 2) break;
    for (auto& w : words)
      for (std::size_t i = 0; i + 1 < w.size(); ++i)
        if (std::pair(w[i], w[i + 1]) == best->first)
          w[i] = static_cast<Token>(256 + learned.size()), w.erase(w.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    learned.push_back(best->first);
  }
  return learned;
}

std::string random_text(std::uint64_t seed, std::size_t length, std::string_view alphabet) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) text += alphabet[random_below({seed, 1}, i, alphabet.size())];
  return text;
}

std::string random_bytes(std::uint64_t seed, std::size_t length) {
  std::string bytes;
  for (std::size_t i = 0; i < length; ++i) bytes += static_cast<char>(random_below({seed, 2}, i, 256));
  return bytes;
}

const std::string prose = "It's the tale they'll tell: the king's men, the queen's men, and 1234 others went there; then they went home. ";

}  // namespace

TEST_CASE("the textbook example: aaabdaaabac merges aa, ab, aaab") {
  std::vector<Merge> seen;
  BpeOptions options;
  options.vocab_size = 300;
  options.special = {};
  options.on_merge = [&](const Merge& m) { seen.push_back(m); };
  const Tokenizer t = train_bpe("aaabdaaabac", options);
  REQUIRE(seen.size() == 3);  // then no pair occurs twice, so 259 tokens and not 300
  CHECK(t.vocab_size() == 259);
  CHECK(seen[0].bytes == "aa");
  CHECK(seen[0].count == 4);  // overlapping: aaa holds two
  CHECK(seen[1].bytes == "ab");
  CHECK(seen[1].count == 2);
  CHECK(seen[2].left_bytes == "aa");
  CHECK(seen[2].right_bytes == "ab");
  CHECK(seen[2].rank == 2);
  CHECK(seen[2].token == 258);
  CHECK(pieces_of(t, t.encode("aaabdaaabac")) == Pieces{"aaab", "d", "aaab", "a", "c"});
  CHECK(t.merges()[2] == std::pair<Token, Token>(256, 257));
}

TEST_CASE("of equally frequent pairs the smaller ids merge first, whatever the order of the text") {
  BpeOptions options;
  options.vocab_size = 257;
  options.special = {};
  for (const char* text : {"xy ab xy ab", "ab xy ab xy"}) CHECK(train_bpe(text, options).find("ab").has_value());
}

TEST_CASE("training and encoding equal their definitions on random texts") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const std::string text = random_text(seed, 400, seed % 3 == 0 ? "ab" : seed % 3 == 1 ? "abc  \n" : "aaaaab' st12.\xC3\xA9");
    BpeOptions options;
    options.vocab_size = 256 + 30;
    options.special = {};
    const Tokenizer t = train_bpe(text, options);
    CAPTURE(seed);
    CHECK(t.merges() == train_by_definition(t.pre_tokens(text), 30));
    const std::string other = random_text(seed + 1000, 600, "aaabbc  '\n");
    CHECK(t.encode(other) == encode_by_definition(t, other));
  }
}

TEST_CASE("any bytes survive decode(encode(x))") {
  BpeOptions options;
  options.vocab_size = 400;
  const Tokenizer trained = train_bpe(prose + prose, options);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const std::string bytes = random_bytes(seed, seed);
    CAPTURE(seed);
    CHECK(trained.decode(trained.encode(bytes)) == bytes);
    CHECK(byte_tokenizer().decode(byte_tokenizer().encode(bytes)) == bytes);
    std::string pieces;
    for (const std::string& p : trained.pre_tokens(bytes)) pieces += p;
    CHECK(pieces == bytes);
  }
}

TEST_CASE("special tokens: text is data unless asked") {
  BpeOptions options;
  options.vocab_size = 300;
  options.special = {"<|endoftext|>", "<|end", "<|\xC3\xA9 x|>"};
  const Tokenizer t = train_bpe(prose, options);
  const Token end = *t.find("<|endoftext|>");
  CHECK(end == t.vocab_size() - 3);
  CHECK(t.bos() == end);
  CHECK(t.eos() == end);
  CHECK(t.is_special(end));
  const std::string text = "a<|endoftext|><|end<|\xC3\xA9 x|>";
  const auto plain = t.encode(text);
  CHECK(std::none_of(plain.begin(), plain.end(), [&](Token id) { return t.is_special(id); }));
  CHECK(t.encode_with_special(text) == std::vector<Token>{*t.find("a"), end, end + 1, end + 2});
  CHECK(t.decode(plain) == text);
  CHECK(t.decode(t.encode_with_special(text)) == text);
  CHECK(t.encode_with_special("").empty());

  // The corpus spells it between documents: nothing is learned from it, nor across it.
  options.special = {"<|endoftext|>"};
  std::string corpus;
  for (int i = 0; i < 9; ++i) corpus += "q<|endoftext|>z";
  CHECK(train_bpe(corpus, options).merges().size() == 1);  // zq
}

TEST_CASE("a trained token never equals a special one") {
  BpeOptions options;
  options.special = {"hello"};
  const Tokenizer t = train_bpe("hell hell hellohellohello hellohell ohello", options);
  CHECK(t.is_special(*t.find("hello")));
  options.special = {"\xC4\xA0the"};  // what a tokenizer.json would write for " the"
  CHECK_FALSE(train_bpe(" the the the the", options).find(" the").has_value());
}

TEST_CASE("what a caller may get wrong") {
  BpeOptions options;
  options.vocab_size = 256;
  CHECK_THROWS_AS(train_bpe("abc", options), std::invalid_argument);  // no room for the special token
  options.vocab_size = 300;
  for (const auto& special : std::vector<std::vector<std::string>>{{""}, {"a"}, {"xx", "xx"}, {"\xC4\xA0"}, {"\xFF\xFF"}}) {
    options.special = special;
    CHECK_THROWS_AS(train_bpe("abc", options), std::invalid_argument);
  }
  CHECK_THROWS_AS(byte_tokenizer().token_bytes(256), std::invalid_argument);
  CHECK_THROWS_AS(byte_tokenizer().token_bytes(-1), std::invalid_argument);
  CHECK_THROWS_AS(byte_tokenizer().decode(std::vector<Token>{1, 300}), std::invalid_argument);
}

TEST_CASE("one huge pre-token, a quarter of a million letters, equals doubling by hand") {
  BpeOptions options;
  options.vocab_size = 256 + 10;
  options.special = {};
  const Tokenizer t = train_bpe(std::string(2048, 'a'), options);  // merges aa, aaaa, …, 1024 letters
  REQUIRE(t.merges().size() == 10);
  const std::size_t n = (1u << 18) + 5;
  const std::vector<Token> ids = t.encode(std::string(n, 'a'));
  CHECK(ids.size() == (1u << 18) / 1024 + 2);  // the rest 5 = 4 + 1
  CHECK(t.token_bytes(ids.front()).size() == 1024);
  CHECK(t.token_bytes(ids[ids.size() - 2]).size() == 4);
}

TEST_CASE("training looks at each place a few times only, whatever the text: linear") {
  std::string distinct;
  for (std::size_t i = 0; i < 8000; ++i) distinct += " " + random_text(i, 12, "abcdefghijklmnop");
  const std::vector<std::string> texts = {std::string(200'000, 'a'), random_text(1, 200'000, "acgt"), random_text(2, 200'000, "ab"),
                                          distinct};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Index looked_at = 0;
    BpeOptions options;
    options.vocab_size = 2000;
    const Tokenizer t = train_bpe_parallel(texts[i], options, 1, &looked_at);
    CAPTURE(i);
    CHECK(t.merges().size() > 15);
    // n − 1 pairs at first, and each merge, of which there are at most n − 1, adds one on either side.
    CHECK(looked_at < 3 * static_cast<Index>(texts[i].size()));
    CHECK(looked_at >= static_cast<Index>(texts[i].size() - t.encode(texts[i]).size()));
  }
}

TEST_CASE("the same merges and counts for any number of threads") {
  std::string text;
  for (std::uint64_t i = 0; text.size() < 2'500'000; ++i)
    text += random_text(i, 1 + i % 40, "aabcde") + (i % 50 == 0 ? "<|endoftext|>" : i % 7 == 0 ? "\n\n" : " ");
  const auto learned = [&](int threads) {
    std::vector<std::pair<std::string, Index>> merges;
    BpeOptions options;
    options.vocab_size = 700;
    options.on_merge = [&](const Merge& m) { merges.emplace_back(m.bytes, m.count); };
    Index looked_at = 0;
    train_bpe_parallel(text, options, threads, &looked_at);
    merges.emplace_back("places", looked_at);
    return merges;
  };
  const auto one = learned(1);
  REQUIRE(one.size() == 700 - 256 - 1 + 1);
  for (const int threads : {2, 3}) CHECK(learned(threads) == one);
}

TEST_CASE("characters: sorted code points, and a clear word about one that is missing") {
  const Tokenizer t = character_tokenizer("b\xC3\xA9\na");
  CHECK(t.vocab_size() == 4);
  CHECK(t.encode("a\xC3\xA9\n") == std::vector<Token>{1, 3, 0});
  CHECK(t.decode(t.encode("a\xC3\xA9\n")) == "a\xC3\xA9\n");
  CHECK_FALSE(t.bos().has_value());
  CHECK(t.pre_tokens("ab ba") == Pieces{"ab ba"});
  CHECK_THROWS_WITH_AS(t.encode("ab\xC3\xA9z"), "character z (U+007A) at byte 4 is not in the vocabulary of 4 characters",
                       std::invalid_argument);
  CHECK_THROWS_AS(t.encode("\xFF"), std::invalid_argument);
  CHECK_THROWS_AS(character_tokenizer(""), std::invalid_argument);
  CHECK_THROWS_AS(character_tokenizer("a\xC3"), std::invalid_argument);
}
