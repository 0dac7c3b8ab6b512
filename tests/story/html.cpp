#include <doctest/doctest.h>

#include <cmath>

#include "glassformer/story/story.hpp"

using namespace glassformer;

TEST_CASE("items as HTML, whatever bytes they hold") {
  CHECK(story_html(story::Paragraph{"a < b & c"}) == "<p>a &lt; b &amp; c</p>\n");
  CHECK(story_html(story::Lines{{"1  2", "3\xff<"}}) == "<pre>1  2\n3\\xff&lt;\n</pre>\n");
  CHECK(story_html(story::Number{"n", "bytes", 12, 0, "B"}) == "<p>bytes: <b>12</b> B</p>\n");
  const std::string table = story_html(story::Table{"t", {"name", "value"}, {{"<x>", 1.5}, {"y", -0.0}}, 2});
  CHECK(table.find("&lt;x&gt;</td><td style=\"text-align:right\">1.50") != std::string::npos);
  CHECK(table.find("right\">0.00") != std::string::npos);
  CHECK_THROWS_AS(story_html(story::Table{"t", {"one"}, {{"a", 1.0}}}), std::invalid_argument);
  Matrix<double> m(2, 2);
  m << 1, 2, 3, INFINITY;
  const std::string grid = story_html(story::Grid{"g", m, {"r", "s"}, {}, 1});
  CHECK(grid.find(">s</th><td style=\"text-align:right\">3.0</td><td style=\"text-align:right\">∞</td>") != std::string::npos);
  CHECK_THROWS_AS(story_html(story::Grid{"g", m, {"r"}}), std::invalid_argument);
  CHECK(story_html(story::Picture{"p", m}).starts_with("<svg "));
}

TEST_CASE("one item as JSON is what stands in the story's object, with its value") {
  CHECK(story_json(story::Number{"n", "bytes", 12, 0, "B"}) == R"({"kind":"number","label":"bytes","unit":"B","decimals":0,"key":"n","value":12.0})");
  CHECK(story_json(story::Number{"n", "none", NAN, 0}).find(R"("value":null)") != std::string::npos);
  CHECK(story_json(story::Paragraph{"a"}) == R"({"kind":"paragraph","text":"a"})");
  CHECK(story::item_key(story::Paragraph{"a"}).empty());
  CHECK(story::item_key(story::Number{"n", "", 1}) == "n");
}
