// Charts and heat maps as SVG: for notebooks and pages. No scripts, no fonts of their own, no background: grey text and colours that can be
// told apart by the colour-blind (Okabe, Ito 2008) stand out on white and on black; lines differ in their dashes and marks too.
#pragma once
#include <string>
#include <string_view>

#include "glassformer/plot/chart.hpp"
#include "glassformer/plot/heat_map.hpp"

namespace glassformer::plot {

struct SvgOptions {
  double width = 720, height = 380;  // in pixels; the height of bars and heat maps follows from their rows
};

// One <svg> element that shrinks with its page. Throws std::invalid_argument as chart() does.
std::string chart_svg(const Chart&, const SvgOptions& = {});

// Cells hold their number where there is room; else each tells it when pointed at. All rows and columns are drawn. Of the options, those
// for a terminal (width, max_rows, indent, colour) are passed over. Throws std::invalid_argument as heat_map() does.
std::string heat_map_svg(ConstMatrixRef<double> values, const HeatMapOptions& = {}, const SvgOptions& = {});

// Text for HTML and SVG: & < > " escaped.
std::string escaped(std::string_view text);

}  // namespace glassformer::plot
