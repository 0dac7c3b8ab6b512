// SVG is well-formed, says its numbers, and draws where it should.
#include "glassformer/plot/svg.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace glassformer;

namespace {

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// Each element opened is closed, in order.
bool well_formed(const std::string& svg) {
  std::vector<std::string> open;
  for (std::size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const std::size_t end = svg.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = svg.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(tag[0] == '/', tag.find_first_of(" /", 1) - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  return open.empty();
}

}  // namespace

TEST_CASE("a chart of lines has axes, a legend and a path a series, broken where values are missing") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  plot::Chart c;
  c.title = "a < b & \"c\"", c.x_label = "step", c.y_label = "nats", c.x = {0, 50, 100, 150};
  c.series = {{"first", {4, 3, 2, 1}}, {"second", {1, nan, 2, nan}}};
  const std::string svg = plot::chart_svg(c);
  CHECK(well_formed(svg));
  CHECK(svg.find("a &lt; b &amp; &quot;c&quot;") != std::string::npos);
  CHECK(count(svg, "<path ") == 2);
  for (const char* text : {">step<", ">nats<", ">first<", ">second<", ">100<", ">3.0<"}) CHECK(svg.find(text) != std::string::npos);
  // The second: two moves, no line between them. The first goes from the upper left to the lower right.
  const std::string second = svg.substr(svg.rfind("<path "));
  CHECK(count(second.substr(0, second.find("fill=")), "M") == 2);
  CHECK(count(second.substr(0, second.find("fill=")), "L") == 0);
  CHECK(count(svg, "<script") == 0);
  c.y_log = true, c.series[0].y[0] = 0;
  CHECK_THROWS_AS(plot::chart_svg(c), std::invalid_argument);
  c.series[0].y = {1, 2};
  CHECK_THROWS_AS(plot::chart_svg(c), std::invalid_argument);
}

TEST_CASE("bars are as long as their values, to the left of zero for negative ones") {
  plot::Chart c{plot::Chart::Kind::bars};
  c.names = {" the", "a"}, c.series = {{"p", {2, -1}}};
  const std::string svg = plot::chart_svg(c);
  CHECK(well_formed(svg));
  CHECK(svg.find(">␣the<") != std::string::npos);
  double x[2], width[2];
  std::size_t at = 0;
  for (int i = 0; i < 2; ++i) {
    at = svg.find("<rect x=\"", at + 1);
    x[i] = std::stod(svg.substr(at + 9));
    width[i] = std::stod(svg.substr(svg.find("width=\"", at) + 7));
  }
  CHECK(width[0] == doctest::Approx(2 * width[1]).epsilon(0.01));
  CHECK(x[1] + width[1] == doctest::Approx(x[0]).epsilon(0.01));  // both end at zero
}

TEST_CASE("a heat map has a cell for each number and none where there is none") {
  Matrix<double> m(2, 3);
  m << 0, 0.5, 1, 0.25, std::numeric_limits<double>::quiet_NaN(), 2;
  plot::HeatMapOptions bare, empty, labelled;
  bare.scale = false, empty.low = empty.high = 1, labelled.row_labels = {"one"};
  const std::string svg = plot::heat_map_svg(m, bare);
  CHECK(well_formed(svg));
  CHECK(count(svg, "<rect ") == 5);
  CHECK(count(svg, "<circle ") == 1);
  CHECK(count(svg, "#440154") == 1);  // the lowest
  CHECK(count(svg, "#fde725") == 2);  // the highest, and what lies beyond
  CHECK(svg.find(">0.25<") != std::string::npos);
  CHECK(well_formed(plot::heat_map_svg(Matrix<double>::Ones(40, 60))));
  CHECK_THROWS_AS(plot::heat_map_svg(m, empty), std::invalid_argument);
  CHECK_THROWS_AS(plot::heat_map_svg(m, labelled), std::invalid_argument);
}
