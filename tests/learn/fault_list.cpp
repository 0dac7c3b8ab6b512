// What is told of each fault is there: the line where it would live, and the test that would have caught it.
#include <doctest/doctest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "glassformer/learn/fault.hpp"

namespace glassformer {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(std::filesystem::path(GLASSFORMER_SOURCE_DIR) / path, std::ios::binary);
  CHECK_MESSAGE(file.good(), "expected a file ", path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("faults: at least 14, numbered from 1, each with all that is told of it") {
  CHECK(faults().size() >= 14);
  std::set<std::string> ids, titles, symptoms;
  for (std::size_t i = 0; i < faults().size(); ++i) {
    const Fault& f = faults()[i];
    CAPTURE(f.id);
    CHECK(f.number == static_cast<Index>(i + 1));
    CHECK(&fault(f.number) == &f);
    CHECK(&fault(f.id) == &f);
    CHECK((f.hints.size() == 2 || f.hints.size() == 3));
    CHECK(!f.keywords.empty());
    for (const std::string* text : {&f.topic, &f.title, &f.symptom, &f.telling, &f.answer, &f.file, &f.line, &f.test_file, &f.test})
      CHECK(!text->empty());
    ids.insert(f.id), titles.insert(f.title), symptoms.insert(f.symptom);
  }
  CHECK(ids.size() == faults().size());
  CHECK(titles.size() == faults().size());
  CHECK(symptoms.size() == faults().size());
}

TEST_CASE("faults: the line is in the file, and the test in its own") {
  for (const Fault& f : faults()) {
    CAPTURE(f.id);
    CHECK_MESSAGE(contents(f.file).find(f.line) != std::string::npos, f.file, " has no line with ", f.line);
    const std::string tests = contents(f.test_file);
    const auto at = tests.find("(\"" + f.test + "\"");
    REQUIRE_MESSAGE(at != std::string::npos, f.test_file, " has no test case ", f.test);
    const std::string line = tests.substr(tests.rfind('\n', at) + 1, at - tests.rfind('\n', at) - 1);
    CHECK((line == "TEST_CASE" || line == "TEST_CASE_TEMPLATE"));
  }
}

TEST_CASE("faults: the title and each keyword name this fault and no other") {
  const auto names_only = [](std::string_view words, const Fault& f) { return faults_named(words) == std::vector<const Fault*>{&f}; };
  for (const Fault& f : faults()) {
    CAPTURE(f.id);
    CHECK(names_only(f.title, f));
    CHECK(!denies(f.title));
    for (const std::string& keyword : f.keywords) {
      CAPTURE(keyword);
      std::string shout = "perhaps the " + keyword + "?";
      CHECK(names_only(shout, f));
      CHECK(!denies(shout));
      for (char& c : shout) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      CHECK(names_only(shout, f));
    }
  }
  CHECK(faults_named("rabbit").empty());
  CHECK(faults_named("").empty());
}

TEST_CASE("faults: a keyword counts at the beginning of a word") {
  CHECK(faults_named("the rate is too high").size() == 1);
  CHECK(faults_named("it generates rubbish").empty());
  CHECK(faults_named("gradients are not zeroed") == std::vector<const Fault*>{&fault("uncleared")});
}

TEST_CASE("faults: words that name several name all of them, and words that deny are known") {
  CHECK(faults_named("the residual connection or the temperature or residual").size() == 2);
  CHECK(faults_named("causal mask, document mask") == std::vector<const Fault*>{&fault("next"), &fault("bounds")});
  std::string all;
  for (const Fault& f : faults()) {
    for (const std::string& keyword : f.keywords) all += keyword + ", ";
  }
  CHECK(faults_named(all).size() == faults().size());
  for (const char* words : {"it is not the residual connection but the sampler", "It isn't the mask"}) CHECK(denies(words));
  CHECK(!denies("the gradients are not zeroed"));
}

TEST_CASE("faults: there is none of that number or name") {
  CHECK_THROWS_WITH(fault(Index(0)), "expected a fault from 1 to 24, found 0");
  CHECK_THROWS_WITH(fault(Index(25)), "expected a fault from 1 to 24, found 25");
  CHECK_THROWS_AS(fault("rabbit"), std::invalid_argument);
}

}  // namespace glassformer
