// BPE training (Sennrich et al. 2016) over the distinct pre-tokens of a text, each weighted by how often it occurs.
//
// The distinct pre-tokens lie one after another, a cell a byte. A symbol covers the cells of its bytes, so its length leads to the next
// one; its last cell names it too, so the cell before a symbol leads to the previous one. The first cell also knows the pair that starts
// there. A pair holds a token that did not exist before the merge that made it: all its places are found in that merge, none later, and its
// count only falls afterwards. So places are written once, counts change without any look-up by key, and a merge touches only the places of
// its pair and their neighbours.
#include <algorithm>
#include <unordered_set>

#include "glassformer/tokenizer/encoder.hpp"
#include "tokenizer/impl.hpp"
#include "tokenizer/piece_counts.hpp"
#include "tokenizer/unicode.hpp"

namespace glassformer {
namespace tokenizer {
namespace {

using Place = std::uint32_t;
using PairIndex = std::uint32_t;
constexpr std::uint32_t none = ~std::uint32_t{0};

class Trainer {
 public:
  Trainer(std::string_view text, const BpeOptions& options, int threads, Tokenizer::Impl& out)
      : options_(options), out_(out), lengths_(256, 1) {
    Spellings special;
    for (const std::string& s : options.special) taken_.insert(s), special.add(s, 0);
    place_words(count_pieces(text, special, threads));
    pair_bytes();
  }

  // How many places the merges looked at.
  Index run() {
    Index looked_at = 0;
    const std::size_t wanted = static_cast<std::size_t>(options_.vocab_size) - options_.special.size();
    while (out_.tokens.size() < wanted && !heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Entry top = heap_.back();
      heap_.pop_back();
      const Pair& pair = pairs_[top.pair];
      if (pair.count != top.count) {
        push(top.pair);  // it has fallen since: further down in the heap
      } else if (may_merge(top.key)) {
        record(top.key, pair.count);
        looked_at += pair.places;
        merge(top.pair);
      }
    }
    return looked_at;
  }

 private:
  struct Cell {
    Token symbol;          // of the first and the last cell of a symbol; −1 between pre-tokens
    PairIndex pair;        // of the first cell of a symbol that has a right neighbour
    std::uint32_t weight;  // how often the pre-token occurs
  };
  struct Pair {
    PairKey key;
    Index count;
    std::size_t first;  // where its places begin
    std::uint32_t places;
  };
  struct Entry {
    Index count;
    PairKey key;
    PairIndex pair;
    // The greatest is merged first: the higher count, then the smaller (left, right).
    bool operator<(const Entry& other) const { return count != other.count ? count < other.count : key > other.key; }
  };
  struct Found {
    PairIndex pair;
    Place at;
  };

  void place_words(const PieceCounts& counts) {
    std::array<Token, 256> byte_ids;
    for (std::size_t i = 0; i < 256; ++i) byte_ids[gpt2_byte_order()[i]] = static_cast<Token>(i);
    constexpr Cell border = {-1, none, 0};
    cells_.push_back(border);
    counts.for_each([&](std::string_view word, Index count) {
      while (count > 0) {  // a count that no cell can hold: the word several times
        const Index weight = std::min<Index>(count, none);
        for (const char b : word) cells_.push_back({byte_ids[static_cast<unsigned char>(b)], none, static_cast<std::uint32_t>(weight)});
        cells_.push_back(border);
        count -= weight;
      }
    });
    require(cells_.size() < none, "BPE training: {} bytes of distinct words, at most {} are possible", cells_.size(), none - 1);
  }

  // The pairs of bytes.
  void pair_bytes() {
    std::vector<PairIndex> index(256 * 256, none);
    for (Place at = 0; at + 1 < cells_.size(); ++at) {
      const Token left = cells_[at].symbol, right = cells_[at + 1].symbol;
      if (left >= 0 && right >= 0) add(index[static_cast<std::size_t>(256 * left + right)], left, right, at);
    }
    keep_found(0);
  }

  // The pair (left, right), whose place in pairs_ stands in `index` as soon as it is known, stands at this place too.
  void add(PairIndex& index, Token left, Token right, Place at) {
    if (index == none) index = static_cast<PairIndex>(pairs_.size()), pairs_.push_back({pair_key(left, right), 0, 0, 0});
    Pair& pair = pairs_[index];
    pair.count += cells_[at].weight, ++pair.places;
    cells_[at].pair = index;
    found_.push_back({index, at});
  }

  // Gives each pair from `first` on its places, in the order in which they were found: rising, as merging from the left needs ("aaa").
  void keep_found(std::size_t first) {
    for (std::size_t p = first; p < pairs_.size(); ++p) {
      Pair& pair = pairs_[p];
      pair.first = places_.size();
      if (pair.count >= 2) places_.resize(places_.size() + pair.places), push(static_cast<PairIndex>(p));
      pair.places = 0;
    }
    for (const Found& f : found_) {
      Pair& pair = pairs_[f.pair];
      if (pair.count >= 2) places_[pair.first + pair.places++] = f.at;
    }
    found_.clear();
  }

