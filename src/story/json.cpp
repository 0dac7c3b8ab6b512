// A story as one JSON object.
#include <cmath>
#include <nlohmann/json.hpp>

#include "glassformer/story/story.hpp"

namespace glassformer {
namespace {

using Json = nlohmann::ordered_json;

Json value_of(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }
template <class Row>
Json row_of(const Row& row) {
  Json out = Json::array();
  for (const double x : row) out.push_back(value_of(x));
  return out;
}
Json value_of(const Matrix<double>& m) {
  Json out = Json::array();
  for (Index i = 0; i < m.rows(); ++i) out.push_back(row_of(m.row(i)));
  return out;
}
Json value_of(const story::Data& data) {
  return std::visit(
      [](const auto& d) -> Json {
        using T = std::decay_t<decltype(d)>;
        if constexpr (std::is_same_v<T, Vector<double>>)
          return row_of(d);
        else if constexpr (std::is_same_v<T, double> || std::is_same_v<T, Matrix<double>>)
          return value_of(d);
        else
          return Json(d);
      },
      data);
}

// What is said of an item beside its value, and the value itself.
struct Parts {
  Json about, value;
};
Parts parts_of(const story::Paragraph& p) { return {{{"kind", "paragraph"}, {"text", p.text}}, {}}; }
Parts parts_of(const story::Lines& l) { return {{{"kind", "lines"}, {"lines", l.lines}}, {}}; }
Parts parts_of(const story::Number& n) {
  return {{{"kind", "number"}, {"label", n.label}, {"unit", n.unit}, {"decimals", n.decimals}}, value_of(n.value)};
}
Parts parts_of(const story::Grid& g) {
  return {{{"kind", "grid"}, {"rows", g.rows}, {"columns", g.columns}, {"decimals", g.decimals}}, value_of(g.values)};
}
Parts parts_of(const story::Picture& p) {
  return {{{"kind", "picture"}, {"rows", p.rows}, {"columns", p.columns}, {"low", p.low}, {"high", p.high}, {"marked_row", p.marked_row}},
          value_of(p.values)};
}
Parts parts_of(const story::Table& t) {
  Json rows = Json::array();
  for (const auto& row : t.rows) {
    Json cells = Json::array();
    for (const story::Cell& cell : row) {
      const auto* number = std::get_if<double>(&cell);
      cells.push_back(number ? value_of(*number) : Json(std::get<std::string>(cell)));
    }
    rows.push_back(std::move(cells));
  }
  return {{{"kind", "table"}, {"columns", t.columns}, {"decimals", t.decimals}}, std::move(rows)};
}
Parts parts_of(const story::Chart& c) {
  Json series = Json::array();
  for (const plot::Series& s : c.chart.series) series.push_back({{"name", s.name}, {"y", row_of(s.y)}});
  Json about = {{"kind", "chart"},
                {"chart", c.chart.kind == plot::Chart::Kind::bars ? "bars" : "lines"},
                {"title", c.chart.title},
                {"x_label", c.chart.x_label},
                {"y_label", c.chart.y_label},
                {"x_log", c.chart.x_log},
                {"y_log", c.chart.y_log}};
  if (c.chart.kind == plot::Chart::Kind::bars)
    about["names"] = c.chart.names;
  else
    about["x"] = row_of(c.chart.x);
  return {std::move(about), std::move(series)};
}

}  // namespace

std::string story_json(const Story& s) {
  Json sections = Json::array(), values = Json::object();
  for (const story::Section& section : s.sections) {
    Json items = Json::array();
    for (const story::Item& item : section.items) {
      Parts parts = std::visit([](const auto& i) { return parts_of(i); }, item);
      const std::string key = story::item_key(item);
      if (!key.empty()) {
        parts.about["key"] = key;
        values[key] = std::move(parts.value);
      } else if (!parts.value.is_null()) {
        parts.about["value"] = std::move(parts.value);
      }
      items.push_back(std::move(parts.about));
    }
    sections.push_back({{"title", section.title}, {"formula", section.formula}, {"items", std::move(items)}});
  }
  for (const auto& [key, data] : s.data) values[key] = value_of(data);
  Json j = {
      {"component", s.component}, {"title", s.title}, {"opening", s.opening}, {"sections", std::move(sections)}, {"closing", s.closing}};
  j.update(values);
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string story_json(const story::Item& item) {
  Parts parts = std::visit([](const auto& i) { return parts_of(i); }, item);
  if (const std::string key = story::item_key(item); !key.empty()) parts.about["key"] = key;
  const bool is_text = std::holds_alternative<story::Paragraph>(item) || std::holds_alternative<story::Lines>(item);
  if (!is_text) parts.about["value"] = std::move(parts.value);  // null for a number that is not finite
  return parts.about.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace glassformer
