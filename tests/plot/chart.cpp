// Charts of characters: where the dots stand, and what they refuse.
#include "glassformer/plot/chart.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "glassformer/plot/text.hpp"

namespace glassformer::plot {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}
// The rows of the plotting area: what is right of the axis.
std::vector<std::string> field_of(const std::vector<std::string>& lines) {
  std::vector<std::string> rows;
  for (const std::string& line : lines) {
    const auto axis = line.find("│");
    if (axis != std::string::npos) rows.push_back(line.substr(axis + std::string("│").size()));
  }
  return rows;
}
Chart one_line(std::vector<double> x, std::vector<double> y) {
  Chart c;
  c.x = std::move(x), c.series = {{"y", std::move(y)}};
  return c;
}

}  // namespace

TEST_CASE("a rising line goes from the lower left to the upper right; the axes carry its ends") {
  const auto lines = lines_of(chart(one_line({0, 1}, {-2, 6}), {.width = 40, .height = 5}));
  const auto rows = field_of(lines);
  REQUIRE(rows.size() == 5);
  CHECK(rows.back().substr(0, 3) != "   ");                           // a dot in the first cell below
  CHECK(rows.front().find_first_not_of(' ') > rows.back().size() / 3);  // and above only far right
  CHECK(lines[0].starts_with(" 6 │"));
  CHECK(lines[4].starts_with("-2 │"));
  CHECK(lines[6].find("0") != std::string::npos);
  CHECK(lines[6].ends_with("1"));
  for (const auto& line : lines) CHECK(display_width(line) <= 40);
}

TEST_CASE("one dot in each corner of a cell is the braille character that Unicode gives it") {
  // Two points in a field of one row: the lowest left dot (7, U+2840) and the highest right one (4, U+2808).
  const auto rows = field_of(lines_of(chart(one_line({0, 1, 2}, {0, std::numeric_limits<double>::quiet_NaN(), 1}), {.width = 24, .height = 2})));
  CHECK(rows[1] == "⡀" + std::string(20, ' '));
  CHECK(rows[0] == std::string(20, ' ') + "⠈");
}

TEST_CASE("on a logarithmic axis equal ratios are equal steps") {
  Chart c = one_line({1, 2, 3}, {1, 10, 100});
  c.y_log = true;
  const auto straight = field_of(lines_of(chart(one_line({1, 2, 3}, {0, 1, 2}), {.width = 60, .height = 8})));
  const auto logarithmic = field_of(lines_of(chart(c, {.width = 62, .height = 8})));  // "100" is two columns wider than "2"
  CHECK(straight == logarithmic);
  c.y_log = false;
  CHECK(field_of(lines_of(chart(c, {.width = 62, .height = 8}))) != straight);
}

TEST_CASE("several series carry letters; a gap is a gap; one value is a line in the middle") {
  Chart c = one_line({0, 1, 2, 3}, {0, 1, std::nan(""), 3});
  c.series.push_back({"other", {3, 2, 1, 0}});
  const std::string text = chart(c);
  CHECK(text.find("a y   b other") != std::string::npos);
  CHECK(text.find('b') != std::string::npos);
  CHECK_NOTHROW(chart(one_line({1}, {5})));
  CHECK_NOTHROW(chart(one_line({}, {})));
}

TEST_CASE("bars: the longest is the largest, half is half as long, numbers align") {
  Chart c;
  c.kind = Chart::Kind::bars;
  c.names = {"a", "bc"}, c.series = {{"p", {0.5, 1}}};
  const auto lines = lines_of(chart(c, {.width = 33}));
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].starts_with("a   0.500  █"));
  CHECK(lines[1].starts_with("bc  1.000  █"));
  const auto blocks = [](const std::string& line) { return display_width(line) - 11; };
  CHECK(blocks(lines[1]) == 2 * blocks(lines[0]));
  for (const auto& line : lines) CHECK(display_width(line) <= 33);
}

TEST_CASE("charts refuse what cannot be drawn") {
  CHECK_THROWS_WITH_AS(chart(one_line({0, 1}, {1})), "chart: expected 2 values in y, found 1", std::invalid_argument);
  CHECK_THROWS_WITH_AS(chart(one_line({1, 0}, {1, 2})), "chart: expected ascending x, found 0 after 1", std::invalid_argument);
  Chart c = one_line({0, 1}, {0, 2});
  c.y_log = true;
  CHECK_THROWS_WITH_AS(chart(c), "chart: expected values above zero on a logarithmic axis, found 0", std::invalid_argument);
  CHECK_THROWS_AS(chart(one_line({0, 1}, {0, 2}), {.width = 10}), std::invalid_argument);
}

}  // namespace glassformer::plot
