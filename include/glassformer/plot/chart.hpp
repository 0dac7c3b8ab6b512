// Curves and bars for a terminal, of characters.
#pragma once
#include <string>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::plot {

struct Series {
  std::string name;
  std::vector<double> y;  // one for each x; NaN: a gap
};

struct Chart {
  enum class Kind { lines, bars } kind = Kind::lines;
  std::string title = {}, x_label = {}, y_label = {};
  std::vector<double> x = {};           // lines: ascending
  std::vector<std::string> names = {};  // bars: a name each
  std::vector<Series> series = {};      // bars: one or more for each name
  bool x_log = false, y_log = false;    // logarithmic axes; lines only
};

struct ChartOptions {
  Index width = 80, height = 14;  // columns; rows of the plotting area (lines)
  int decimals = 3;
  std::string indent = {};
};

// Lines: dots of braille (two by four a cell) between labelled ends of the axes, series told apart by the letters in the legend and, at
// their last point, on the curve. Bars: one line each, its number at the end; eighths of a block. Ends with a newline.
// Throws std::invalid_argument when lengths do not agree, x does not ascend, a logarithmic axis has values of zero or less, or the width
// has no room.
std::string chart(const Chart&, const ChartOptions& = {});

}  // namespace glassformer::plot