  // A pair that stands nowhere twice never merges.
  void push(PairIndex p) {
    if (pairs_[p].count < 2) return;
    heap_.push_back({pairs_[p].count, pairs_[p].key, p});
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::string bytes_of(PairKey key) const {
    return out_.tokens[static_cast<std::size_t>(left_of(key))] + out_.tokens[static_cast<std::size_t>(right_of(key))];
  }

  // Never two tokens with the same bytes, nor an ordinary one that a tokenizer.json would spell as a special one.
  bool may_merge(PairKey key) {
    const std::string bytes = bytes_of(key);
    return !taken_.contains(bytes) && !is_special(bytes_to_visible(bytes));
  }
  bool is_special(const std::string& s) const {
    return std::find(options_.special.begin(), options_.special.end(), s) != options_.special.end();
  }

  void record(PairKey key, Index count) {
    const Token left = left_of(key), right = right_of(key), token = static_cast<Token>(out_.tokens.size());
    out_.tokens.push_back(bytes_of(key));
    lengths_.push_back(static_cast<std::uint32_t>(out_.tokens.back().size()));
    taken_.insert(out_.tokens.back());
    out_.merges.emplace_back(left, right);
    out_.merged.push_back(token);
    if (!options_.on_merge) return;
    const auto bytes = [&](Token id) { return out_.tokens[static_cast<std::size_t>(id)]; };
    options_.on_merge({static_cast<Index>(out_.merges.size()) - 1, left, right, token, bytes(left), bytes(right), bytes(token), count});
  }

  std::uint32_t length_of(Token symbol) const { return lengths_[static_cast<std::size_t>(symbol)]; }

  // The pair becomes the newest token.
  void merge(PairIndex p) {
    const Pair merged = pairs_[p];
    const std::uint32_t left = length_of(left_of(merged.key)), both = lengths_.back();
    const Token token = static_cast<Token>(lengths_.size()) - 1;
    const std::size_t first_new = pairs_.size();
    with_left_.resize(lengths_.size(), none), with_right_.resize(lengths_.size(), none);
    for (std::uint32_t i = 0; i < merged.places; ++i) {
      const Place at = places_[merged.first + i];
      if (cells_[at].pair != p) continue;  // one of its symbols has merged with another neighbour
      const Place second = at + left, after = at + both;
      const std::uint32_t weight = cells_[at].weight;
      const Token previous = cells_[at - 1].symbol, next = cells_[after].symbol;
      if (next >= 0) pairs_[cells_[second].pair].count -= weight;
      cells_[at].symbol = cells_[after - 1].symbol = token;
      cells_[at].pair = cells_[second].pair = none;
      if (next >= 0) add(with_right_[static_cast<std::size_t>(next)], token, next, at);
      if (previous < 0) continue;
      const Place before = at - length_of(previous);
      pairs_[cells_[before].pair].count -= weight;
      add(previous == token ? with_right_[static_cast<std::size_t>(token)] : with_left_[static_cast<std::size_t>(previous)], previous,
          token, before);
    }
    for (std::size_t q = first_new; q < pairs_.size(); ++q)
      with_left_[static_cast<std::size_t>(left_of(pairs_[q].key))] = with_right_[static_cast<std::size_t>(right_of(pairs_[q].key))] = none;
    keep_found(first_new);
  }

  const BpeOptions& options_;
  Tokenizer::Impl& out_;
  std::unordered_set<std::string> taken_;  // bytes of the tokens so far, and the special spellings
  std::vector<std::uint32_t> lengths_;     // in bytes, of each token so far
  std::vector<Cell> cells_;                // [bytes of the distinct pre-tokens, and one between any two]
  std::vector<Pair> pairs_;
  std::vector<Place> places_;                      // of the pairs, those of each together
  std::vector<PairIndex> with_left_, with_right_;  // [tokens]: (it, newest) and (newest, it) during a merge
  std::vector<Found> found_;                       // during a merge
  std::vector<Entry> heap_;
};

}  // namespace
}  // namespace tokenizer

Tokenizer train_bpe(std::string_view text, const BpeOptions& options) { return train_bpe_parallel(text, options, 1); }

Tokenizer train_bpe_parallel(std::string_view text, const BpeOptions& options, int threads, Index* places_looked_at) {
  const auto specials = static_cast<Index>(options.special.size());
  require(options.vocab_size >= 256 + specials, "BPE training: a vocabulary of at least 256 bytes and {} special tokens, not {}", specials,
          options.vocab_size);
  require(options.vocab_size < Index{1} << 30, "BPE training: a vocabulary of {} is too large", options.vocab_size);
  auto t = std::make_shared<Tokenizer::Impl>();
  t->kind = TokenizerKind::bpe;
  std::unordered_set<std::string> spellings;
  for (const std::uint8_t b : tokenizer::gpt2_byte_order()) {
    t->tokens.emplace_back(1, static_cast<char>(b));
    spellings.insert(tokenizer::bytes_to_visible(t->tokens.back()));
  }
  for (const std::string& s : options.special) {
    require(!tokenizer::invalid_utf8_offset(s), "BPE training: a special token is not valid UTF-8");
    require(s.size() > 1, "BPE training: the special token \"{}\" is too short: one byte is an ordinary token", s);
    require(spellings.insert(s).second, "BPE training: the special token \"{}\" is there already", s);
  }
  const Index looked_at = tokenizer::Trainer(text, options, threads, *t).run();
  if (places_looked_at != nullptr) *places_looked_at += looked_at;
  t->special.assign(t->tokens.size(), false);
  for (const std::string& s : options.special) t->tokens.push_back(s), t->special.push_back(true);
  return Tokenizer::Impl::build(std::move(t));
}

}  // namespace glassformer
