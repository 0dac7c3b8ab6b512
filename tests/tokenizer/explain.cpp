// Tokenizer::explain: the steps are those of the encoder, replayed here by their definition.
#include <doctest/doctest.h>

#include <filesystem>

#include "glassformer/core/random.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

using namespace glassformer;

namespace {

struct Piece {
  Index begin;
  Token id;
};

// Does each step, and checks that no other pair would have come first.
void check_steps(const Tokenizer& t, const EncodedPiece& e) {
  std::vector<Piece> pieces;
  Index begin = 0;
  for (const Token id : e.symbols) {
    pieces.push_back({begin, id});
    begin += static_cast<Index>(t.token_bytes(id).size());
  }
  CHECK(begin == static_cast<Index>(e.bytes.size()));
  const auto mergeable = [&t](Token left, Token right) -> std::optional<double> {  // the lower first
    if (t.kind() == TokenizerKind::bpe) {
      for (std::size_t r = 0; r < t.merges().size(); ++r) {
        if (t.merges()[r] == std::pair(left, right)) return static_cast<double>(r);
      }
      return {};
    }
    const std::optional<Token> both = t.find(std::string(t.token_bytes(left)) + std::string(t.token_bytes(right)));
    if (!both || *both < 259) return {};
    return -static_cast<double>(t.scores()[static_cast<std::size_t>(*both)]);
  };
  const auto best = [&] {
    std::optional<double> least;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
      const auto found = mergeable(pieces[i].id, pieces[i + 1].id);
      if (found && (!least || *found < *least)) least = found, at = i;
    }
    return std::pair(least, at);
  };
  for (const MergeStep& s : e.steps) {
    const auto [least, at] = best();
    REQUIRE(least.has_value());
    CHECK(pieces[at].begin == s.begin);
    CHECK(pieces[at].id == s.left);
    CHECK(pieces[at + 1].id == s.right);
    CHECK(t.token_bytes(s.token) == std::string(t.token_bytes(s.left)) + std::string(t.token_bytes(s.right)));
    if (t.kind() == TokenizerKind::bpe)
      CHECK(static_cast<double>(s.rank) == *least);
    else
      CHECK(s.score == -*least);
    pieces[at].id = s.token;
    pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  CHECK(!best().first.has_value());  // none is left to merge
  std::vector<Token> ids;
  for (const Piece& p : pieces) ids.push_back(p.id);
  CHECK(ids == e.ids);
}

void check_text(const Tokenizer& t, const std::string& text) {
  std::vector<Token> ids;
  std::vector<std::string> pieces;
  for (const EncodedPiece& e : t.explain(text)) {
    check_steps(t, e);
    ids.insert(ids.end(), e.ids.begin(), e.ids.end());
    pieces.push_back(e.bytes);
  }
  CHECK(ids == t.encode(text));
  if (t.kind() == TokenizerKind::bpe) CHECK(pieces == t.pre_tokens(text));
}

Tokenizer trained(std::string_view text, Index vocab_size) {
  BpeOptions o;
  o.vocab_size = vocab_size, o.special = {};
  return train_bpe(text, o);
}

std::string random_text(std::uint64_t n, std::string_view letters) {
  std::string text;
  for (std::uint64_t i = 0; i < n; ++i) text += letters[random_below({n, 3}, i, letters.size())];
  return text;
}

}  // namespace

TEST_CASE("explain: aaab under aa, ab, aaab, step by step") {
  const Tokenizer t = trained("aaabdaaabac", 259);
  const std::vector<EncodedPiece> all = t.explain("aaab");
  REQUIRE(all.size() == 1);
  const Token a = *t.find("a"), b = *t.find("b"), aa = *t.find("aa"), ab = *t.find("ab"), aaab = *t.find("aaab");
  CHECK(all[0].symbols == std::vector<Token>{a, a, a, b});
  CHECK(all[0].ids == std::vector<Token>{aaab});
  REQUIRE(all[0].steps.size() == 3);
  const auto is = [&](std::size_t i, Index begin, Token left, Token right, Token token, Index rank) {
    const MergeStep& s = all[0].steps[i];
    CHECK(s.begin == begin);
    CHECK(s.left == left);
    CHECK(s.right == right);
    CHECK(s.token == token);
    CHECK(s.rank == rank);
  };
  is(0, 0, a, a, aa, 0), is(1, 2, a, b, ab, 1), is(2, 0, aa, ab, aaab, 2);
}

TEST_CASE("explain: the steps of random texts are those that the definition takes, and end in encode's ids") {
  for (const std::uint64_t n : {3u, 40u, 300u}) {  // pieces of up to 24 bytes and longer ones are encoded by different loops
    const Tokenizer t = trained(random_text(4000, "aabbc "), 300);
    check_text(t, random_text(n, "aabbc "));
    check_text(t, random_text(n, "abc"));
    check_text(t, random_text(n, "a\xff\n 1'"));
  }
}

TEST_CASE("explain: which alternative of the pattern cut each pre-token out") {
  const Tokenizer t = trained("abab", 257);
  const std::pair<std::string, std::string> expected[] = {{"It", " ?\\p{L}+"},         {"'s", "'s|'t|'re|'ve|'m|'ll|'d"}, {" 42", " ?\\p{N}+"},
                                                          {"!\xff", " ?[^\\s\\p{L}\\p{N}]+"}, {" ", "\\s+(?!\\S)"},        {" x", " ?\\p{L}+"},
                                                          {"\n", "\\s+"},                {"y", " ?\\p{L}+"},             {" \n", "\\s+(?!\\S)"}};
  std::string text;
  for (const auto& e : expected) text += e.first;
  const std::vector<EncodedPiece> found = t.explain(text);
  REQUIRE(found.size() == std::size(expected));
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].bytes == expected[i].first);
    CHECK(found[i].rule == expected[i].second);
  }
}

TEST_CASE("explain: characters and bytes have no steps; nothing gives nothing; errors are encode's") {
  CHECK(byte_tokenizer().explain("").empty());
  const std::vector<EncodedPiece> bytes = byte_tokenizer().explain("h\xc3\xa9");
  REQUIRE(bytes.size() == 1);
  CHECK(bytes[0].steps.empty());
  CHECK(bytes[0].ids == std::vector<Token>{'h', 0xc3, 0xa9});
  const Tokenizer c = character_tokenizer("hé");
  CHECK(c.explain("é")[0].ids == std::vector<Token>{1});
  CHECK_THROWS_AS(c.explain("x"), std::invalid_argument);
}

TEST_CASE("explain: GPT-2 and stories260K") {
  const std::filesystem::path data = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data";
  if (!std::filesystem::exists(data / "gpt2") || !std::filesystem::exists(data / "stories260K")) {
    MESSAGE("skipped: there is no " << data.string());
    return;
  }
  const auto gpt2 = load_gpt2_tokenizer(data / "gpt2" / "encoder.json", data / "gpt2" / "vocab.bpe");
  REQUIRE(gpt2.has_value());
  check_text(*gpt2, "The lowest café's unbelievableness costs 4111 1111 dollars — 日本\n\n  ok\xff");
  const auto stories = load_tokenizer(data / "stories260K");
  REQUIRE(stories.has_value());
  check_text(*stories, "Once upon a time, Lily's café \xff 日 had 41 zebras.");
  CHECK(stories->explain("Lily")[0].bytes == " Lily");
}
