#include "glassformer/notebook/document.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "glassformer/plot/svg.hpp"
#include "glassformer/plot/text.hpp"
#include "notebook/compare.hpp"

namespace glassformer {
namespace {

using Json = nlohmann::ordered_json;

// Jupyter's way to store text: a list of lines, each but the last with its newline.
Json stored_text(std::string_view text) {
  Json lines = Json::array();
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

std::string plain_text(const Json& stored) {  // one text, however it is stored
  if (stored.is_string()) return stored.get<std::string>();
  std::string text;
  if (stored.is_array()) {
    for (const Json& line : stored) text += line.is_string() ? line.get<std::string>() : "";
  }
  return text;
}

const char* name_of(Comparison::Kind kind) {
  return kind == Comparison::Kind::exactly ? "exactly" : kind == Comparison::Kind::within ? "within" : "kind_only";
}

std::string claim_html(const Claim& c) {
  return fmt::format("<p><b style=\"color:{}\">{}</b> <b>{}</b><br>{}</p>\n", c.held ? "#009e73" : "#d55e00", c.held ? "✓" : "✗ FALSE:",
                     plot::escaped(c.sentence), plot::escaped(c.measured));
}

// What the comparison reads of an output: the item or the claim, as JSON.
Json value_of(const Notebook::Output& o) {
  if (const auto* claim = std::get_if<Claim>(&o.what)) return {{"kind", "claim"}, {"claim", claim->sentence}, {"held", claim->held}, {"measured", claim->measured}};
  return Json::parse(story_json(std::get<story::Item>(o.what)));
}

Json stored_output(const Notebook::Output& o) {
  Json data;
  if (const auto* claim = std::get_if<Claim>(&o.what)) {
    data["text/plain"] = stored_text(fmt::format("{} {}\n  {}", claim->held ? "✓" : "✗ FALSE:", claim->sentence, claim->measured));
    data["text/html"] = stored_text(claim_html(*claim));
  } else {
    const auto& item = std::get<story::Item>(o.what);
    const bool drawn = std::holds_alternative<story::Chart>(item) || std::holds_alternative<story::Picture>(item);
    data["text/plain"] = stored_text(story_text(item));
    data[drawn ? "image/svg+xml" : "text/html"] = stored_text(story_html(item));
  }
  Json compare = {{"compare", name_of(o.how.kind)}};
  if (o.how.kind == Comparison::Kind::within) compare["tolerance"] = o.how.tolerance;
  compare["value"] = value_of(o).dump(-1, ' ', false, Json::error_handler_t::replace);  // as text, so that it is one line of the file
  return {{"output_type", "display_data"}, {"metadata", {{"glassformer", std::move(compare)}}}, {"data", std::move(data)}};
}

Json metadata_of(const Notebook& nb, const NotebookRun& run) {
  return {{"kernelspec", {{"display_name", "C++20"}, {"language", "C++20"}, {"name", "xcpp20"}}},
          {"language_info",
           {{"name", "C++20"}, {"file_extension", ".cpp"}, {"mimetype", "text/x-c++src"}, {"codemirror_mode", "text/x-c++src"}, {"pygments_lexer", "cpp"}}},
          {"glassformer",
           {{"program", run.file},
            {"seed", nb.seed()},
            {"seconds", std::round(run.seconds * 10) / 10},
            {"budget_seconds", run.budget_seconds},
            {"within_budget", run.seconds <= run.budget_seconds}}}};
}

std::string label_of(const Json& value) {
  for (const char* name : {"key", "claim"}) {
    if (value.contains(name)) return value[name].get<std::string>();
  }
  return value.value("kind", "?");
}

// An output of the committed notebook.
struct Committed {
  Json value;
  std::string compare;
};
Expected<std::vector<Committed>> committed_outputs(const Json& cell) {
  std::vector<Committed> all;
  for (const Json& output : cell.value("outputs", Json::array())) {
    try {
      const Json& ours = output.at("metadata").at("glassformer");
      all.push_back({Json::parse(ours.at("value").get<std::string>()), ours.at("compare").get<std::string>()});
    } catch (const std::exception&) {
      return unexpected("expected outputs with metadata.glassformer.value, found one without");
    }
  }
  return all;
}

// The outputs of a cell, found and expected.
void compare_outputs(const std::vector<const Notebook::Output*>& found, const std::vector<Committed>& expected, const std::string& where,
                     std::vector<std::string>& differences) {
  if (found.size() != expected.size()) differences.push_back(fmt::format("{}: expected {} outputs, found {}", where, expected.size(), found.size()));
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    const Json value = value_of(*found[i]);
    const std::string place = fmt::format("{}, output {} ({})", where, i + 1, label_of(value));
    if (expected[i].compare != name_of(found[i]->how.kind))
      differences.push_back(fmt::format("{}: expected to be compared {}, found {}: write the notebook again", place, expected[i].compare, name_of(found[i]->how.kind)));
    else
      notebook::compare_values(value, expected[i].value, found[i]->how, place, differences);
  }
}

std::vector<const Notebook::Output*> outputs_of(const Notebook& nb, const NotebookCell& cell) {
  std::vector<const Notebook::Output*> all;
  for (const auto& o : nb.outputs()) {
    if (o.line >= cell.first_line && o.line <= cell.last_line) all.push_back(&o);
  }
  return all;
}

Expected<std::vector<NotebookCell>> cells_for(const Notebook& nb, const NotebookRun& run) {
  auto cells = notebook_cells(run.source, run.file);
  if (!cells) return cells;
  for (const auto& o : nb.outputs()) {
    const bool placed = std::ranges::any_of(*cells, [&](const NotebookCell& c) { return !c.markdown && o.line >= c.first_line && o.line <= c.last_line; });
    if (!placed) return unexpected("{}:{}: expected an output in a code cell, found none there: was the program built from this file?", run.file, o.line);
  }
  return cells;
}

}  // namespace

Expected<std::string> notebook_ipynb(const Notebook& nb, const NotebookRun& run) {
  const auto cells = cells_for(nb, run);
  if (!cells) return tl::unexpected(cells.error());
  Json stored = Json::array();
  int executed = 0;
  for (std::size_t i = 0; i < cells->size(); ++i) {
    const NotebookCell& c = (*cells)[i];
    Json cell = {{"cell_type", c.markdown ? "markdown" : "code"}, {"id", fmt::format("cell-{:02}", i + 1)}, {"metadata", Json::object()}, {"source", stored_text(c.text)}};
    if (!c.markdown) {
      cell["execution_count"] = ++executed;
      cell["outputs"] = Json::array();
      for (const auto* o : outputs_of(nb, c)) cell["outputs"].push_back(stored_output(*o));
    }
    stored.push_back(std::move(cell));
  }
  const Json whole = {{"cells", std::move(stored)}, {"metadata", metadata_of(nb, run)}, {"nbformat", 4}, {"nbformat_minor", 5}};
  return whole.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<std::string> notebook_differences(const Notebook& nb, const NotebookRun& run, std::string_view committed, std::string_view name) {
  const Json whole = Json::parse(committed, nullptr, false);
  if (!whole.is_object() || !whole.contains("cells") || !whole["cells"].is_array()) return {fmt::format("{}: expected a Jupyter notebook, found something else", name)};
  const auto cells = cells_for(nb, run);
  if (!cells) return {cells.error()};
  std::vector<std::string> differences;
  const Json ours = whole.value(Json::json_pointer("/metadata/glassformer"), Json::object());
  if (!ours.is_object() || ours.value("seed", Json()) != Json(nb.seed()))
    return {fmt::format("{}: expected a notebook of seed {}, found seed {}", name, nb.seed(), ours.is_object() ? ours.value("seed", Json()).dump() : "none")};
  const Json& stored = whole["cells"];
  if (stored.size() != cells->size()) {
    return {fmt::format("{}: stale: it has {} cells, {} has {}: write it again with ./run notebooks", name, stored.size(), run.file, cells->size())};
  }
  for (std::size_t i = 0; i < cells->size(); ++i) {
    const NotebookCell& c = (*cells)[i];
    const std::string where = fmt::format("{}: cell {}", name, i + 1);
    if (!stored[i].is_object() || stored[i].value("cell_type", "") != (c.markdown ? "markdown" : "code") || plain_text(stored[i].value("source", Json())) != c.text) {
      differences.push_back(fmt::format("{}: stale: its source differs from {} line {}: write it again with ./run notebooks", where, run.file, c.first_line));
      continue;
    }
    const auto expected = committed_outputs(stored[i]);
    if (!expected)
      differences.push_back(fmt::format("{}: {}", where, expected.error()));
    else
      compare_outputs(outputs_of(nb, c), *expected, where, differences);
  }
  return differences;
}

}  // namespace glassformer
