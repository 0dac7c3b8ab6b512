// An interpolated n-gram model for the tests: what can be had from the last few symbols alone.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace glassformer {

// Interpolated Kneser–Ney (Chen & Goodman 1999, eq. 15), one discount D = n₁/(n₁ + 2n₂) an order:
//   p(w | h) = max(c(h,w) − D, 0)/c(h) + D·types(h)/c(h) · p(w | h without its oldest symbol),    p() = 1/V.
// Below the highest order c counts the different symbols seen before, not occurrences. Contexts are hashed to 64 bits.
class KneserNey {
 public:
  KneserNey(const std::vector<int>& symbols, int order, int vocabulary) : order_(order), vocabulary_(vocabulary), tables_(static_cast<std::size_t>(order)) {
    for (int n = order; n >= 1; --n) {
      Table& table = tables_[static_cast<std::size_t>(n - 1)];
      std::unordered_set<std::uint64_t> seen;  // of n + 1 symbols, for continuation counts
      for (std::size_t i = static_cast<std::size_t>(n) - 1; i < symbols.size(); ++i) {
        if (n < order && i >= static_cast<std::size_t>(n) && !seen.insert(hash(symbols, i, n + 1)).second) continue;
        Context& context = table.contexts[hash(symbols, i - 1, n - 1)];
        context.total += 1;
        context.types += ++table.counts[hash(symbols, i, n)] == 1;
      }
      double once = 0, twice = 0;
      for (const auto& [key, count] : table.counts) once += count == 1, twice += count == 2;
      table.discount = once > 0 ? once / (once + 2 * twice) : 0.1;
    }
  }

  // Sum of −log₂ p(symbols[i] | those before it) over i.
  double bits(const std::vector<int>& symbols) const {
    double sum = 0;
    for (std::size_t i = 0; i < symbols.size(); ++i) sum -= std::log2(probability(symbols, i));
    return sum;
  }

  double probability(const std::vector<int>& symbols, std::size_t i) const {
    double p = 1.0 / vocabulary_;
    for (int n = 1; n <= order_ && i + 1 >= static_cast<std::size_t>(n); ++n) {
      const Table& table = tables_[static_cast<std::size_t>(n - 1)];
      const auto context = table.contexts.find(hash(symbols, i - 1, n - 1));
      if (context == table.contexts.end()) break;
      const auto count = table.counts.find(hash(symbols, i, n));
      const double c = count == table.counts.end() ? 0 : count->second - table.discount;
      p = c / context->second.total + table.discount * context->second.types / context->second.total * p;
    }
    return p;
  }

 private:
  struct Context {
    double total = 0, types = 0;
  };
  struct Table {
    std::unordered_map<std::uint64_t, double> counts;
    std::unordered_map<std::uint64_t, Context> contexts;
    double discount = 0;
  };

  // The n symbols that end at i (i may be −1 when n is 0).
  static std::uint64_t hash(const std::vector<int>& symbols, std::size_t i, int n) {
    std::uint64_t h = 0x9e3779b97f4a7c15ULL + static_cast<std::uint64_t>(n);
    for (int k = 0; k < n; ++k) {
      h = (h ^ static_cast<std::uint64_t>(symbols[i - static_cast<std::size_t>(k)] + 1)) * 0xbf58476d1ce4e5b9ULL;
      h ^= h >> 29;
    }
    return h;
  }

  int order_, vocabulary_;
  std::vector<Table> tables_;
};

inline std::vector<int> byte_symbols(std::string_view text) {
  std::vector<int> symbols;
  for (const char c : text) symbols.push_back(static_cast<unsigned char>(c));
  return symbols;
}

// Words between spaces; a newline is a word of its own. Without loss: a space stands between two words unless one is a newline.
// With `punctuation`, marks are words too (and spaces are taken as known), so that the five symbols reach less far but words repeat.
class WordSymbols {
 public:
  explicit WordSymbols(bool punctuation) : punctuation_(punctuation) {}
  std::vector<int> operator()(std::string_view text) {
    std::vector<int> symbols;
    std::string word;
    auto flush = [&] {
      if (!word.empty()) symbols.push_back(ids_.emplace(word, static_cast<int>(ids_.size())).first->second);
      word.clear();
    };
    for (const char c : text) {
      const bool alone = c == '\n' || (punctuation_ && std::string_view(".,!?:\"").find(c) != std::string_view::npos);
      if (c == ' ' || alone) flush();
      if (c != ' ') word += c;
      if (alone) flush();
    }
    flush();
    return symbols;
  }
  int vocabulary() const { return static_cast<int>(ids_.size()); }

 private:
  bool punctuation_;
  std::unordered_map<std::string, int> ids_;
};

}  // namespace glassformer
