// A matrix of numbers as aligned text.
#pragma once
#include <string>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::plot {

struct TableOptions {
  std::vector<std::string> row_labels, column_labels;  // one line each (controls become pictures); empty: numbers from 0
  int decimals = 3;
  Index width = 80;        // no line takes more columns; whatever does not fit is left out of the middle, and a note says what
  Index max_rows = 16;     // likewise for rows
  Index label_width = 16;  // longer labels are cut
  std::string indent;      // before each line
  bool operator==(const TableOptions&) const = default;
};

// One line a row under a line of column labels, "…" where rows or columns are left out. Ends with a newline.
// Throws std::invalid_argument when labels do not count the rows or columns, or when `width` has no room for a label and two columns.
std::string number_table(ConstMatrixRef<double> values, const TableOptions& = {});

// Which of `count` rows or columns to show when `room` fit: all, or the first and the last with one mark (−1) between them.
std::vector<Index> shown(Index count, Index room);

}  // namespace glassformer::plot
