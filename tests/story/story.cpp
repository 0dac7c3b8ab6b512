// A story drawn as text and written as JSON: the same numbers.
#include "glassformer/story/story.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

Story example() {
  Story s;
  s.component = "example", s.title = "A story";
  s.opening = {"It begins."};
  story::Section& first = s.section("Numbers", "y = 2·x");
  first.items.push_back(story::Paragraph{"A sentence that is long enough to be broken into lines when the terminal is a narrow one, as here."});
  first.items.push_back(story::Lines{{"1·2 = 2", "2·2 = 4"}});
  first.items.push_back(story::Number{"bytes", "bytes of the cache", 4096, 0, "bytes"});
  first.items.push_back(story::Grid{.key = "y", .values = Matrix<double>{{1, -std::numeric_limits<double>::infinity()}, {0.25, 4}}, .rows = {"a", "b\n"}});
  story::Section& second = s.section("Pictures");
  second.items.push_back(story::Picture{.key = "pattern", .values = Matrix<double>{{1, std::numeric_limits<double>::quiet_NaN()}, {0.5, 0.5}}});
  second.items.push_back(story::Table{.key = "table", .columns = {"name", "value"}, .rows = {{std::string("half"), 0.5}, {std::string("two"), 2.0}}});
  plot::Chart chart;
  chart.x = {1, 2}, chart.series = {{"loss", {3, 1}}};
  second.items.push_back(story::Chart{"losses", chart});
  s.closing = {"It ends."};
  s.data.emplace_back("ids", std::vector<Token>{1, 2});
  s.data.emplace_back("deviation", 0.5);
  s.data.emplace_back("row", Vector<double>{{1, 2, 3}});
  s.data.emplace_back("bytes_read", std::string("a\xff"));
  return s;
}

}  // namespace

TEST_CASE("story: the text has numbered sections, formulas on the right, and keeps to the width") {
  const std::string text = story_text(example());
  CHECK(text.starts_with("A story\nIt begins.\n\n1. Numbers "));
  CHECK(text.find("y = 2·x\n") != std::string::npos);
  CHECK(text.find("   2·2 = 4\n") != std::string::npos);
  CHECK(text.find("   bytes of the cache            4096 bytes\n") != std::string::npos);
  CHECK(text.find("   b↵  0.250  4.000\n") != std::string::npos);
  CHECK(text.find("\n2. Pictures\n") != std::string::npos);
  CHECK(text.find("   half  0.500\n   two   2.000\n") != std::string::npos);
  CHECK(text.ends_with("\nIt ends.\n"));
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(story_text(example(), plot::Colour::rgb).find("\x1b[1m1. Numbers\x1b[0m") != std::string::npos);
  for (const Index width : {60, 80, 120}) {
    std::istringstream in(story_text(example(), plot::Colour::ansi256, width));
    for (std::string line; std::getline(in, line);) CHECK_MESSAGE(plot::display_width(line) <= width, line);
  }
  CHECK_THROWS_WITH_AS(story_text(example(), plot::Colour::none, 59), "story: expected a width of 60 columns or more, found 59", std::invalid_argument);
}

TEST_CASE("story: a table's texts give way, evenly, until its columns fit") {
  const std::string longer(200, 'x');
  const story::Item table = story::Table{.key = "", .columns = {"before", "after", "n"}, .rows = {{longer, longer, 1.5}}};
  std::istringstream in(story_text(table, plot::Colour::none, 66));
  std::string line;
  std::getline(in, line);
  std::getline(in, line);
  CHECK(line == std::string(28, 'x') + "  " + std::string(29, 'x') + "  1.500");
}

TEST_CASE("story: the JSON object has the sections and every value under its key") {
  const std::string text = story_json(example());
  CHECK(text.find('\n') == std::string::npos);
  const auto j = nlohmann::json::parse(text);
  CHECK(j["component"] == "example");
  CHECK(j["sections"].size() == 2);
  CHECK(j["sections"][0]["items"][2] == nlohmann::json{{"kind", "number"}, {"key", "bytes"}, {"label", "bytes of the cache"}, {"unit", "bytes"}, {"decimals", 0}});
  CHECK(j["bytes"] == 4096);
  CHECK(j["y"] == nlohmann::json::parse("[[1, null], [0.25, 4]]"));
  CHECK(j["pattern"] == nlohmann::json::parse("[[1, null], [0.5, 0.5]]"));
  CHECK(j["table"] == nlohmann::json::parse(R"([["half", 0.5], ["two", 2]])"));
  CHECK(j["losses"] == nlohmann::json::parse(R"([{"name": "loss", "y": [3, 1]}])"));
  CHECK(j["ids"] == nlohmann::json::parse("[1, 2]"));
  CHECK(j["row"] == nlohmann::json::parse("[1, 2, 3]"));
  CHECK(j["bytes_read"] == "a\uFFFD");
  CHECK(j["deviation"] == 0.5);
}

TEST_CASE("story: values are found by their keys; another key is answered with those that there are") {
  const Story s = example();
  CHECK(s.number("bytes") == 4096);
  CHECK(s.number("deviation") == 0.5);
  CHECK(s.matrix("y")(1, 0) == 0.25);
  CHECK(s.matrix("pattern").rows() == 2);
  CHECK_THROWS_WITH_AS(s.number("y"), "story: no number called y; there are bytes, y, pattern, table, losses, ids, deviation, row, bytes_read", std::invalid_argument);
  CHECK_THROWS_AS(s.matrix("nothing"), std::invalid_argument);
}

}  // namespace glassformer
