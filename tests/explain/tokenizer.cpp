// The story of a tokenizer: its steps against the encoder, its counts against counting by hand.
#include "glassformer/explain/tokenizer.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "glassformer/plot/text.hpp"

using namespace glassformer;

namespace {

using Words = std::vector<std::string>;

void check_widths(const Story& s) {
  for (const Index width : {60, 71, 80}) {
    std::istringstream text(story_text(s, plot::Colour::rgb, width));
    for (std::string line; std::getline(text, line);) CHECK_MESSAGE(plot::display_width(line) <= width, line);
  }
}

// What holds for every tokenizer and text.
void check(const Tokenizer& t, const std::string& text) {
  const TokenizerSteps s = explain_tokenizer(t, text);
  CHECK(s.ids == t.encode(text));
  std::vector<Token> joined;
  std::string bytes;
  for (const EncodedPiece& p : s.pieces) joined.insert(joined.end(), p.ids.begin(), p.ids.end());
  CHECK(joined == s.ids);
  Index count = 0;
  for (const TextCharacter& c : s.characters) count += c.count * static_cast<Index>(c.bytes.size());
  CHECK(count == static_cast<Index>(text.size()));
  for (std::size_t i = 0; i < s.pieces.size(); ++i) {
    const TokenizerSteps one = explain_tokenizer(t, text, {.piece = static_cast<Index>(i)});
    const EncodedPiece& p = one.pieces[i];
    REQUIRE(one.states.size() == std::min(p.steps.size(), TokenizerSteps::kShownSteps) + 1);
    for (std::size_t k = 0; k < one.states.size(); ++k) {  // no step changes the bytes; each leaves one piece fewer and says which it made
      std::string all;
      for (const std::string& token : one.states[k].tokens) all += token;
      CHECK(all == p.bytes);
      CHECK(one.states[k].tokens.size() == p.symbols.size() - k);
      if (k > 0) CHECK(one.states[k].tokens[static_cast<std::size_t>(one.states[k].at)] == t.token_bytes(p.steps[k - 1].token));
    }
    if (p.steps.size() < one.states.size()) CHECK(one.states.back().tokens == one.piece_tokens[i]);
    if (i < 3) check_widths(tokenizer_story(one));
  }
}

}  // namespace

TEST_CASE("the example: what training counted, by hand") {
  const TokenizerSteps s = explain_tokenizer_example();
  // low ×5, lower ×2, newest ×6, widest ×3; all but the first have a space before them.
  const std::map<std::string, Index> words = {{"low", 1}, {" low", 4}, {" lower", 2}, {" newest", 6}, {" widest", 3}};
  const auto pairs = [&words](const std::string& both) {  // how often two letters stand beside each other
    Index n = 0;
    for (const auto& [word, times] : words) {
      for (std::size_t at = word.find(both); at != std::string::npos; at = word.find(both, at + 1)) n += times;
    }
    return n;
  };
  REQUIRE(s.learned.size() == 12);
  CHECK(s.merges == 12);
  CHECK(s.learned[0].bytes == "es");
  CHECK(s.learned[0].count == pairs("es"));
  CHECK(pairs("es") == 9);
  CHECK(s.learned[1].bytes == "est");  // "es" and "t": wherever "est" stood
  CHECK(s.learned[1].count == pairs("est"));
  CHECK(s.learned[2].bytes == "lo");
  CHECK(s.learned[2].count == pairs("lo"));
  CHECK(s.learned[3].bytes == "low");
  CHECK(s.learned[3].count == pairs("low"));
  CHECK(s.learned[6].bytes == " low");
  CHECK(s.learned[6].count == pairs(" low"));
  for (std::size_t i = 1; i < s.learned.size(); ++i) CHECK(s.learned[i].count <= s.learned[i - 1].count);
}

TEST_CASE("the example: lowest, which training never saw, step by step") {
  const TokenizerSteps s = explain_tokenizer_example();
  CHECK(s.piece == 1);
  CHECK(s.pieces[1].bytes == " lowest");
  REQUIRE(s.states.size() == 6);
  CHECK(s.states[0].tokens == Words{" ", "l", "o", "w", "e", "s", "t"});
  CHECK(s.states[1].tokens == Words{" ", "l", "o", "w", "es", "t"});
  CHECK(s.states[2].tokens == Words{" ", "l", "o", "w", "est"});
  CHECK(s.states[3].tokens == Words{" ", "lo", "w", "est"});
  CHECK(s.states[4].tokens == Words{" ", "low", "est"});
  CHECK(s.states[5].tokens == Words{" low", "est"});
  CHECK(s.states[3].at == 1);
  CHECK(s.ids.size() == 30);
  CHECK(s.text.size() == 38);
  CHECK(s.decoded == s.text);
  CHECK(s.card.tokens.size() == 19);
  CHECK(s.invalid.tokens == Words{"\xff"});
  const std::string text = story_text(tokenizer_story(s));
  for (const char* line : {"é          U+00E9      C3 A9        1", "rank 6     ␣ + low   [␣low] est", "4    ␣2         ␣?\\p{N}+", "7    ␣          \\s+(?!\\S)",
                           "1    ␣low|est               262 257", "0  e     s      es           9", "tokens per byte               0.789"})
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
  CHECK(explain_tokenizer_example(3).piece == 3);
}

