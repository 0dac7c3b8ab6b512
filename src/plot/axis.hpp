// What charts of characters and of SVG share: axes, their ticks, and short numbers.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "glassformer/plot/chart.hpp"

namespace glassformer::plot {

// Throws std::invalid_argument when lengths do not agree.
void check(const Chart&);

// The values of one axis, put on 0 … 1.
struct Axis {
  double low = 1e300, high = -1e300;
  bool log = false;

  void take(double v);  // makes room for it, unless it is not finite; throws std::invalid_argument for zero or less on a logarithmic axis
  void widen();         // an axis of one value still has two ends
  double share(double v) const;
};
// Of a chart of lines. Throws std::invalid_argument when x does not ascend.
std::pair<Axis, Axis> axes_of(const Chart&);

struct Tick {
  double value;
  std::string label;
};
// About `count` round values inside the axis: multiples of 1, 2 or 5 times a power of ten; decades on a logarithmic axis of two decades or more.
std::vector<Tick> ticks(const Axis&, int count);

std::string short_number(double v);  // four digits or so: "0.25", "1234", "1.2e+06"

}  // namespace glassformer::plot
