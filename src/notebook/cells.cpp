// A program in jupytext's percent form, cut into cells.
#include <algorithm>

#include "glassformer/notebook/document.hpp"

namespace glassformer {
namespace {

std::string_view trimmed(std::string_view line) {
  const auto first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t\r");
  return first == std::string_view::npos ? std::string_view() : line.substr(first, last - first + 1);
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// The lines as one text, without empty ones at either end and without the margin that all share.
std::string joined(std::vector<std::string_view> lines) {
  const auto empty = [](std::string_view line) { return trimmed(line).empty(); };
  while (!lines.empty() && empty(lines.back())) lines.pop_back();
  while (!lines.empty() && empty(lines.front())) lines.erase(lines.begin());
  std::size_t margin = std::string_view::npos;
  for (const std::string_view line : lines) {
    if (!empty(line)) margin = std::min(margin, line.find_first_not_of(' '));
  }
  std::string text;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) text += '\n';
    if (!empty(lines[i])) text += lines[i].substr(margin);
  }
  return text;
}

}  // namespace

Expected<std::vector<NotebookCell>> notebook_cells(std::string_view source, std::string_view file) {
  std::vector<NotebookCell> cells;
  NotebookCell cell{false, "", 1, 0};
  std::vector<std::string_view> kept;
  int number = 0;
  const auto finish = [&] {
    cell.text = joined(std::move(kept));
    cell.last_line = number - 1;
    if (!cell.text.empty()) cells.push_back(std::move(cell));
    kept.clear();
  };
  for (const std::string_view line : lines_of(source)) {
    ++number;
    const std::string_view text = trimmed(line);
    if (text.starts_with("// %%")) {
      finish();
      const std::string_view kind = trimmed(text.substr(5));
      if (!kind.empty() && kind != "[markdown]") return unexpected("{}:{}: expected // %% or // %% [markdown], found {}", file, number, text);
      cell = {!kind.empty(), "", number, 0};
    } else if (cell.markdown && !text.empty()) {
      if (!text.starts_with("//")) return unexpected("{}:{}: expected a comment in a markdown cell, or // %% before code, found {}", file, number, text);
      kept.push_back(text.substr(text.starts_with("// ") ? 3 : 2));
    } else {
      kept.push_back(line);
    }
  }
  ++number;
  finish();
  return cells;
}

}  // namespace glassformer
