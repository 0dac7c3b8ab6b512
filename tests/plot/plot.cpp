#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "glassformer/core/random.hpp"
#include "glassformer/plot/heat_map.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/plot/text.hpp"

using namespace glassformer;
using namespace glassformer::plot;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}
Index widest_line(const std::string& text) {
  Index width = 0;
  for (const auto& line : lines_of(text)) width = std::max(width, display_width(line));
  return width;
}
Matrix<double> random_matrix(Index rows, Index cols, double size = 1) {
  Matrix<double> m(rows, cols);
  const RandomStream stream{7, 0};
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = size * random_normal(stream, static_cast<std::uint64_t>(i));
  return m;
}
std::vector<std::string> odd_labels(Index count) {
  const std::vector<std::string> some{
      "the",         "",         "日本語",   "e\u0301te", "\n", "a very long label indeed, longer than any", "\xff\xfe",
      "\x1b[31mred", "👍🏽", "\u202ertl"};
  std::vector<std::string> all;
  for (Index i = 0; i < count; ++i) all.push_back(some[static_cast<std::size_t>(i) % some.size()]);
  return all;
}

}  // namespace

TEST_CASE("columns are those of a terminal, not bytes or code points") {
  CHECK(display_width("") == 0);
  CHECK(display_width("cat") == 3);
  CHECK(display_width("naïve ∞ √ ↵") == 11);
  CHECK(display_width("e\u0301") == 1);  // a combining accent
  CHECK(display_width("日本") == 4);
  CHECK(display_width("👍") == 2);
  CHECK(display_width("\x1b[1mbold\x1b[0m") == 4);
  CHECK(display_width("\xff\xc3") == 2);      // no UTF-8: one a byte
  CHECK(display_width("\xed\xa0\x80") == 3);  // a surrogate
  CHECK(display_width("\xc0\xaf") == 2);      // an overlong form
}

TEST_CASE("labels are one visible line, whatever the bytes") {
  CHECK(visible("a b\n") == "a␣b↵");
  CHECK(visible("a b", false) == "a b");
  CHECK(visible("\t\r\x01\x7f") == "⇥␍␁␡");
  CHECK(visible(std::string_view("\0", 1)) == "␀");
  CHECK(visible("\x1b[31m") == "␛[31m");  // nothing that a terminal obeys
  CHECK(visible("\xff") == "\\xff");
  CHECK(visible("\xe2\x82") == "\\xe2\\x82");  // a cut character
  CHECK(visible("\u0085\u202e") == "\\u{0085}\\u{202e}");
  CHECK(visible("日é👍") == "日é👍");
}

TEST_CASE("fitting, padding and breaking keep characters whole") {
  CHECK(fit("attention", 9) == "attention");
  CHECK(fit("attention", 5) == "atte…");
  CHECK(fit("日本語", 4) == "日…");
  CHECK(fit("ab", 0) == "");
  CHECK(pad_right("日", 4) == "日  ");
  CHECK(pad_left("−∞", 5) == "   −∞");
  CHECK(wrap("one two three", 8, " ") == std::vector<std::string>{" one two", " three"});
  CHECK(wrap("日本語日本語", 5) == std::vector<std::string>{"日本", "語日", "本語"});
  CHECK(wrap("", 10).empty());
  CHECK(wrap("\x1b[1mabcd\x1b[0mef", 4) == std::vector<std::string>{"\x1b[1mabcd\x1b[0m", "ef"});  // escapes stay whole, without a column
  CHECK(wrap(std::string(2000000, 'a'), 80).size() == 25000);  // linear: a quadratic one would take hours
  for (Index columns = 2; columns < 30; ++columns) {
    std::string joined, text = "a few wörds, averyveryveryverylongone and 日本語 with 👍 at the end";
    for (const auto& line : wrap(text, columns)) {
      CHECK(display_width(line) <= columns);
      joined += line;
    }
    std::erase(joined, ' '), std::erase(text, ' ');
    CHECK(joined == text);
  }
}

TEST_CASE("numbers have fixed decimals") {
  CHECK(number(0.5) == "0.500");
  CHECK(number(-1.25, 2) == "-1.25");
  CHECK(number(-0.0) == "0.000");
  CHECK(number(-0.0001, 3) == "0.000");
  CHECK(number(-0.001, 3) == "-0.001");
  CHECK(number(-kInfinity) == "−∞");
  CHECK(number(kInfinity) == "∞");
  CHECK(number(kNaN) == "NaN");
}

TEST_CASE("a table is aligned") {
  Matrix<double> m{{1, -0.5}, {10.25, -kInfinity}};
  TableOptions o;
  o.row_labels = {"the", "日本"}, o.column_labels = {"a", "b"};
  o.decimals = 2;
  CHECK(number_table(m, o) ==
        "          a      b\n"
        "the    1.00  -0.50\n"
        "日本  10.25     −∞\n");
}

TEST_CASE("a table too large is cut in the middle, and says so") {
  TableOptions o;
  o.width = 30, o.max_rows = 4;
  Matrix<double> m = Matrix<double>::Zero(9, 12);
  CHECK(number_table(m, o) ==
        "       0      1      …     11\n"
        "0  0.000  0.000      …  0.000\n"
        "1  0.000  0.000      …  0.000\n"
        "…      …      …      …      …\n"
        "8  0.000  0.000      …  0.000\n"
        "(left out: rows 2 to 7 of 9;\n"
        "columns 2 to 10 of 12)\n");
}

