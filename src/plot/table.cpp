#include "glassformer/plot/table.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/text.hpp"
#include "plot/labels.hpp"

namespace glassformer::plot {

std::vector<Index> shown(Index count, Index room) {
  std::vector<Index> out;
  if (count <= room) {
    for (Index i = 0; i < count; ++i) out.push_back(i);
    return out;
  }
  const Index kept = std::max<Index>(room - 1, 1), head = (kept + 1) / 2;  // one place is the mark's
  for (Index i = 0; i < head; ++i) out.push_back(i);
  out.push_back(-1);
  for (Index i = count - (kept - head); i < count; ++i) out.push_back(i);
  return out;
}

std::string number_table(ConstMatrixRef<double> values, const TableOptions& o) {
  const std::vector<std::string> rows = labels_of("row", o.row_labels, values.rows(), o.label_width);
  const std::vector<std::string> columns = labels_of("column", o.column_labels, values.cols(), o.label_width);
  require(o.max_rows >= 2, "table: expected room for 2 rows or more, found {}", o.max_rows);
  const std::vector<Index> shown_rows = shown(values.rows(), o.max_rows);

  // Columns are equally wide: two spaces and the widest number or label that may be shown.
  Index cell = 0;
  for (Index j = 0; j < values.cols(); ++j) {
    cell = std::max(cell, display_width(columns[static_cast<std::size_t>(j)]));
    for (const Index i : shown_rows) {
      if (i >= 0) cell = std::max(cell, display_width(number(values(i, j), o.decimals)));
    }
  }
  cell += 2;
  const Index margin = display_width(o.indent) + widest(rows), room = (o.width - margin) / cell;
  require(room >= std::min<Index>(values.cols(), 2), "table: expected a width that holds a label and two columns, at least {}, found {}",
          margin + 2 * cell, o.width);
  const std::vector<Index> shown_columns = shown(values.cols(), room);

  std::string out;
  const auto line = [&](std::string_view label, auto&& text_of) {
    std::string text = o.indent + pad_right(label, widest(rows));
    for (const Index j : shown_columns) text += pad_left(j < 0 ? "…" : text_of(j), cell);
    out += text + '\n';
  };
  line("", [&](Index j) { return columns[static_cast<std::size_t>(j)]; });
  for (const Index i : shown_rows) {
    if (i < 0) {
      line("…", [](Index) { return std::string("…"); });
    } else {
      line(rows[static_cast<std::size_t>(i)], [&](Index j) { return number(values(i, j), o.decimals); });
    }
  }
  return out + left_out_note(shown_rows, values.rows(), shown_columns, values.cols(), o.width, o.indent);
}

}  // namespace glassformer::plot
