// The merge loop that byte-level and score-merge BPE share: again and again the best adjacent pair becomes one token.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer::tokenizer {

struct Candidate {
  std::uint32_t priority = ~std::uint32_t{0};  // the smallest merges first; of equal ones the leftmost
  Token merged = -1;                           // −1: the pair does not merge
};

struct NobodyLooks {
  void operator()(std::uint32_t, Token, Token, Token) const {}
};

// Merges in place until no adjacent pair merges. candidate(left, right) → Candidate. O(n log n) by a heap of pairs whose stale
// entries are passed over: a token that merged no longer equals what the entry remembers.
// on_merge(at, left, right, merged) sees each merge; `at` is the place of `left` among the symbols before any merge.
template <class F, class G = NobodyLooks>
void merge_with_heap(std::vector<Token>& ids, F&& candidate, G&& on_merge = {}) {
  struct Entry {
    std::uint64_t order;  // priority, then place
    Token left, right, merged;
    bool operator<(const Entry& other) const { return order > other.order; }  // std heaps have the greatest on top
  };
  constexpr std::uint32_t none = ~std::uint32_t{0};
  require(ids.size() < none, "a piece of {} symbols between two merge borders: at most {} are possible", ids.size(), none - 1);
  const auto n = static_cast<std::uint32_t>(ids.size());
  std::vector<std::uint32_t> next(n), previous(n);
  for (std::uint32_t i = 0; i < n; ++i) next[i] = i + 1 < n ? i + 1 : none, previous[i] = i > 0 ? i - 1 : none;

  std::vector<Entry> heap;
  const auto consider = [&](std::uint32_t at) {
    if (at == none || next[at] == none) return false;
    const Token left = ids[at], right = ids[next[at]];
    const Candidate c = candidate(left, right);
    if (c.merged >= 0) heap.push_back({std::uint64_t{c.priority} << 32 | at, left, right, c.merged});
    return c.merged >= 0;
  };
  for (std::uint32_t i = 0; i + 1 < n; ++i) consider(i);
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Entry best = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::uint32_t>(best.order);
    const std::uint32_t second = next[at];
    if (ids[at] != best.left || second == none || ids[second] != best.right) continue;
    on_merge(at, best.left, best.right, best.merged);
    ids[at] = best.merged;
    ids[second] = -1;
    next[at] = next[second];
    if (next[at] != none) previous[next[at]] = at;
    if (consider(previous[at])) std::push_heap(heap.begin(), heap.end());
    if (consider(at)) std::push_heap(heap.begin(), heap.end());
  }
  ids.erase(std::remove(ids.begin(), ids.end(), -1), ids.end());
}

}  // namespace glassformer::tokenizer