TEST_CASE("shown keeps the first and the last") {
  CHECK(shown(3, 3) == std::vector<Index>{0, 1, 2});
  CHECK(shown(9, 4) == std::vector<Index>{0, 1, -1, 8});
  CHECK(shown(4, 3) == std::vector<Index>{0, -1, 3});
  CHECK(shown(0, 3).empty());
  for (Index count = 0; count < 30; ++count) {
    for (Index room = 2; room < 30; ++room) CHECK(static_cast<Index>(shown(count, room).size()) == std::min(count, room));
  }
}

TEST_CASE("no line is wider than asked, for many shapes and labels; colour changes no column") {
  for (const Index rows : {1, 2, 3, 8, 41, 120}) {
    for (const Index cols : {1, 2, 3, 7, 12, 13, 33, 34, 80, 333}) {
      for (const Index width : {60, 80, 100}) {
        for (const double size : {1.0, 1e5}) {
          Matrix<double> m = random_matrix(rows, cols, size);
          m(0, cols - 1) = -kInfinity;
          TableOptions t;
          t.row_labels = odd_labels(rows), t.column_labels = odd_labels(cols);
          t.width = width, t.indent = "  ";
          const std::string table = number_table(m, t);
          CHECK(widest_line(table) <= width);
          const auto body = lines_of(table);
          for (std::size_t i = 1; i < 1 + std::min<std::size_t>(static_cast<std::size_t>(rows), 16); ++i)
            CHECK(display_width(body[i]) == display_width(body[0]));

          m(0, cols - 1) = kNaN;
          HeatMapOptions h;
          h.row_labels = odd_labels(rows), h.column_labels = odd_labels(cols);
          h.width = width, h.marked_row = 0, h.indent = std::string(1, ' ');
          const std::string plain = heat_map(m, h);
          CHECK(widest_line(plain) <= width);
          CHECK(plain.find('\x1b') == std::string::npos);
          for (const Colour colour : {Colour::ansi256, Colour::rgb}) {
            h.colour = colour;
            const auto coloured = lines_of(heat_map(m, h)), without = lines_of(plain);
            CHECK(coloured.size() == without.size());
            for (std::size_t i = 0; i + 1 < coloured.size(); ++i) CHECK(display_width(coloured[i]) >= display_width(without[i]));
            CHECK(widest_line(heat_map(m, h)) <= width);
          }
        }
      }
    }
  }
}

TEST_CASE("a heat map's cells say their numbers, or shades where they are many") {
  Matrix<double> m{{1, kNaN}, {0.25, 0.75}};
  HeatMapOptions o;
  o.row_labels = {"a", "b"}, o.column_labels = {"a", "b"};
  o.marked_row = 1, o.scale = false;
  CHECK(heat_map(m, o) ==
        "     a      b\n"
        "  a █1.00█     ·\n"
        "▸ b ▒0.25▒ █0.75█\n");
  Matrix<double> row(1, 50);
  for (Index j = 0; j < 50; ++j) row(0, j) = (static_cast<double>(j) + 0.5) / 50;
  o = {};
  o.width = 110, o.scale = false;
  const auto lines = lines_of(heat_map(row, o));
  std::string expected;
  for (Index j = 0; j < 50; ++j) expected += j < 2 ? "  " : j < 10 ? "░░" : j < 20 ? "▒▒" : j < 35 ? "▓▓" : "██";
  CHECK(lines[1] == "  0 " + expected);
  CHECK(lines[0].starts_with("    0   2   4   6   8   10  12  14"));
  CHECK(lines[0].ends_with("  46  48"));
}

TEST_CASE("colours go from dark to bright, in both depths") {
  Matrix<double> m{{0, 1}};
  HeatMapOptions o;
  o.scale = false;
  o.colour = Colour::rgb;
  const std::string rgb = heat_map(m, o);
  CHECK(rgb.find("48;2;68;1;84m") < rgb.find("48;2;253;231;37m"));
  CHECK(rgb.find("48;2;253;231;37m") != std::string::npos);
  o.colour = Colour::ansi256;
  CHECK(heat_map(m, o).find("48;5;53m") != std::string::npos);   // 16 + 36·1 + 6·0 + 1
  CHECK(heat_map(m, o).find("48;5;220m") != std::string::npos);  // 16 + 36·5 + 6·4 + 0
  for (const auto& line : lines_of(heat_map(m, o))) {
    if (line.find("\x1b[") != std::string::npos) CHECK(line.ends_with("\x1b[0m"));  // nothing leaks into the next line
  }
}

TEST_CASE("callers' mistakes") {
  const Matrix<double> m = random_matrix(2, 3);
  TableOptions t;
  t.row_labels = {"only one"};
  CHECK_THROWS_WITH_AS(number_table(m, t), "plot: expected 2 row labels, found 1", std::invalid_argument);
  t = {};
  t.width = 9;
  CHECK_THROWS_AS(number_table(m, t), std::invalid_argument);
  HeatMapOptions h;
  h.low = h.high = 1;
  CHECK_THROWS_AS(heat_map(m, h), std::invalid_argument);
  h = {};
  h.width = 6;
  CHECK_THROWS_AS(heat_map(m, h), std::invalid_argument);
}
