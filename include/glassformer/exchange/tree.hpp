// The fixed tree in which the gradients of a step's micro-batches are summed, whoever computes them: floating-point sums depend on their
// order, so one order makes 1, 2 and 4 processes agree to the bit.
//
// The leaves are the micro-batches 0 … M − 1. A node [a, b) splits at a + p, p the largest power of two below b − a (as the hash trees of
// RFC 6962 do), and its sum is left + right:      M = 6:  ((0+1)+(2+3))+(4+5)
#pragma once
#include <span>
#include <vector>

#include "glassformer/core/parallel.hpp"

namespace glassformer {

// A node: the leaves below it.
struct Leaves {
  Index begin = 0, end = 0;
  Index size() const { return end - begin; }
  bool operator==(const Leaves&) const = default;
};

// Where a node of at least two leaves splits: its right child's first leaf.
Index tree_split(Leaves node);

// The sums that one process holds while it computes neighbouring leaves in order. Of a power of two k of them, beginning at a multiple of
// k, there are never more than log₂ k + 1, and at last there is one.
class TreeStack {
 public:
  explicit TreeStack(Index leaves) : leaves_(leaves) {}
  // The sum of the next leaf now lies on top. Returns how often the top is then to be added to the one below it, which becomes the top.
  Index push(Index leaf);
  std::span<const Leaves> nodes() const { return nodes_; }

 private:
  Index leaves_;
  std::vector<Leaves> nodes_;
};

// How the leaves and the sums of them are shared out among processes: process r computes the r-th of `ranks` equal ranges of leaves and
// comes to the sums of `pieces(r)`: the largest nodes that lie within its range, one where the range is a node itself.
class SharedTree {
 public:
  // Throws std::invalid_argument unless `leaves` is a multiple of `ranks`.
  SharedTree(Index leaves, int ranks);
  Leaves share(int rank) const;
  std::span<const Leaves> pieces(int rank) const { return pieces_.at(static_cast<std::size_t>(rank)); }
  std::size_t most_sums() const { return most_sums_; }  // that a process holds at once

  // What is left to add when all pieces of all processes, in order, are numbered from 0: number `sum` += number `term`, in this order. Then
  // number 0 is the sum of all leaves.
  struct Addition {
    std::size_t sum, term;
  };
  std::span<const Addition> additions() const { return additions_; }

 private:
  Index leaves_;
  std::vector<std::vector<Leaves>> pieces_;
  std::vector<Addition> additions_;
  std::size_t most_sums_ = 0;
};

// sum += term, element by element
template <class S>
void add_to(std::span<S> sum, std::span<const S> term, int threads);

}  // namespace glassformer
