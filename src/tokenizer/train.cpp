// BPE training (Sennrich et al. 2016) over the distinct pre-tokens of a text, each weighted by how often it occurs.
//
// The distinct pre-tokens lie one after another as linked symbols. Every pair knows its count and the places where it stands, so
// a merge touches only those places and their neighbours. A heap gives the most frequent pair; a count that has changed
// since an entry was pushed is noticed when the entry comes up.
#include <algorithm>
#include <queue>
#include <unordered_set>

#include "tokenizer/impl.hpp"
#include "tokenizer/piece_map.hpp"
#include "tokenizer/pre_tokenizer.hpp"
#include "tokenizer/unicode.hpp"

namespace glassformer {
namespace tokenizer {
namespace {

using Place = std::uint32_t;
constexpr Place nowhere = ~Place{0};

// Calls f on each part of the text between spellings of special tokens, which are not learned from.
template <class F>
void for_each_part(std::string_view text, const std::vector<std::string>& special, F&& f) {
  std::array<bool, 256> starts{};
  for (const std::string& s : special) starts[static_cast<unsigned char>(s[0])] = true;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 0;
    if (starts[static_cast<unsigned char>(text[i])])
      for (const std::string& s : special)
        if (s.size() > length && text.substr(i).starts_with(s)) length = s.size();
    if (length > 0) f(text.substr(begin, i - begin)), begin = i + length;
    i += std::max<std::size_t>(length, 1);
  }
  f(text.substr(begin));
}

class Trainer {
 public:
  Trainer(std::string_view text, const BpeOptions& options, Tokenizer::Impl& out) : options_(options), out_(out) {
    for (const std::string& s : options.special) taken_.insert(s);
    place_symbols(text);
  }

  void run() {
    const std::size_t wanted = static_cast<std::size_t>(options_.vocab_size) - options_.special.size();
    while (out_.tokens.size() < wanted && !queue_.empty()) {
      const Entry top = queue_.top();
      queue_.pop();
      const Pair& pair = pairs_[top.pair];
      if (pair.count != top.count) {
        push(top.pair);
      } else if (may_merge(top.key)) {
        record(top.key, pair.count);
        merge(top.pair, top.key, static_cast<Token>(out_.tokens.size()) - 1);
      }
    }
  }

 private:
  struct Pair {
    PairKey key;
    Index count = 0;
    std::vector<Place> places;  // where it has stood since its beginning; some have merged otherwise
    bool risen = false;         // since the last push
  };
  struct Entry {
    Index count;
    PairKey key;
    std::uint32_t pair;
    // The greatest is merged first: the higher count, then the smaller (left, right).
    bool operator<(const Entry& other) const { return count != other.count ? count < other.count : key > other.key; }
  };

  void place_symbols(std::string_view text) {
    PieceMap<Index> counts;
    for_each_part(text, options_.special, [&](std::string_view part) {
      for_each_pre_token(part, [&](std::string_view piece) {
        if (piece.size() > 1) ++counts.insert(piece).first;
      });
    });
    std::array<Token, 256> byte_ids;
    for (std::size_t i = 0; i < 256; ++i) byte_ids[gpt2_byte_order()[i]] = static_cast<Token>(i);
    std::size_t total = 0;
    for (const auto& e : counts.entries()) total += e.piece.size();
    require(total < nowhere, "BPE training: {} bytes of distinct words, at most {} are possible", total, nowhere - 1);
    symbols_.reserve(total), weights_.reserve(total), next_.reserve(total), previous_.reserve(total);
    for (const auto& e : counts.entries())
      for (std::size_t i = 0; i < e.piece.size(); ++i) {
        const auto at = static_cast<Place>(symbols_.size());
        symbols_.push_back(byte_ids[static_cast<unsigned char>(e.piece[i])]);
        weights_.push_back(e.value);
        previous_.push_back(i > 0 ? at - 1 : nowhere);
        next_.push_back(i + 1 < e.piece.size() ? at + 1 : nowhere);
      }
    for (Place at = 0; at < symbols_.size(); ++at)
      if (next_[at] != nowhere) add(at);
    push_risen();
  }

  // The pair that starts at the place gains, or loses, the place's weight.
  void add(Place at) {
    const PairKey key = pair_key(symbols_[at], symbols_[next_[at]]);
    const std::uint32_t p = index_.insert(key, static_cast<std::uint32_t>(pairs_.size()));
    if (p == pairs_.size()) pairs_.push_back({key, 0, {}, false});
    pairs_[p].count += weights_[at];
    pairs_[p].places.push_back(at);
    if (!pairs_[p].risen) pairs_[p].risen = true, risen_.push_back(p);
  }
  void remove(Place at) { pairs_[index_.find(pair_key(symbols_[at], symbols_[next_[at]]))].count -= weights_[at]; }

  void push(std::uint32_t p) {
    if (pairs_[p].count >= 2) queue_.push({pairs_[p].count, pairs_[p].key, p});
  }
  void push_risen() {
    for (const std::uint32_t p : risen_) pairs_[p].risen = false, push(p);
    risen_.clear();
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
    taken_.insert(out_.tokens.back());
    out_.merges.emplace_back(left, right);
    out_.merged.push_back(token);
    if (!options_.on_merge) return;
    const auto bytes = [&](Token id) { return out_.tokens[static_cast<std::size_t>(id)]; };
    options_.on_merge({static_cast<Index>(out_.merges.size()) - 1, left, right, token, bytes(left), bytes(right), bytes(token), count});
  }

  void merge(std::uint32_t p, PairKey key, Token token) {
    std::vector<Place> places = std::move(pairs_[p].places);
    std::sort(places.begin(), places.end());  // overlapping pairs ("aaa") merge from the left, as encoding does
    for (const Place at : places) {
      const Place second = next_[at];
      if (symbols_[at] != left_of(key) || second == nowhere || symbols_[second] != right_of(key)) continue;
      const Place before = previous_[at], after = next_[second];
      remove(at);
      if (before != nowhere) remove(before);
      if (after != nowhere) remove(second);
      symbols_[at] = token;
      symbols_[second] = -1;
      next_[at] = after;
      if (after != nowhere) previous_[after] = at, add(at);
      if (before != nowhere) add(before);
    }
    push_risen();
  }

  const BpeOptions& options_;
  Tokenizer::Impl& out_;
  std::unordered_set<std::string> taken_;  // bytes of the tokens so far, and the special spellings
  std::vector<Token> symbols_;             // [bytes of the distinct pre-tokens]; −1 where merged into the left neighbour
  std::vector<Index> weights_;             // how often the pre-token occurs
  std::vector<Place> next_, previous_;
  PairMap index_;  // pair → place in pairs_
  std::vector<Pair> pairs_;
  std::vector<std::uint32_t> risen_;
  std::priority_queue<Entry> queue_;
};

}  // namespace
}  // namespace tokenizer

Tokenizer train_bpe(std::string_view text, const BpeOptions& options) {
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
  tokenizer::Trainer(text, options, *t).run();
  t->special.assign(t->tokens.size(), false);
  for (const std::string& s : options.special) t->tokens.push_back(s), t->special.push_back(true);
  return Tokenizer::Impl::build(std::move(t));
}

}  // namespace glassformer
