// An item of a story as HTML.
#include "glassformer/core/require.hpp"
#include "glassformer/plot/svg.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {
namespace {

constexpr Index kMostRows = 64, kMostColumns = 32;  // of a grid of numbers; what lies between is left out

// Any bytes as visible, escaped text.
std::string shown_text(std::string_view text) { return plot::escaped(plot::visible(text, false)); }
std::string cell(const char* tag, std::string_view text, bool right) {
  return fmt::format("<{0} style=\"text-align:{1}\">{2}</{0}>", tag, right ? "right" : "left", text);
}

struct Html {
  std::string operator()(const story::Paragraph& p) const { return fmt::format("<p>{}</p>\n", shown_text(p.text)); }

  std::string operator()(const story::Lines& l) const {
    std::string out = "<pre>";
    for (const std::string& line : l.lines) out += shown_text(line) + '\n';
    return out + "</pre>\n";
  }

  std::string operator()(const story::Number& n) const {
    return fmt::format("<p>{}: <b>{}</b>{}{}</p>\n", shown_text(n.label), plot::number(n.value, n.decimals), n.unit.empty() ? "" : " ", shown_text(n.unit));
  }

  std::string operator()(const story::Grid& g) const {
    const auto label = [](const std::vector<std::string>& labels, Index i) {
      return labels.empty() ? std::to_string(i) : shown_text(labels[static_cast<std::size_t>(i)]);
    };
    const auto fits = [](const std::vector<std::string>& labels, Index count) { return labels.empty() || static_cast<Index>(labels.size()) == count; };
    require(fits(g.rows, g.values.rows()) && fits(g.columns, g.values.cols()), "story: expected a label for each row and column of the grid {}", g.key);
    const auto rows = plot::shown(g.values.rows(), kMostRows), columns = plot::shown(g.values.cols(), kMostColumns);
    std::string out = "<table><thead><tr><th></th>";
    for (const Index j : columns) out += cell("th", j < 0 ? "…" : label(g.columns, j), true);
    out += "</tr></thead><tbody>\n";
    for (const Index i : rows) {
      out += "<tr>" + cell("th", i < 0 ? "…" : label(g.rows, i), false);
      for (const Index j : columns) out += cell("td", i < 0 || j < 0 ? "…" : plot::number(g.values(i, j), g.decimals), true);
      out += "</tr>\n";
    }
    return out + "</tbody></table>\n";
  }

  std::string operator()(const story::Table& t) const {
    const auto is_number = [&](std::size_t j) {
      bool numbers = !t.rows.empty();
      for (const auto& row : t.rows) {
        require(row.size() == t.columns.size(), "story: expected {} cells in each row of the table {}, found {}", t.columns.size(), t.key, row.size());
        numbers = numbers && std::holds_alternative<double>(row[j]);
      }
      return numbers;
    };
    std::string out = "<table><thead><tr>";
    for (std::size_t j = 0; j < t.columns.size(); ++j) out += cell("th", shown_text(t.columns[j]), is_number(j));
    out += "</tr></thead><tbody>\n";
    for (const auto& row : t.rows) {
      out += "<tr>";
      for (const story::Cell& c : row) {
        const auto* value = std::get_if<double>(&c);
        out += cell("td", value ? plot::number(*value, t.decimals) : shown_text(std::get<std::string>(c)), value != nullptr);
      }
      out += "</tr>\n";
    }
    return out + "</tbody></table>\n";
  }

  std::string operator()(const story::Picture& p) const {
    plot::HeatMapOptions o;
    o.row_labels = p.rows, o.column_labels = p.columns, o.low = p.low, o.high = p.high, o.marked_row = p.marked_row;
    return plot::heat_map_svg(p.values, o);
  }

  std::string operator()(const story::Chart& c) const { return plot::chart_svg(c.chart); }
};

}  // namespace

std::string story_html(const story::Item& item) { return std::visit(Html{}, item); }

}  // namespace glassformer
