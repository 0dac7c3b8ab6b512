#include "glassformer/data/corpus.hpp"

#include <algorithm>

#include "data/grammars.hpp"
#include "glassformer/data/grammar.hpp"

namespace glassformer {
namespace {

// Ends of sentences in text[from, to).
int sentence_ends(std::string_view text, Index from, Index to) {
  const auto part = text.substr(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
  return static_cast<int>(std::count_if(part.begin(), part.end(), [](char c) { return c == '.' || c == '!' || c == '?'; }));
}

struct Candidate {
  Mention mention;
  int sentences_back = 0;
};

// Words of the last two sentences that repeat one from at least three sentence ends before. The first word of a sentence is left out:
// there the grammar still chooses how to begin; after it, these sentences have nothing left to choose but verbs and prepositions.
std::vector<Candidate> long_references(const Grammar& grammar, std::string_view story, const std::vector<Mention>& mentions) {
  std::vector<Candidate> found;
  std::vector<Index> last_end(grammar.variables.size(), -1);
  for (const Mention& m : mentions) {
    Index& last = last_end[static_cast<std::size_t>(m.variable)];
    const bool word = m.recalled && m.derived == Derived::same && m.rule >= 0 && grammar.rules[static_cast<std::size_t>(m.rule)].is_list;
    const bool late = sentence_ends(story, m.end, static_cast<Index>(story.size())) <= 2;
    const bool first = m.begin < 2 || sentence_ends(story, m.begin - 2, m.begin) > 0;
    if (word && late && !first && last >= 0) {
      const int back = sentence_ends(story, last, m.begin);
      if (back >= 3) found.push_back({m, back});
    }
    last = m.end;
  }
  return found;
}

// Nine words of the rule other than `right`: a run of a list that starts anywhere, so that each word is equally often wrong.
std::vector<std::string> wrong_words(const Rule& rule, const std::string& right, const RandomStream& stream) {
  std::vector<std::string> wrong;
  const std::size_t n = rule.alternatives.size(), start = random_below(stream, 1, n);
  for (std::size_t i = 0; i < n && wrong.size() < 9; ++i) {
    std::string word = " " + rule.alternatives[(start + i) % n].parts.front().text;
    if (word != right) wrong.push_back(std::move(word));
  }
  return wrong;
}

}  // namespace

const Grammar& corpus_grammar(CorpusKind kind) {
  static const Grammar stories = parse_grammar(kStoriesGrammar), support = parse_grammar(kSupportGrammar);
  return kind == CorpusKind::stories ? stories : support;
}

std::string_view corpus_name(CorpusKind kind) { return kind == CorpusKind::stories ? "stories" : "support"; }

Expected<CorpusKind> corpus_kind(std::string_view name) {
  if (name == "stories") return CorpusKind::stories;
  if (name == "support") return CorpusKind::support;
  return unexpected("corpus: expected stories or support, found '{}'", name);
}

Corpus make_corpus(CorpusKind kind, Index bytes, std::uint64_t seed) {
  require(bytes > 0, "make_corpus: expected at least 1 byte, found {}", bytes);
  const Grammar& grammar = corpus_grammar(kind);
  const RandomStream stream = RandomStream{seed, 0}.at("corpus").at(corpus_name(kind));
  Corpus corpus;
  while (static_cast<Index>(corpus.text.size()) < bytes) {
    const auto document = corpus.documents.size();
    corpus.documents.push_back(static_cast<Index>(corpus.text.size()));
    corpus.entropy_bits += derive(grammar, stream.at(document), corpus.text);
  }
  return corpus;
}

double source_bits_per_byte(CorpusKind kind) {
  const DocumentExpectation document = expected_document(corpus_grammar(kind));
  return document.bits / document.bytes;
}

std::vector<AgreementItem> agreement_items(Index n, std::uint64_t seed) {
  require(n >= 0, "agreement_items: expected a number of items, found {}", n);
  const Grammar& grammar = corpus_grammar(CorpusKind::stories);
  const RandomStream stream = RandomStream{seed, 0}.at("agreement");
  std::vector<AgreementItem> items;
  for (std::uint64_t story = 0; static_cast<Index>(items.size()) < n; ++story) {
    std::string text;
    std::vector<Mention> mentions;
    derive(grammar, stream.at(story), text, &mentions);
    const auto candidates = long_references(grammar, text, mentions);
    if (candidates.empty()) continue;
    const RandomStream choice = stream.at(story).at("item");
    const auto& [mention, back] = candidates[random_below(choice, 0, candidates.size())];
    const auto begin = static_cast<std::size_t>(mention.begin) - 1, end = static_cast<std::size_t>(mention.end);
    AgreementItem item{text.substr(0, begin), text.substr(begin, end - begin), {}, back};
    item.wrong = wrong_words(grammar.rules[static_cast<std::size_t>(mention.rule)], item.right, choice);
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace glassformer
