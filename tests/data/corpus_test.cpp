#include "glassformer/data/corpus.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "data/derivations.hpp"
#include "data/ngram.hpp"
#include "glassformer/data/grammar.hpp"

using namespace glassformer;

namespace {

constexpr CorpusKind kinds[] = {CorpusKind::stories, CorpusKind::support};

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

struct Excess {
  double bytes, words, marks;
};

// Bits per byte above the source on held-out text, of 5-grams over bytes, words, and words and marks.
Excess five_gram_excess(CorpusKind kind, Index train_bytes) {
  const Corpus train = make_corpus(kind, train_bytes, 1), held_out = make_corpus(kind, 100000, 2);
  auto above = [&](double bits) { return (bits - held_out.entropy_bits) / static_cast<double>(held_out.text.size()); };
  auto over_words = [&](bool marks) {
    WordSymbols words(marks);
    const auto a = words(train.text), b = words(held_out.text);
    return above(KneserNey(a, 5, words.vocabulary()).bits(b));
  };
  return {above(KneserNey(byte_symbols(train.text), 5, 256).bits(byte_symbols(held_out.text))), over_words(false), over_words(true)};
}

}  // namespace

TEST_CASE("a corpus is a function of kind, size and seed") {
  CHECK(fnv1a(make_corpus(CorpusKind::stories, 100000, 1).text) == 16676219785699894117ULL);
  CHECK(fnv1a(make_corpus(CorpusKind::support, 100000, 1).text) == 5480831156552197114ULL);
  for (const CorpusKind kind : kinds) {
    const Corpus shorter = make_corpus(kind, 5000, 3), longer = make_corpus(kind, 20000, 3), other = make_corpus(kind, 5000, 4);
    CHECK(longer.text.substr(0, shorter.text.size()) == shorter.text);
    CHECK(other.text.substr(0, 200) != shorter.text.substr(0, 200));
    CHECK(shorter.text.size() >= 5000);
    CHECK(static_cast<std::size_t>(shorter.documents.back()) < 5000);
    CHECK(shorter.text.back() == '\n');
    for (const Index start : shorter.documents)
      if (start > 0) CHECK(shorter.text[static_cast<std::size_t>(start) - 1] == '\n');
    CHECK_THROWS_AS(make_corpus(kind, 0, 1), std::invalid_argument);
  }
}

TEST_CASE("names of corpora") {
  for (const CorpusKind kind : kinds) CHECK(corpus_kind(corpus_name(kind)).value() == kind);
  CHECK(corpus_kind("novels").error() == "corpus: expected stories or support, found 'novels'");
}

TEST_CASE("entropy lies between 0.8 and 1.6 bits per byte and agrees with the exact expectation") {
  for (const CorpusKind kind : kinds) {
    const DocumentExpectation expected = expected_document(corpus_grammar(kind));
    const double rate = source_bits_per_byte(kind);
    CHECK(rate == doctest::Approx(expected.bits / expected.bytes));
    CHECK(rate > 0.8);
    CHECK(rate < 1.6);
    double sum = 0, squares = 0, bits = 0, bytes = 0, documents = 0;
    constexpr int seeds = 8;
    for (std::uint64_t seed = 10; seed < 10 + seeds; ++seed) {
      const Corpus corpus = make_corpus(kind, 500000, seed);
      const double h = corpus.bits_per_byte();
      CHECK(h > 0.8);
      CHECK(h < 1.6);
      sum += h, squares += h * h;
      bits += corpus.entropy_bits, bytes += static_cast<double>(corpus.text.size()),
          documents += static_cast<double>(corpus.documents.size());
    }
    const double mean = sum / seeds, spread = std::sqrt((squares - sum * mean) / (seeds - 1));
    MESSAGE(corpus_name(kind), ": source ", rate, " bits per byte; ", seeds, " texts of 500 KB: mean ", mean, ", deviation ", spread);
    CHECK(std::abs(mean - rate) < 4 * spread / std::sqrt(seeds) + 1e-5);
    CHECK(spread < 0.003);
    CHECK(bytes / documents == doctest::Approx(expected.bytes).epsilon(0.002));
    CHECK(bits / documents == doctest::Approx(expected.bits).epsilon(0.002));
  }
}

TEST_CASE("what a 5-gram cannot know costs it at least a quarter of a bit per byte") {
  for (const CorpusKind kind : kinds) {
    const Excess excess = five_gram_excess(kind, 1000000);
    MESSAGE(corpus_name(kind), ": 5-gram above the source, bits per byte: bytes ", excess.bytes, ", words ", excess.words,
            ", words and marks ", excess.marks);
    CHECK(excess.bytes > 0.25);
    CHECK(excess.words > 0.25);
    CHECK(excess.marks > 0.25);
  }
  // The yardstick itself: on text whose source it can model, it comes near the floor.
  const Grammar uniform = parse_grammar("s: <w> sat\\n\nw ~ red blue green white");
  std::string train, test;
  double bits = 0;
  for (std::uint64_t i = 0; i < 20000; ++i) derive(uniform, RandomStream{1, i}, train);
  for (std::uint64_t i = 0; i < 2000; ++i) bits += derive(uniform, RandomStream{2, i}, test);
  const double above = (KneserNey(byte_symbols(train), 5, 256).bits(byte_symbols(test)) - bits) / static_cast<double>(test.size());
  CHECK(above > -0.01);
  CHECK(above < 0.05);
}