TEST_CASE("every tokenizer, any text: states and widths") {
  const std::string hard = "It's 12 o'clock —\n\n  日本 \xff\xc3 \x01 " + std::string(90, 'x') + " " + std::string(200, ' ');
  BpeOptions o;
  o.vocab_size = 300, o.special = {};
  const Tokenizer bpe = train_bpe(std::string(tokenizer_example_training()) + std::string(64, 'x'), o);
  check(bpe, hard);
  check(bpe, "a");
  check(byte_tokenizer(), hard);
  check(byte_tokenizer(), std::string(5000, 'y'));
  check(character_tokenizer("It's 日本"), "日本 It's");
  const TokenizerSteps without_digits = explain_tokenizer(character_tokenizer("abc"), "cab");
  CHECK(without_digits.card.ids.empty());
  CHECK(without_digits.card.error == "character 4 (U+0034) at byte 0 is not in the vocabulary of 3 characters");
  check_widths(tokenizer_story(without_digits));
}

TEST_CASE("the JSON holds every number") {
  const TokenizerSteps s = explain_tokenizer_example();
  const std::string text = story_json(tokenizer_story(s));
  CHECK(text.find('\n') == std::string::npos);
  const auto j = nlohmann::json::parse(text);
  CHECK(j["ids"] == s.ids);
  CHECK(j["card_ids"] == s.card.ids);
  CHECK(j["pre_tokens"][1] == " lowest");
  CHECK(j["symbols"].size() == 7);
  CHECK(j["text_tokens"] == 30);
  std::size_t row = 0;
  for (std::size_t i = 0; i < s.pieces.size(); ++i) {
    for (const MergeStep& m : s.pieces[i].steps) {
      const auto expected = {static_cast<double>(i), static_cast<double>(m.begin), static_cast<double>(m.left), static_cast<double>(m.right),
                             static_cast<double>(m.token), static_cast<double>(m.rank), m.score};
      CHECK(j["steps"][row++].get<std::vector<double>>() == std::vector<double>(expected));
    }
  }
  CHECK(j["steps"].size() == row);
  CHECK(row >= 5);
  for (std::size_t i = 0; i < 12; ++i) CHECK(j["learned_numbers"][i][0] == s.learned[i].count);
}

TEST_CASE("what does not exist is answered with what does") {
  CHECK_THROWS_WITH_AS(explain_tokenizer_example(9), "token: expected a pre-token's number, 0 … 8, found 9", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_tokenizer(byte_tokenizer(), "x", {.piece = 1}),
                       "token: expected 0, found 1: this tokenizer does not cut the text into pre-tokens", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_tokenizer(byte_tokenizer(), ""), "prompt: expected some text, found none", std::invalid_argument);
  CHECK_THROWS_AS(explain_tokenizer(character_tokenizer("ab"), "c"), std::invalid_argument);
}

TEST_CASE("GPT-2 and stories260K") {
  const std::filesystem::path data = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data";
  if (!std::filesystem::exists(data / "gpt2") || !std::filesystem::exists(data / "stories260K")) {
    MESSAGE("skipped: there is no " << data.string());
    return;
  }
  const auto gpt2 = load_gpt2_tokenizer(data / "gpt2" / "encoder.json", data / "gpt2" / "vocab.bpe");
  REQUIRE(gpt2.has_value());
  check(*gpt2, "The unbelievableness of café's — 4111");
  CHECK(explain_tokenizer(*gpt2, "x").learned[0].bytes == " t");  // published as its first merge
  const auto stories = load_tokenizer(data / "stories260K");
  REQUIRE(stories.has_value());
  check(*stories, "Once upon a time, Lily's café had 日 12 cats and more.");
  const TokenizerSteps s = explain_tokenizer(*stories, "Once");
  CHECK(s.pieces[0].bytes == " Once");
  CHECK(s.pieces[0].steps.back().score == stories->scores()[static_cast<std::size_t>(s.ids.back())]);
  for (std::size_t i = 1; i < s.learned.size(); ++i) CHECK(s.learned[i].score <= s.learned[i - 1].score);
}
