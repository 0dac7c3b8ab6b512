// Corpora with a known floor: text drawn from small probabilistic grammars, so that the true entropy of every text is known.
// A loss can then be read against it: no model, however large, stays below the floor on average.
// `stories` are nursery tales in which the last sentences repeat what the first ones introduced; `support` are card-member service
// dialogues. People, accounts and companies are invented; card numbers begin with the prefixes of payment processors' published test
// cards, e-mail addresses lie in example.com, .org and .net (RFC 2606), telephone numbers are 555-0100 to 555-0199.
// docs/corpora.md shows both and says why a 5-gram cannot come near the floor.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/matrix.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

struct Grammar;  // data/grammar.hpp

enum class CorpusKind { stories, support };

struct Corpus {
  std::string text;
  double entropy_bits = 0;       // −log₂ p(text): the sum of −log₂ p over the choices that made it
  std::vector<Index> documents;  // byte offset where each story or dialogue starts
  double bits_per_byte() const { return text.empty() ? 0 : entropy_bits / static_cast<double>(text.size()); }
};

// Whole documents until there are at least `bytes` bytes. A pure function of its arguments: document i depends on the seed and i alone,
// so a longer corpus begins with a shorter one. Throws std::invalid_argument unless bytes > 0.
Corpus make_corpus(CorpusKind kind, Index bytes, std::uint64_t seed);

// Expected entropy rate of the source: E[bits of a document] / E[bytes of a document], which the bits per byte of a long text tend to
// (renewal theorem). Both expectations are exact, by recursion over the grammar: see expected_document.
double source_bits_per_byte(CorpusKind kind);

// A question with one right answer: after `prefix` (the beginning of a story) the grammar forces `right`, a word that the story last
// mentioned at least three sentences earlier. `wrong` are nine other words of the same list, none of which the grammar allows here.
// `right` and `wrong` start with the space that separates them from the prefix, as byte-level BPE wants it.
struct AgreementItem {
  std::string prefix, right;
  std::vector<std::string> wrong;
  int sentences_back = 0;  // sentence ends between the last mention and the prefix's end
};
// n items of `stories`, each from a story of its own; stories of another stream than make_corpus's. Throws unless n >= 0.
std::vector<AgreementItem> agreement_items(Index n, std::uint64_t seed);

// "stories" or "support"; otherwise one sentence that names both.
Expected<CorpusKind> corpus_kind(std::string_view name);
std::string_view corpus_name(CorpusKind kind);

// The grammar behind a corpus, for who wants to parse its texts.
const Grammar& corpus_grammar(CorpusKind kind);

}  // namespace glassformer
