// The tree of sums, and who holds what of it.
#include "glassformer/exchange/tree.hpp"

#include <doctest/doctest.h>

#include <string>

namespace glassformer {
namespace {

// The sum of the leaves [begin, end) in the order of the tree, written down: "((0+1)+2)".
std::string written(Leaves node) {
  if (node.size() == 1) return std::to_string(node.begin);
  const Index split = tree_split(node);
  return "(" + written({node.begin, split}) + "+" + written({split, node.end}) + ")";
}

// The same by what each of `ranks` processes does: its own leaves by a stack, then the additions over all pieces.
std::string shared_out(Index leaves, int ranks) {
  const SharedTree tree(leaves, ranks);
  std::vector<std::string> pieces;
  for (int rank = 0; rank < ranks; ++rank) {
    TreeStack stack(leaves);
    std::vector<std::string> sums;
    for (Index leaf = tree.share(rank).begin; leaf < tree.share(rank).end; ++leaf) {
      sums.push_back(std::to_string(leaf));
      CHECK(sums.size() <= tree.most_sums());
      for (Index merge = stack.push(leaf); merge > 0; --merge) {
        sums[sums.size() - 2] = "(" + sums[sums.size() - 2] + "+" + sums.back() + ")";
        sums.pop_back();
      }
    }
    CHECK(sums.size() == tree.pieces(rank).size());
    pieces.insert(pieces.end(), sums.begin(), sums.end());
  }
  for (const auto& [sum, term] : tree.additions()) pieces[sum] = "(" + pieces[sum] + "+" + pieces[term] + ")";
  return pieces[0];
}

}  // namespace

TEST_CASE("tree: a node splits at the largest power of two below its size") {
  CHECK(written({0, 6}) == "(((0+1)+(2+3))+(4+5))");
  CHECK(written({0, 7}) == "(((0+1)+(2+3))+((4+5)+6))");
  CHECK_THROWS(tree_split({3, 4}));
}

TEST_CASE("tree: however many processes share the leaves, all additions and their order are the tree's") {
  for (Index leaves = 1; leaves <= 24; ++leaves) {
    const std::string expected = written({0, leaves});
    for (int ranks = 1; ranks <= leaves; ++ranks) {
      if (leaves % ranks == 0) CHECK(shared_out(leaves, ranks) == expected);
    }
  }
}

TEST_CASE("tree: a power of two of leaves is one sum at last, and never more than log2 + 1 on the way") {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    const SharedTree tree(8 * ranks, ranks);
    CHECK(tree.most_sums() == 4);
    for (int rank = 0; rank < ranks; ++rank) CHECK(tree.pieces(rank).size() == 1);
  }
  CHECK(SharedTree(3, 3).most_sums() == 1);
  CHECK(SharedTree(6, 2).pieces(0).size() == 2);  // 0+1 and 2: their node lies across both
}

TEST_CASE("tree: leaves that cannot be shared out are refused") {
  CHECK_THROWS_WITH_AS(SharedTree(6, 4), "accumulate: expected a multiple of the 4 processes, found 6", std::invalid_argument);
}

TEST_CASE("add_to: element by element, whatever the threads") {
  std::vector<float> a(200001), b(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = 0.1F * static_cast<float>(i), b[i] = 1.0F / static_cast<float>(i + 1);
  std::vector<float> one = a, two = a;
  add_to<float>(one, b, 1);
  add_to<float>(two, b, 2);
  CHECK(one == two);
  bool right = true;
  for (std::size_t i = 0; i < a.size(); ++i) right = right && one[i] == a[i] + b[i];
  CHECK(right);
}

}  // namespace glassformer
