// Cells, the executed notebook, and its comparison.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "glassformer/notebook/document.hpp"

using namespace glassformer;

namespace {

const std::string kSource =
    "// %% [markdown]\n"     // 1
    "// # Title\n"           // 2
    "//\n"                   // 3
    "// A sentence.\n"       // 4
    "\n"                     // 5
    "// %%\n"                // 6
    "#include <cmath>\n"     // 7
    "int main() {\n"         // 8
    "  // %% [markdown]\n"   // 9
    "  // ## Part\n"         // 10
    "  // %%\n"              // 11
    "  int x = 1;\n"         // 12
    "\n"                     // 13
    "    int y = 2;\n"       // 14
    "  // %%\n"              // 15
    "}\n";                   // 16

NotebookRun run_of(std::string source = kSource) { return {"42_cache.cpp", std::move(source), 1.25}; }

Notebook sample(double number = 2.5, double drawn = 1.0, bool held = true, const std::string& series = "loss") {
  Notebook nb({.seed = 3});
  nb.show(story::Number{"number", "a number", number, 2, "nats"}, exactly, 12);
  nb.show(story::Number{"near", "another", number, 4}, within(0.1), 12);
  plot::Chart c;
  c.x = {1, 2}, c.series = {{series, {drawn, 2 * drawn}}};
  nb.show(story::Chart{"curve", c}, kind_only, 14);
  nb.claim("it holds", held, fmt::format("{}", drawn), 14);
  return nb;
}

std::string written(const Notebook& nb, const NotebookRun& run = run_of()) {
  const auto text = notebook_ipynb(nb, run);
  REQUIRE(text);
  return *text;
}

}  // namespace

TEST_CASE("cells are the program's, at any indentation") {
  const auto cells = notebook_cells(kSource, "f.cpp");
  REQUIRE(cells);
  REQUIRE(cells->size() == 5);
  CHECK((*cells)[0].markdown);
  CHECK((*cells)[0].text == "# Title\n\nA sentence.");
  CHECK((*cells)[1].text == "#include <cmath>\nint main() {");
  CHECK((*cells)[2].text == "## Part");
  CHECK((*cells)[3].text == "int x = 1;\n\n  int y = 2;");
  CHECK((*cells)[3].first_line == 11);
  CHECK((*cells)[3].last_line == 14);
  CHECK((*cells)[4].text == "}");
}

TEST_CASE("what is no cell is said with its line") {
  CHECK(notebook_cells("// %% [raw]\n", "f.cpp").error() == "f.cpp:1: expected // %% or // %% [markdown], found // %% [raw]");
  CHECK(notebook_cells("// %% [markdown]\n// a\nint x;\n", "f.cpp").error() ==
        "f.cpp:3: expected a comment in a markdown cell, or // %% before code, found int x;");
  CHECK(notebook_cells("", "f.cpp")->empty());
  Notebook nb({});
  nb.show(story::Paragraph{"a"}, exactly, 99);
  CHECK(notebook_ipynb(nb, run_of()).error() == "42_cache.cpp:99: expected an output in a code cell, found none there: was the program built from this file?");
}

TEST_CASE("outputs take the line of their call and stand in its cell") {
  Notebook nb({});
  nb.show(story::Paragraph{"here"}, exactly); const int line = __LINE__;
  CHECK(nb.outputs()[0].line == line);
  const auto j = nlohmann::json::parse(written(sample()));
  CHECK(j["nbformat"] == 4);
  CHECK(j["nbformat_minor"] == 5);
  CHECK(j["metadata"]["glassformer"]["seed"] == 3);
  const auto& cells = j["cells"];
  REQUIRE(cells.size() == 5);
  CHECK(cells[0]["cell_type"] == "markdown");
  CHECK(cells[1]["outputs"].empty());
  REQUIRE(cells[3]["outputs"].size() == 4);
  CHECK(cells[3]["id"] == "cell-04");
  CHECK(cells[3]["outputs"][2]["data"].contains("image/svg+xml"));
  CHECK(cells[3]["outputs"][0]["data"]["text/html"][0] == "<p>a number: <b>2.50</b> nats</p>\n");
  CHECK(written(sample()) == written(sample()));
}

TEST_CASE("a key and a sentence are used once") {
  Notebook nb = sample();
  CHECK_THROWS_AS(nb.show(story::Number{"number", "again", 1}, exactly), std::invalid_argument);
  CHECK_THROWS_AS(nb.claim("it holds", true, ""), std::invalid_argument);
  nb.show(story::Paragraph{"no key"}, exactly), nb.show(story::Paragraph{"no key"}, exactly);
}

