// Edits alone, on matrices that stand for a pass's values.
#include "glassformer/trace/edits.hpp"

#include <doctest/doctest.h>

namespace glassformer {
namespace {

Matrix<double> counting(Index rows, Index cols) {
  Matrix<double> m(rows, cols);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<double>(i + 1);
  return m;
}

}  // namespace

TEST_CASE("edits: scale all or some columns; zero also removes what is not finite") {
  Edits<double> edits;
  edits.add({.site = {"a"}, .factor = 2});
  edits.add({.site = {"a"}, .factor = 0, .first_column = 1, .columns = 1});
  CHECK(edits.wants("a"));
  CHECK_FALSE(edits.wants("b"));
  Matrix<double> x = counting(2, 3);
  x(0, 1) = std::numeric_limits<double>::quiet_NaN();
  edits.visit({"a"}, x);
  CHECK(x == Matrix<double>{{2, 0, 6}, {8, 0, 12}});
  Matrix<double> other = counting(2, 3);
  edits.visit({"b"}, other);
  CHECK(other == counting(2, 3));
}

TEST_CASE("edits: of one sequence and head, or of any") {
  Edits<double> edits;
  edits.add({.site = {"p", -1, 2}, .factor = 0});
  edits.add({.site = {"p", 1, -1}, .factor = 3});
  for (const auto& [sequence, head, factor] : {std::tuple{0, 0, 1.0}, {0, 2, 0.0}, {1, 0, 3.0}, {1, 2, 0.0}}) {
    Matrix<double> x = counting(2, 2);
    edits.visit({"p", sequence, head}, x);
    CHECK(x == factor * counting(2, 2));
  }
}

TEST_CASE("edits: patch all rows or one; a patch that acts once leaves the next pass alone until rearmed") {
  Edits<double> edits;
  edits.add({.site = {"a"}, .patch = Matrix<double>::Constant(2, 3, 7), .once = true});
  edits.add({.site = {"b"}, .patch = Matrix<double>::Constant(4, 3, 7), .row = 1});
  Matrix<double> x = counting(2, 3);
  edits.visit({"a"}, x);
  CHECK(x == Matrix<double>::Constant(2, 3, 7));
  CHECK_FALSE(edits.wants("a"));
  x = counting(1, 3);  // a decoding step has another shape
  edits.visit({"a"}, x);
  CHECK(x == counting(1, 3));
  edits.rearm();
  CHECK(edits.wants("a"));

  x = counting(2, 3);
  edits.visit({"b"}, x);
  CHECK(x == Matrix<double>{{1, 2, 3}, {7, 7, 7}});
}

TEST_CASE("edits: what does not fit says both shapes") {
  Matrix<double> x = counting(2, 3);
  Edits<double> patch, row, columns;
  patch.add({.site = {"a"}, .patch = counting(3, 3)});
  CHECK_THROWS_WITH_AS(patch.visit({"a"}, x), "a: the patch is [3, 3], the value is [2, 3]", std::invalid_argument);
  row.add({.site = {"a"}, .patch = counting(3, 3), .row = 2});
  CHECK_THROWS_WITH_AS(row.visit({"a"}, x), "a: the patch is [3, 3], of which row 2, the value is [2, 3]", std::invalid_argument);
  columns.add({.site = {"a"}, .factor = 0, .first_column = 2, .columns = 2});
  CHECK_THROWS_WITH_AS(columns.visit({"a"}, x), "a: columns 2 to 4, but the value is [2, 3]", std::invalid_argument);
  CHECK(x == counting(2, 3));
}

TEST_CASE("a chain shows the second what the first left, and asks each what it wants") {
  Edits<double> edits;
  edits.add({.site = {"a"}, .factor = 2});
  Recorder<double> recorder({"a", "b"});
  TraceChain<double> chain(&edits, &recorder), nobody(nullptr, nullptr);
  CHECK(chain.wants("a"));
  CHECK(chain.wants("b"));
  CHECK_FALSE(chain.wants("c"));
  CHECK_FALSE(nobody.wants("a"));
  Matrix<double> x = counting(1, 2);
  chain.visit({"a"}, x);
  CHECK(recorder.at("a") == Matrix<double>{{2, 4}});
}

}  // namespace glassformer
