#include "glassformer/plot/heat_map.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/plot/text.hpp"
#include "plot/labels.hpp"
#include "plot/ramp.hpp"

namespace glassformer::plot {
namespace {

// The nearest of the palette's cube 16 + 36r + 6g + b, whose six levels are 0, 95, 135, 175, 215, 255.
int palette(const Rgb& c) {
  const auto level = [](double x) { return x < 48 ? 0 : x < 115 ? 1 : std::clamp(static_cast<int>((x - 35) / 40), 1, 5); };
  return 16 + 36 * level(c.red) + 6 * level(c.green) + level(c.blue);
}

std::string painted(const std::string& text, double share, Colour colour) {
  const Rgb c = ramp(share);
  const int ink = is_bright(c) ? 16 : 231;  // black or white
  const std::string back =
      colour == Colour::rgb ? fmt::format("2;{:.0f};{:.0f};{:.0f}", c.red, c.green, c.blue) : fmt::format("5;{}", palette(c));
  return fmt::format("\x1b[38;5;{};48;{}m{}\x1b[0m", ink, back, text);
}

// Shades, each from a share of the scale on. They rise faster at the low end, where most weights of a softmax over many keys lie.
struct Shade {
  double from;
  const char* text;
};
constexpr std::array<Shade, 5> kShades{{{0, " "}, {0.05, "░"}, {0.2, "▒"}, {0.4, "▓"}, {0.7, "█"}}};
const char* shade(double share) {
  const char* text = kShades[0].text;
  for (const Shade& s : kShades) {
    if (share >= s.from) text = s.text;
  }
  return text;
}
std::string repeated(const char* text, Index times) {
  std::string out;
  for (Index i = 0; i < times; ++i) out += text;
  return out;
}

class HeatMap {
 public:
  HeatMap(ConstMatrixRef<double> values, const HeatMapOptions& o)
      : values_(values),
        o_(o),
        rows_(labels_of("row", o.row_labels, values.rows(), o.label_width)),
        columns_(labels_of("column", o.column_labels, values.cols(), o.label_width)) {
    require(o.high > o.low, "heat map: expected a scale from low to high, found {} to {}", o.low, o.high);
    require(o.max_rows >= 2, "heat map: expected room for 2 rows or more, found {}", o.max_rows);
    margin_ = display_width(o.indent) + 2 + widest(rows_) + 1;
    const Index room = o.width - margin_;
    for (Index i = 0; i < values.rows(); ++i) {
      for (Index j = 0; j < values.cols(); ++j) number_width_ = std::max(number_width_, display_width(cell_number(values(i, j))));
    }
    numbers_ = values.cols() * (number_width_ + 3) <= room;
    cell_ = numbers_ ? number_width_ + 3 : 2;
    require(room / cell_ >= std::min<Index>(values.cols(), 2), "heat map: expected a width of {} or more, found {}", margin_ + 2 * cell_,
            o.width);
    shown_rows_ = shown(values.rows(), o.max_rows);
    shown_columns_ = shown(values.cols(), room / cell_);
  }

  std::string draw() const {
    std::string out = header();
    for (const Index i : shown_rows_) {
      const std::string label = i < 0 ? "…" : rows_[static_cast<std::size_t>(i)];
      std::string line = o_.indent + (i >= 0 && i == o_.marked_row ? "▸ " : "  ") + pad_right(label, widest(rows_)) + ' ';
      for (const Index j : shown_columns_) line += i < 0 || j < 0 ? pad_right(i < 0 && j >= 0 ? "" : "…", cell_) : cell(values_(i, j));
      out += trimmed(line);
    }
    out += left_out_note(shown_rows_, values_.rows(), shown_columns_, values_.cols(), o_.width, o_.indent + "  ");
    return o_.scale ? out + scale() : out;
  }

 private:
  static std::string cell_number(double x) { return std::isnan(x) ? "·" : number(x, 2); }
  double share(double x) const { return (x - o_.low) / (o_.high - o_.low); }

  // Labels above the columns where cells are wide enough for them to be told apart; else numbers, above every second or fourth column.
  std::string header() const {
    std::string line(static_cast<std::size_t>(margin_), ' ');
    const Index last = values_.cols() - 1, step = numbers_ || last < 10 ? 1 : last < 1000 ? 2 : 4;
    const Index end = margin_ + cell_ * static_cast<Index>(shown_columns_.size());
    for (std::size_t place = 0; place < shown_columns_.size(); ++place) {
      const Index j = shown_columns_[place], at = margin_ + cell_ * static_cast<Index>(place);
      const std::string text = j < 0 ? "…" : numbers_ ? ' ' + fit(columns_[static_cast<std::size_t>(j)], cell_ - 2) : std::to_string(j);
      if ((j >= 0 && j % step != 0) || display_width(line) > at || at + display_width(text) > end) continue;
      line = pad_right(line, at) + text;
    }
    return trimmed(line);
  }
  static std::string trimmed(std::string line) {
    line.erase(line.find_last_not_of(' ') + 1);
    return line + '\n';
  }

  std::string cell(double x) const {
    if (std::isnan(x)) return numbers_ ? pad_right(pad_left("·", number_width_ + 1), cell_) : "· ";
    const double s = share(x);
    if (o_.colour == Colour::none) {
      return numbers_ ? repeated(shade(s), 1) + pad_left(number(x, 2), number_width_) + repeated(shade(s), 1) + ' ' : repeated(shade(s), 2);
    }
    return painted(numbers_ ? ' ' + pad_left(number(x, 2), number_width_) + "  " : "  ", s, o_.colour);
  }

  std::string scale() const {
    std::string out = o_.indent + "  ";
    if (o_.colour == Colour::none) {
      for (const Shade& s : kShades) {
        if (s.from > 0)
          out += fmt::format("{}{} from {}", s.from > kShades[1].from ? "  " : "", s.text, number(o_.low + s.from * (o_.high - o_.low), 2));
      }
      return fit(out, o_.width) + '\n';
    }
    out += number(o_.low, 2) + ' ';
    for (int i = 0; i < 20; ++i) out += painted(" ", (i + 0.5) / 20, o_.colour);
    return out + ' ' + number(o_.high, 2) + '\n';
  }

  ConstMatrixRef<double> values_;
  const HeatMapOptions& o_;
  std::vector<std::string> rows_, columns_;
  std::vector<Index> shown_rows_, shown_columns_;
  Index margin_ = 0, cell_ = 0, number_width_ = 0;
  bool numbers_ = false;
};

}  // namespace

std::string heat_map(ConstMatrixRef<double> values, const HeatMapOptions& o) { return HeatMap(values, o).draw(); }

}  // namespace glassformer::plot
