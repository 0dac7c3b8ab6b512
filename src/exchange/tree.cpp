#include "glassformer/exchange/tree.hpp"

#include <bit>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

// Whether left and right are the two children of one node of the tree over [0, leaves).
bool are_siblings(Index leaves, Leaves left, Leaves right) {
  const Leaves both{left.begin, right.end};
  Leaves node{0, leaves};
  while (node.size() > both.size()) {
    const Index split = tree_split(node);
    if (both.begin >= split)
      node.begin = split;
    else
      node.end = split;
  }
  return node == both && tree_split(node) == right.begin;
}

// The number of the piece that holds the node's sum once `additions` are done.
std::size_t sum_node(Leaves node, std::span<const Leaves> pieces, std::size_t& next, std::vector<SharedTree::Addition>& additions) {
  if (pieces[next] == node) return next++;
  const Index split = tree_split(node);
  const std::size_t left = sum_node({node.begin, split}, pieces, next, additions);
  const std::size_t right = sum_node({split, node.end}, pieces, next, additions);
  additions.push_back({left, right});
  return left;
}

}  // namespace

Index tree_split(Leaves node) {
  require(node.size() >= 2, "a node of {} leaves has no children", node.size());
  return node.begin + static_cast<Index>(std::bit_floor(static_cast<std::uint64_t>(node.size() - 1)));
}

Index TreeStack::push(Index leaf) {
  nodes_.push_back({leaf, leaf + 1});
  Index merged = 0;
  for (; nodes_.size() >= 2 && are_siblings(leaves_, nodes_[nodes_.size() - 2], nodes_.back()); ++merged) {
    const Leaves right = nodes_.back();
    nodes_.pop_back();
    nodes_.back().end = right.end;
  }
  return merged;
}

SharedTree::SharedTree(Index leaves, int ranks) : leaves_(leaves) {
  require(ranks > 0 && leaves > 0 && leaves % ranks == 0, "accumulate: expected a multiple of the {} processes, found {}", ranks, leaves);
  std::vector<Leaves> all;
  for (int rank = 0; rank < ranks; ++rank) {
    TreeStack stack(leaves);
    for (Index leaf = leaves / ranks * rank; leaf < leaves / ranks * (rank + 1); ++leaf) {
      most_sums_ = std::max(most_sums_, stack.nodes().size() + 1);
      stack.push(leaf);
    }
    pieces_.emplace_back(stack.nodes().begin(), stack.nodes().end());
    all.insert(all.end(), stack.nodes().begin(), stack.nodes().end());
  }
  std::size_t next = 0;
  sum_node({0, leaves}, all, next, additions_);
}

Leaves SharedTree::share(int rank) const {
  const Index each = leaves_ / static_cast<Index>(pieces_.size());
  return {each * rank, each * (rank + 1)};
}

template <class S>
void add_to(std::span<S> sum, std::span<const S> term, int threads) {
  const Timed timed(Operation::optimizer);  // of micro-batches: no exchange
  require(sum.size() == term.size(), "a sum of {} numbers and a term of {}", sum.size(), term.size());
  parallel_blocks(threads, static_cast<Index>(sum.size()), Index{1} << 16, [&](Index begin, Index end) {
    S* __restrict s = sum.data();
    const S* __restrict t = term.data();
    for (Index i = begin; i < end; ++i) s[i] += t[i];
  });
}

template void add_to<float>(std::span<float>, std::span<const float>, int);
template void add_to<double>(std::span<double>, std::span<const double>, int);

}  // namespace glassformer
