// A matrix as a picture of coloured (or shaded) cells.
#pragma once
#include <string>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::plot {

enum class Colour {
  none,     // shade characters ░▒▓█, from 5, 20, 40 and 70 % of the scale on
  ansi256,  // background blocks from the 256-colour palette
  rgb       // 24-bit background blocks
};

struct HeatMapOptions {
  std::vector<std::string> row_labels, column_labels;  // one line each (controls become pictures); empty: numbers from 0
  Colour colour = Colour::none;
  double low = 0, high = 1;  // values at the ends of the scale; what lies beyond takes the end's colour
  Index width = 80;          // no line takes more columns; what does not fit is left out of the middle, and a note says what
  Index max_rows = 40;
  Index label_width = 14;
  Index marked_row = -1;  // has an arrow before its label
  std::string indent;
  bool scale = true;  // a last line that shows what the colours mean
};

// One line a row. Cells hold their number (two decimals) where all columns fit so, else they are two columns wide. NaN is a cell that
// does not exist (a masked key): a dot on no background. Ends with a newline.
// Throws std::invalid_argument when labels do not count the rows or columns, the scale is empty, or `width` has no room.
std::string heat_map(ConstMatrixRef<double> values, const HeatMapOptions& = {});

}  // namespace glassformer::plot
