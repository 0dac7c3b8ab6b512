// A story drawn for a terminal.
#include "glassformer/plot/text.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {
namespace {

constexpr std::string_view kIndent = "   ";

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + '\n';
  return out;
}

class Drawing {
 public:
  Drawing(plot::Colour colour, Index width, std::string_view indent) : colour_(colour), width_(width), indent_(indent) {}

  std::string operator()(const story::Paragraph& p) const { return joined(plot::wrap(p.text, width_, indent_)); }

  // As they are where they fit; what is too wide goes on in the next line, further in.
  std::string operator()(const story::Lines& l) const {
    std::string out;
    for (const std::string& line : l.lines) {
      if (plot::display_width(indent_) + plot::display_width(line) <= width_) {
        out += indent_ + line + '\n';
      } else {
        out += joined(plot::wrap(line, width_, indent_ + "  "));
      }
    }
    return out;
  }

  std::string operator()(const story::Number& n) const {
    const std::string value = fmt::format("{}{}{}", plot::number(n.value, n.decimals), n.unit.empty() ? "" : " ", n.unit);
    const Index room = width_ - plot::display_width(indent_) - 2 - plot::display_width(value);
    if (plot::display_width(n.label) > room) return (*this)(story::Paragraph{fmt::format("{}: {}", n.label, value)});
    return fmt::format("{}{}  {}\n", indent_, plot::pad_right(n.label, std::min<Index>(room, 28)), value);
  }

  std::string operator()(const story::Grid& g) const {
    plot::TableOptions o;
    o.row_labels = g.rows, o.column_labels = g.columns;
    o.decimals = g.decimals, o.max_rows = g.max_rows, o.label_width = g.label_width;
    o.width = width_, o.indent = indent_;
    return plot::number_table(g.values, o);
  }

  std::string operator()(const story::Picture& p) const {
    plot::HeatMapOptions o;
    o.row_labels = p.rows, o.column_labels = p.columns;
    o.colour = colour_, o.low = p.low, o.high = p.high, o.marked_row = p.marked_row, o.max_rows = p.max_rows;
    o.width = width_, o.indent = indent_.empty() ? "" : indent_.substr(2);  // before it is room for the arrow
    return plot::heat_map(p.values, o);
  }

  std::string operator()(const story::Table& t) const;
  std::string operator()(const story::Chart& c) const { return plot::chart(c.chart, {.width = width_, .indent = indent_}); }

 private:
  plot::Colour colour_;
  Index width_;
  std::string indent_;
};

// Columns as wide as their widest cell; where all do not fit the widest texts give way, broken into lines.
std::string Drawing::operator()(const story::Table& t) const {
  const std::size_t columns = t.columns.size();
  std::vector<Index> width(columns);
  std::vector<bool> numbers(columns, true);
  const auto text_of = [&](const story::Cell& cell) {
    const auto* value = std::get_if<double>(&cell);
    return value ? plot::number(*value, t.decimals) : std::get<std::string>(cell);
  };
  for (std::size_t j = 0; j < columns; ++j) {
    width[j] = plot::display_width(t.columns[j]);
    for (const auto& row : t.rows) {
      require(row.size() == columns, "story: expected {} cells in each row of the table {}, found {}", columns, t.key, row.size());
      width[j] = std::max(width[j], plot::display_width(text_of(row[j])));
      numbers[j] = numbers[j] && std::holds_alternative<double>(row[j]);
    }
  }
  const auto taken = [&] {
    Index all = plot::display_width(indent_) + 2 * (static_cast<Index>(columns) - 1);
    for (const Index w : width) all += w;
    return all;
  };
  while (columns > 0 && taken() > width_) {
    std::size_t widest = columns;
    for (std::size_t j = 0; j < columns; ++j) {
      if (!numbers[j] && (widest == columns || width[j] > width[widest])) widest = j;
    }
    if (widest == columns || width[widest] <= 8) break;
    --width[widest];
  }

  const auto draw = [&](const auto& cell_of) {
    std::vector<std::vector<std::string>> cells(columns);
    std::size_t height = 1;
    for (std::size_t j = 0; j < columns; ++j) {
      cells[j] = plot::wrap(cell_of(j), width[j]);
      height = std::max(height, cells[j].size());
    }
    std::string out;
    for (std::size_t r = 0; r < height; ++r) {
      std::string line = indent_;
      for (std::size_t j = 0; j < columns; ++j) {
        const std::string text = r < cells[j].size() ? cells[j][r] : "";
        line += (j == 0 ? "" : "  ") + (numbers[j] ? plot::pad_left(text, width[j]) : plot::pad_right(text, width[j]));
      }
      out += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
    }
    return out;
  };
  std::string out = draw([&](std::size_t j) { return t.columns[j]; });
  for (const auto& row : t.rows) out += draw([&](std::size_t j) { return text_of(row[j]); });
  return out;
}

// The title on the left and the formula on the right of one line, or below each other.
std::string heading(Index number, const story::Section& s, plot::Colour colour, Index width) {
  const std::string head = fmt::format("{}. {}", number, s.title);
  const std::string bold = colour == plot::Colour::none ? head : fmt::format("\x1b[1m{}\x1b[0m", head);
  if (plot::display_width(head) + 1 + plot::display_width(s.formula) <= width)
    return s.formula.empty() ? bold + '\n' : fmt::format("{} {}\n", bold, plot::pad_left(s.formula, width - plot::display_width(head) - 1));
  return bold + '\n' + joined(plot::wrap(s.formula, width, kIndent));
}

}  // namespace

std::string story_text(const story::Item& item, plot::Colour colour, Index width, std::string_view indent) {
  return std::visit(Drawing(colour, width, indent), item);
}

std::string story_text(const Story& s, plot::Colour colour, Index width) {
  require(width >= 60, "story: expected a width of 60 columns or more, found {}", width);
  std::string out = joined(plot::wrap(s.title, width));
  for (const std::string& text : s.opening) out += joined(plot::wrap(text, width));
  Index number = 0;
  for (const story::Section& section : s.sections) {
    out += '\n' + heading(++number, section, colour, width);
    for (const story::Item& item : section.items) out += story_text(item, colour, width, kIndent);
  }
  if (!s.closing.empty()) out += '\n';
  for (const std::string& text : s.closing) out += joined(plot::wrap(text, width));
  return out;
}

}  // namespace glassformer
