#include "glassformer/data/grammar.hpp"

#include <doctest/doctest.h>

#include "data/derivations.hpp"
#include "data/grammars.hpp"
#include "glassformer/data/corpus.hpp"

using namespace glassformer;

namespace {

// Ways in which one whole document makes exactly this text.
std::vector<Way> whole(const Grammar& grammar, std::string_view text) {
  std::vector<Way> ways;
  for (Way& way : Derivations(grammar, text).documents_from(0))
    if (way.position == text.size()) ways.push_back(std::move(way));
  return ways;
}

std::string message_of(std::string_view source) {
  try {
    parse_grammar(source);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

// Documents among `n` texts of the grammar that have more than one derivation.
int ambiguous_texts(const Grammar& grammar, int n) {
  int ambiguous = 0;
  for (int i = 0; i < n; ++i) {
    std::string text;
    derive(grammar, RandomStream{7, 0}.at(static_cast<std::uint64_t>(i)), text);
    ambiguous += whole(grammar, text).size() > 1;
  }
  return ambiguous;
}

}  // namespace

TEST_CASE("the header's example: two texts of one bit each") {
  const Grammar grammar = parse_grammar("story: <name:n> saw <name:m!n>. [m] ran.\nname ~ Mia Tom");
  bool seen[2] = {false, false};
  for (std::uint64_t i = 0; i < 40; ++i) {
    std::string text;
    CHECK(derive(grammar, RandomStream{1, i}, text) == 1.0);
    CHECK((text == "Mia saw Tom. Tom ran." || text == "Tom saw Mia. Mia ran."));
    seen[text[0] == 'M'] = true;
  }
  CHECK(seen[0]);
  CHECK(seen[1]);
  CHECK(expected_document(grammar).bits == doctest::Approx(1.0));
  CHECK(expected_document(grammar).bytes == doctest::Approx(21.0));
}

TEST_CASE("every notation: weights, silent draws, capitals, lower case, Luhn digit, last four, given text") {
  const Grammar grammar = parse_grammar("s: {x=Yes}<-w:v>[v^], <w:u!v> [x_] <card:c>[c#] [c%]\\n\nw*3: wet\nw: dry\ncard: 7992739871");
  int wet = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    std::string text;
    const double bits = derive(grammar, RandomStream{2, i}, text);
    const bool first_wet = text[0] == 'W';
    wet += first_wet;
    CHECK(text ==
          (first_wet ? "Wet, dry yes 79927398713 9871\n" : "Dry, wet yes 79927398713 9871\n"));  // ISO's textbook number: check digit 3
    CHECK(bits == doctest::Approx(first_wet ? std::log2(4.0 / 3) : 2.0));
  }
  CHECK(wet > 700);
  CHECK(wet < 800);
}

TEST_CASE("a grammar's mistakes name their line") {
  CHECK(message_of("s: a\nno colon") == "grammar, line 2: expected 'name: template' or 'name ~ words', found 'no colon'");
  CHECK(message_of("s: <a") == "grammar, line 1: expected '>' after '<a'");
  CHECK(message_of("s*x: a") == "grammar, line 1: expected a weight, found 'x'");
  CHECK(message_of("s: {x}") == "grammar, line 1: expected {variable=text}, found {x}");
  CHECK(message_of("s: <-a>\na ~ b") == "grammar, line 1: a draw that writes nothing must be remembered: <-a:x>");
  CHECK(message_of("s: <a>") == "grammar: rule a is used but has no alternative");
  CHECK(message_of("s: [x]") == "grammar: variable x is used but never remembered");
  CHECK(message_of("s: <a>\na: b<s>") == "grammar: rule s can contain itself");
  CHECK(message_of("s: <a:x><b!x>\na ~ c\nb: <a>") == "grammar: rule s draws with an exception from a rule that is not a list of words");
  CHECK(message_of("") == "grammar: expected at least one rule, found none");
  const Grammar empty_list = parse_grammar("s: <a:x><a!x>\na ~ b");
  std::string text;
  CHECK_THROWS_AS(derive(empty_list, RandomStream{}, text), std::invalid_argument);
}

TEST_CASE("every text has one derivation, and its probability is the entropy that the generator counted") {
  for (const CorpusKind kind : {CorpusKind::stories, CorpusKind::support}) {
    const Grammar& grammar = corpus_grammar(kind);
    for (const std::uint64_t seed : {1, 2}) {
      const Corpus corpus = make_corpus(kind, 20000, seed);
      // Over the whole text, with boundaries unknown: every way to cut it into documents.
      std::map<std::size_t, std::pair<double, double>> reached = {{0, {1, 0}}};  // position → number of ways, their bits
      double ways = 0, bits = 0;
      std::vector<Index> cuts;
      while (!reached.empty()) {
        const auto [position, so_far] = *reached.begin();
        reached.erase(reached.begin());
        if (position == corpus.text.size()) {
          ways = so_far.first, bits = so_far.second;
          break;
        }
        cuts.push_back(static_cast<Index>(position));
        const std::string_view window = std::string_view(corpus.text).substr(position, 2000);
        for (const Way& way : Derivations(grammar, window).documents_from(0)) {
          auto& [count, sum] = reached[position + way.position];
          count += so_far.first, sum = so_far.second - way.probability_log2;
        }
      }
      CHECK(ways == 1);
      CHECK(bits == doctest::Approx(corpus.entropy_bits).epsilon(1e-12));
      CHECK(cuts == corpus.documents);
    }
  }
}

TEST_CASE("planted ambiguity is found") {
  const Grammar small = parse_grammar("s: <a><b>\na ~ x xy\nb ~ yz z");
  CHECK(whole(small, "xyz").size() == 2);
  CHECK(whole(small, "xyyz").size() == 1);
  CHECK(whole(small, "xx").empty());
  CHECK(ambiguous_texts(corpus_grammar(CorpusKind::stories), 100) == 0);
  // Repeating an alternative makes all of its stories ambiguous. Drawing the toy anew where it was repeated makes those ambiguous in
  // which the draw happens to give the same word.
  const Grammar repeated = parse_grammar(std::string(kStoriesGrammar) + "8: And [beast] got the [look] [toy].\n");
  CHECK(ambiguous_texts(repeated, 100) > 20);
  const Grammar drawn = parse_grammar(std::string(kStoriesGrammar) + "8: So [hero] <gave> [beast] [her] [look] <toy>.\n");
  std::string text;
  for (std::uint64_t i = 0; text.find(" So ") == std::string::npos; ++i) {
    text.clear();
    derive(corpus_grammar(CorpusKind::stories), RandomStream{7, 0}.at(i), text);
  }
  INFO(text);
  CHECK(whole(drawn, text).size() == 2);
}
