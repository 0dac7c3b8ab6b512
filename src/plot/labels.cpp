#include "plot/labels.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer::plot {

std::vector<std::string> labels_of(const char* what, const std::vector<std::string>& labels, Index count, Index label_width) {
  require(labels.empty() || static_cast<Index>(labels.size()) == count, "plot: expected {} {} labels, found {}", count, what,
          labels.size());
  require(label_width >= 2, "plot: expected labels of 2 columns or more, found {}", label_width);
  std::vector<std::string> out;
  for (Index i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    out.push_back(labels.empty() ? std::to_string(i) : fit(visible(labels[at], false), label_width));
  }
  return out;
}

std::string name_of(const std::string& text, Index columns) {
  const std::size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
  if (first == std::string::npos) return fit(visible(text), columns);
  return fit(visible(text.substr(0, first)) + visible(text.substr(first, last + 1 - first), false) + visible(text.substr(last + 1)), columns);
}

Index widest(const std::vector<std::string>& labels) {
  Index width = 0;
  for (const auto& label : labels) width = std::max(width, display_width(label));
  return width;
}

namespace {
std::string left_out(const char* what, const std::vector<Index>& shown, Index count) {
  const auto mark = std::find(shown.begin(), shown.end(), Index(-1));
  if (mark == shown.end()) return "";
  const Index first = *(mark - 1) + 1, last = mark + 1 == shown.end() ? count - 1 : *(mark + 1) - 1;
  return first == last ? fmt::format("{} {} of {}", what, first, count) : fmt::format("{}s {} to {} of {}", what, first, last, count);
}
}  // namespace

std::string left_out_note(const std::vector<Index>& rows, Index row_count, const std::vector<Index>& columns, Index column_count,
                          Index width, const std::string& indent) {
  const std::string r = left_out("row", rows, row_count), c = left_out("column", columns, column_count);
  if (r.empty() && c.empty()) return "";
  std::string out;
  for (const auto& line : wrap("(left out: " + r + (r.empty() || c.empty() ? "" : "; ") + c + ")", width, indent)) out += line + '\n';
  return out;
}

}  // namespace glassformer::plot
