#include "glassformer/plot/chart.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/text.hpp"
#include "plot/axis.hpp"
#include "plot/labels.hpp"

namespace glassformer::plot {
namespace {

char letter(std::size_t series) { return static_cast<char>('a' + series % 26); }

// A field of braille characters, each two dots wide and four high; a letter may stand in a cell's place.
class Field {
 public:
  Field(Index columns, Index rows)
      : columns_(columns), rows_(rows), dots_(static_cast<std::size_t>(columns * rows), 0), letters_(dots_.size(), 0) {}
  void dot(Index x, Index y) {  // y counts from the bottom
    static constexpr std::array<std::array<int, 4>, 2> bits{{{0x40, 0x04, 0x02, 0x01}, {0x80, 0x20, 0x10, 0x08}}};
    dots_[cell(x / 2, y / 4)] |= bits[static_cast<std::size_t>(x % 2)][static_cast<std::size_t>(y % 4)];
  }
  void line(Index x0, Index y0, Index x1, Index y1) {
    const Index steps = std::max<Index>({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (Index i = 0; i <= steps; ++i) dot(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps);
  }
  void mark(Index x, Index y, char with) { letters_[cell(x / 2, y / 4)] = with; }
  std::string row(Index from_top) const {
    std::string out;
    for (Index x = 0; x < columns_; ++x) {
      const std::size_t at = cell(x, rows_ - 1 - from_top);
      if (letters_[at] != 0) {
        out += letters_[at];
      } else if (dots_[at] == 0) {
        out += ' ';
      } else {  // U+2800 + dots in UTF-8
        out += {static_cast<char>(0xE2), static_cast<char>(0xA0 + (dots_[at] >> 6)), static_cast<char>(0x80 + (dots_[at] & 0x3F))};
      }
    }
    return out;
  }
  Index width() const { return 2 * columns_; }
  Index height() const { return 4 * rows_; }

 private:
  std::size_t cell(Index x, Index y) const { return static_cast<std::size_t>(y * columns_ + x); }
  Index columns_, rows_;
  std::vector<int> dots_;
  std::vector<char> letters_;
};

void draw_curves(const Chart& c, const Axis& x, const Axis& y, Field& field) {
  const auto to = [](double share, Index size) { return static_cast<Index>(std::lround(share * static_cast<double>(size - 1))); };
  for (std::size_t s = 0; s < c.series.size(); ++s) {
    Index last_x = -1, last_y = -1;
    for (std::size_t i = 0; i < c.x.size(); ++i) {
      const double v = c.series[s].y[i];
      if (!std::isfinite(v)) {
        last_x = -1;
        continue;
      }
      const Index px = to(x.share(c.x[i]), field.width()), py = to(y.share(v), field.height());
      last_x < 0 ? field.dot(px, py) : field.line(last_x, last_y, px, py);
      last_x = px, last_y = py;
    }
    if (c.series.size() > 1 && last_x >= 0) field.mark(last_x, last_y, letter(s));
  }
}

std::string lines_chart(const Chart& c, const ChartOptions& o) {
  const auto [x, y] = axes_of(c);
  const std::string top = short_number(y.high), bottom = short_number(y.low);
  const Index margin = std::max(display_width(top), display_width(bottom)), columns = o.width - display_width(o.indent) - margin - 2;
  require(columns >= 16, "chart: expected a width of {} or more, found {}", o.width + 16 - columns, o.width);
  Field field(columns, o.height);
  draw_curves(c, x, y, field);

  std::string out;
  if (!c.y_label.empty()) out += fmt::format("{}{}{}\n", o.indent, fit(c.y_label, columns), c.y_log ? " (logarithmic)" : "");
  for (Index r = 0; r < o.height; ++r) {
    const std::string& at = r == 0 ? top : r == o.height - 1 ? bottom : "";
    out += fmt::format("{}{} │{}\n", o.indent, pad_left(at, margin), field.row(r));
  }
  std::string rule = fmt::format("{}{} └", o.indent, std::string(static_cast<std::size_t>(margin), ' '));
  for (Index i = 0; i < columns; ++i) rule += "─";
  const std::string first = short_number(c.x.empty() ? 0 : c.x.front()), last = short_number(c.x.empty() ? 1 : c.x.back());
  const Index room = columns - display_width(first) - display_width(last) - 2;
  const std::string label = fit(c.x_label + (c.x_log ? " (logarithmic)" : ""), std::max<Index>(room, 1));
  const Index before = std::max<Index>((room - display_width(label)) / 2 + 1, 1);
  out += fmt::format(
      "{}\n{}{}{}{}{}\n", rule, o.indent, std::string(static_cast<std::size_t>(margin + 2), ' '), first,
      pad_right(std::string(static_cast<std::size_t>(before), ' ') + label, columns - display_width(first) - display_width(last)), last);
  return out;
}

std::string bar(double share, Index columns) {
  static constexpr std::array<const char*, 8> eighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const Index all = static_cast<Index>(std::lround(std::clamp(share, 0.0, 1.0) * static_cast<double>(8 * columns)));
  std::string out;
  for (Index i = 0; i < all / 8; ++i) out += "█";
  return out + eighths[static_cast<std::size_t>(all % 8)];
}

std::string bars_chart(const Chart& c, const ChartOptions& o) {
  double most = 0;
  Index name_width = 0, number_width = 0;
  for (std::size_t i = 0; i < c.names.size(); ++i) name_width = std::max(name_width, display_width(name_of(c.names[i], 24)));
  for (const Series& s : c.series) {
    for (const double v : s.y) {
      if (std::isfinite(v)) most = std::max(most, std::abs(v));
      number_width = std::max(number_width, display_width(number(v, o.decimals)));
    }
  }
  const bool many = c.series.size() > 1;
  const Index columns = o.width - display_width(o.indent) - name_width - number_width - 4 - (many ? 2 : 0);
  require(columns >= 8, "chart: expected a width of {} or more, found {}", o.width + 8 - columns, o.width);
  std::string out;
  for (std::size_t i = 0; i < c.names.size(); ++i) {
    for (std::size_t s = 0; s < c.series.size(); ++s) {
      const double v = c.series[s].y[i];
      out += fmt::format("{}{}{}  {}  {}\n", o.indent, pad_right(s == 0 ? name_of(c.names[i], 24) : "", name_width),
                         many ? fmt::format(" {}", letter(s)) : "", pad_left(number(v, o.decimals), number_width),
                         most > 0 && std::isfinite(v) ? bar(std::abs(v) / most, columns) : "");
    }
  }
  return out;
}

}  // namespace

std::string chart(const Chart& c, const ChartOptions& o) {
  check(c);
  require(o.height >= 2, "chart: expected a height of 2 or more, found {}", o.height);
  std::string out;
  if (!c.title.empty()) {
    for (const std::string& line : wrap(c.title, o.width, o.indent)) out += line + '\n';
  }
  out += c.kind == Chart::Kind::bars ? bars_chart(c, o) : lines_chart(c, o);
  if (c.series.size() > 1) {
    std::string legend;
    for (std::size_t s = 0; s < c.series.size(); ++s) legend += fmt::format("{}{} {}", s == 0 ? "" : "   ", letter(s), c.series[s].name);
    for (const std::string& line : wrap(legend, o.width, o.indent)) out += line + '\n';
  }
  return out;
}

}  // namespace glassformer::plot
