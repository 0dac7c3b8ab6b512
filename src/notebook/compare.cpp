#include "notebook/compare.hpp"

#include <cmath>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer::notebook {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kMost = 3;  // differences told of one output

std::string shown(const Json& j) {
  std::string text = j.is_string() ? j.get<std::string>() : j.dump(-1, ' ', false, Json::error_handler_t::replace);
  return plot::fit(plot::visible(text, false), 60);
}

class Comparing {
 public:
  Comparing(Comparison how, int decimals, const std::string& place, std::vector<std::string>& out)
      : how_(how), decimals_(decimals), place_(place), out_(out), first_(out.size()) {}

  void operator()(const Json& found, const Json& expected, const std::string& path) {
    if (out_.size() - first_ >= kMost) return;
    if (found.is_number() && expected.is_number()) {
      if (!near(found.get<double>(), expected.get<double>())) differ(path, shown(expected), shown(found));
    } else if (found.type() != expected.type()) {
      differ(path, shown(expected), shown(found));
    } else if (found.is_array()) {
      if (found.size() != expected.size()) return differ(path, fmt::format("{} of them", expected.size()), std::to_string(found.size()));
      for (std::size_t i = 0; i < found.size(); ++i) (*this)(found[i], expected[i], fmt::format("{}[{}]", path, i));
    } else if (found.is_object()) {
      for (const auto& [key, value] : found.items())
        (*this)(value, expected.contains(key) ? expected[key] : Json("nothing"), path.empty() ? key : fmt::format("{}.{}", path, key));
      for (const auto& [key, value] : expected.items()) {
        if (!found.contains(key)) differ(path.empty() ? key : fmt::format("{}.{}", path, key), shown(value), "nothing");
      }
    } else if (found != expected) {
      differ(path, shown(expected), shown(found));
    }
  }

 private:
  bool near(double found, double expected) const {
    if (how_.kind == Comparison::Kind::within) return std::abs(found - expected) <= how_.tolerance;
    return decimals_ >= 0 ? plot::number(found, decimals_) == plot::number(expected, decimals_) : fmt::format("{:.6g}", found) == fmt::format("{:.6g}", expected);
  }
  void differ(const std::string& path, const std::string& expected, const std::string& found) {
    out_.push_back(fmt::format("{}: {}: expected {}{}, found {}", place_, path, expected,
                               how_.kind == Comparison::Kind::within ? fmt::format(" (± {:g})", how_.tolerance) : "", found));
  }

  Comparison how_;
  int decimals_;  // that numbers are printed with; −1: six digits
  const std::string& place_;
  std::vector<std::string>& out_;
  std::size_t first_;
};

// What stays of an item whose numbers were trained.
Json kind_of(const Json& item) {
  Json kind = Json::object();
  for (const char* name : {"kind", "key", "label", "unit", "chart", "title", "names", "x_label", "y_label"}) {
    if (item.contains(name)) kind[name] = item[name];
  }
  if (item.value("kind", "") == "table" && item.contains("columns") && item.contains("value")) {
    kind["columns"] = item["columns"];
    kind["rows"] = Json::array();  // each by its label: its first cell, when that is text
    for (const Json& row : item["value"]) kind["rows"].push_back(row.is_array() && !row.empty() && row[0].is_string() ? row[0] : Json());
  }
  if (item.value("kind", "") == "chart" && item.contains("value")) {
    kind["series"] = Json::array();
    for (const Json& s : item["value"]) kind["series"].push_back(s.value("name", ""));
  }
  return kind;
}

}  // namespace

void compare_values(const Json& found, const Json& expected, Comparison how, const std::string& place, std::vector<std::string>& differences) {
  if (!expected.is_object() || found.value("kind", "") != expected.value("kind", "")) {
    differences.push_back(fmt::format("{}: kind: expected {}, found {}", place, shown(expected.is_object() ? expected.value("kind", Json()) : expected), found.value("kind", "")));
    return;
  }
  Json a = found, b = expected;
  if (found.value("kind", "") == "claim") a.erase("measured"), b.erase("measured");
  if (how.kind == Comparison::Kind::kind_only) a = kind_of(a), b = kind_of(b);
  const Json decimals = found.value("decimals", Json());
  Comparing(how, decimals.is_number_integer() ? decimals.get<int>() : -1, place, differences)(a, b, "");
}

}  // namespace glassformer::notebook