TEST_CASE("an agreement item has one answer, and the grammar says so") {
  const Grammar& grammar = corpus_grammar(CorpusKind::stories);
  std::set<std::string> words;
  for (const Rule& rule : grammar.rules)
    if (rule.is_list)
      for (const Alternative& a : rule.alternatives) words.insert(" " + a.parts[0].text);
  const auto items = agreement_items(200, 5);
  REQUIRE(items.size() == 200);
  std::set<std::string> rights;
  for (const AgreementItem& item : items) {
    INFO(item.prefix, "|", item.right);
    rights.insert(item.right);
    CHECK(Derivations(grammar, item.prefix + " ").continuations() == std::set<std::string>{item.right.substr(1)});
    CHECK(item.wrong.size() == 9);
    for (const std::string& wrong : item.wrong) {
      CHECK(words.count(wrong) == 1);
      CHECK(item.right.rfind(wrong, 0) != 0);  // nor does it begin the right one, as Mo begins Moth
    }
    // Its last mention lies at least three sentences back.
    auto last = item.prefix.rfind(item.right.substr(1));
    auto letter = [&](std::size_t at) { return at < item.prefix.size() && std::isalpha(static_cast<unsigned char>(item.prefix[at])) != 0; };
    while (last != std::string::npos && last > 0 && (letter(last - 1) || letter(last + item.right.size() - 1)))
      last = item.prefix.rfind(item.right.substr(1), last - 1);
    REQUIRE(last != std::string::npos);
    const auto ends = std::count_if(item.prefix.begin() + static_cast<std::ptrdiff_t>(last), item.prefix.end(),
                                    [](char c) { return c == '.' || c == '!' || c == '?'; });
    CHECK(ends == item.sentences_back);
    CHECK(item.sentences_back >= 3);
  }
  CHECK(rights.size() > 100);
  CHECK(agreement_items(200, 5)[199].prefix == items[199].prefix);
  CHECK(agreement_items(200, 6)[0].prefix != items[0].prefix);
  CHECK_THROWS_AS(agreement_items(-1, 1), std::invalid_argument);
}

TEST_CASE("what a story repeats comes from lists that share no word with any other") {
  const Grammar& grammar = corpus_grammar(CorpusKind::stories);
  for (const char* name : {"girl", "boy", "friend", "beast", "look", "toy", "taste", "food", "site", "place"}) {
    REQUIRE(grammar.rule(name) >= 0);
    const Rule& list = grammar.rules[static_cast<std::size_t>(grammar.rule(name))];
    REQUIRE(list.is_list);
    CHECK(list.alternatives.size() >= 20);
    CHECK(list.alternatives.size() <= 64);
    for (const Alternative& word : list.alternatives) {
      int found = 0;
      for (const Rule& rule : grammar.rules)
        for (const Alternative& a : rule.alternatives) found += rule.is_list && a.parts[0].text == word.parts[0].text;
      INFO(name, ": ", word.parts[0].text);
      CHECK(found == 1);
    }
  }
}

TEST_CASE("support: Luhn-valid test cards, reserved addresses and numbers, and agents who repeat what was said") {
  const Corpus corpus = make_corpus(CorpusKind::support, 300000, 1);
  const std::set<std::string> prefixes = {"4242 42", "4111 11", "4000 00", "5555 55", "5105 10", "6011 11"};
  int cards = 0, mails = 0, phones = 0;
  std::set<std::string> different;
  for (std::size_t at = corpus.text.find(", card "); at != std::string::npos; at = corpus.text.find(", card ", at + 1), ++cards) {
    const std::string card = corpus.text.substr(at + 7, 19);
    CHECK(Derivations::luhn_valid(card));
    CHECK(prefixes.count(card.substr(0, 7)) == 1);
    different.insert(card);
  }
  CHECK(cards == static_cast<int>(corpus.documents.size()));
  CHECK(different.size() == static_cast<std::size_t>(cards));
  CHECK_FALSE(Derivations::luhn_valid("4242 4242 4242 4243"));
  CHECK(Derivations::luhn_valid("4242 4242 4242 4242"));
  for (std::size_t at = corpus.text.find('@'); at != std::string::npos; at = corpus.text.find('@', at + 1), ++mails) {
    const std::string domain = corpus.text.substr(at + 1, 11);
    CHECK((domain == "example.com" || domain == "example.org" || domain == "example.net"));
  }
  for (std::size_t at = corpus.text.find("555-"); at != std::string::npos; at = corpus.text.find("555-", at + 1), ++phones)
    CHECK(corpus.text.substr(at, 6) == "555-01");
  CHECK(mails > 100);
  CHECK(phones > 100);
  for (std::size_t d = 0; d + 1 < corpus.documents.size(); ++d) {
    const auto begin = static_cast<std::size_t>(corpus.documents[d]);
    const std::string dialogue = corpus.text.substr(begin, static_cast<std::size_t>(corpus.documents[d + 1]) - begin);
    const std::string last = dialogue.substr(dialogue.find(", card ") + 7 + 15, 4);
    for (std::size_t off = dialogue.find(" is off."); off != std::string::npos; off = std::string::npos)
      CHECK(dialogue.substr(off - 4, 4) == last);
  }
}