TEST_CASE("each output is compared as it says") {
  const std::string committed = written(sample());
  const auto differences = [&](const Notebook& nb, const NotebookRun& run = run_of()) { return notebook_differences(nb, run, committed, "n.ipynb"); };
  CHECK(differences(sample()).empty());
  CHECK(differences(sample(2.501)).empty());                  // as it is printed, with two decimals
  CHECK(differences(sample(2.5, 7.0)).empty());               // trained: the kind alone
  CHECK(differences(sample(2.51)) == std::vector<std::string>{"n.ipynb: cell 4, output 1 (number): value: expected 2.5, found 2.51"});
  const auto far = differences(sample(3));
  REQUIRE(far.size() == 2);
  CHECK(far[1] == "n.ipynb: cell 4, output 2 (near): value: expected 2.5 (± 0.1), found 3.0");
  CHECK(differences(sample(2.5, 1, false)) == std::vector<std::string>{"n.ipynb: cell 4, output 4 (it holds): held: expected true, found false"});
  CHECK(differences(sample(2.5, 1, true, "other")) ==
        std::vector<std::string>{"n.ipynb: cell 4, output 3 (curve): series[0]: expected loss, found other"});
  CHECK(differences(sample(NAN)).size() == 2);
}

TEST_CASE("a stale, foreign or broken notebook is said in one line") {
  const Notebook nb = sample();
  const std::string committed = written(nb);
  std::string changed = kSource;
  changed.replace(changed.find("int x = 1"), 9, "int x = 7");
  CHECK(notebook_differences(nb, run_of(changed), committed, "n.ipynb") ==
        std::vector<std::string>{"n.ipynb: cell 4: stale: its source differs from 42_cache.cpp line 11: write it again with ./run notebooks"});
  CHECK(notebook_differences(nb, run_of(kSource + "// %%\nint z;\n"), committed, "n.ipynb").size() == 1);
  Notebook other({.seed = 4});
  CHECK(notebook_differences(other, run_of(), committed, "n.ipynb") == std::vector<std::string>{"n.ipynb: expected a notebook of seed 4, found seed 3"});
  for (const char* text : {"", "{", "[]", "{\"cells\": 3}", "\xff\xfe", "{\"cells\": [1, 2, 3]}"}) {
    CHECK(notebook_differences(nb, run_of(), text, "n.ipynb").size() == 1);
  }
  auto j = nlohmann::json::parse(committed);
  j["cells"][3]["outputs"].erase(0);
  CHECK(notebook_differences(nb, run_of(), j.dump(), "n.ipynb").front() == "n.ipynb: cell 4: expected 3 outputs, found 4");
  j["cells"][3]["outputs"][0]["metadata"] = 3;
  CHECK(notebook_differences(nb, run_of(), j.dump(), "n.ipynb") ==
        std::vector<std::string>{"n.ipynb: cell 4: expected outputs with metadata.glassformer.value, found one without"});
}

TEST_CASE("of what was trained, labels and shapes are compared") {
  const auto shown = [](const std::string& label, std::size_t rows, const std::string& title, const std::string& bar, double number) {
    Notebook nb({.seed = 3});
    story::Table table{"table", {"model", "loss"}, {}};
    for (std::size_t i = 0; i < rows; ++i) table.rows.push_back({i == 1 ? label : "other", number});
    plot::Chart bars{plot::Chart::Kind::bars, title};
    bars.names = {"first", bar}, bars.series = {{"loss", {number, number}}};
    nb.show(table, kind_only, 12), nb.show(story::Chart{"bars", bars}, kind_only, 12);
    return nb;
  };
  const std::string committed = written(shown("rope", 2, "title", "second", 1));
  const auto differences = [&](const Notebook& nb) { return notebook_differences(nb, run_of(), committed, "n.ipynb"); };
  CHECK(differences(shown("rope", 2, "title", "second", 7)).empty());  // numbers may differ
  CHECK(differences(shown("alibi", 2, "title", "second", 1)) ==
        std::vector<std::string>{"n.ipynb: cell 4, output 1 (table): rows[1]: expected rope, found alibi"});
  CHECK(differences(shown("rope", 3, "title", "second", 1)) == std::vector<std::string>{"n.ipynb: cell 4, output 1 (table): rows: expected 2 of them, found 3"});
  CHECK(differences(shown("rope", 2, "another", "second", 1)) == std::vector<std::string>{"n.ipynb: cell 4, output 2 (bars): title: expected title, found another"});
  CHECK(differences(shown("rope", 2, "title", "third", 1)) == std::vector<std::string>{"n.ipynb: cell 4, output 2 (bars): names[1]: expected second, found third"});
}
