#include "glassformer/sample/text_stream.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

#include "glassformer/core/random.hpp"

using namespace glassformer;

namespace {

struct Shown {
  std::vector<std::string> pieces;
  std::string text;
  bool stopped = false;
  std::string joined() const {
    std::string all;
    for (const std::string& p : pieces) all += p;
    return all;
  }
};

Shown stream(const std::vector<std::string>& input, const std::vector<std::string>& stop = {}) {
  Shown shown;
  TextStream s(stop, [&](std::string_view piece) { shown.pieces.emplace_back(piece); });
  for (const std::string& bytes : input) {
    if (s.append(bytes)) {
      shown.stopped = true;
      break;
    }
  }
  s.finish();
  shown.text = s.text();
  return shown;
}

}  // namespace

TEST_CASE("a character is shown when its last byte is here") {
  const Shown s = stream({"a", "\xC3", "\xA9", "b", "\xF0\x9F", "\x98", "\x80!"});
  CHECK(s.pieces == std::vector<std::string>{"a", "\xC3\xA9", "b", "\xF0\x9F\x98\x80!"});
  CHECK(s.text ==
        "a\xC3\xA9"
        "b\xF0\x9F\x98\x80!");
}

TEST_CASE("ill-formed bytes are shown as U+FFFD, one for each maximal piece, and kept in the text") {
  CHECK(valid_utf8("a\xC3") == "a\xEF\xBF\xBD");
  CHECK(valid_utf8("\xFFz\x80") == "\xEF\xBF\xBDz\xEF\xBF\xBD");
  CHECK(valid_utf8("\xE2\x82z") == "\xEF\xBF\xBDz");            // a cut character is one piece
  CHECK(valid_utf8("\xC0\xAF") == "\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong
  CHECK(valid_utf8("\xE0\x9F\xBF").size() == 3 * 3);
  CHECK(valid_utf8("\xF0\x8F\xBF\xBF").size() == 4 * 3);
  CHECK(valid_utf8("\xED\xA0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(valid_utf8("\xF4\x90\x80\x80").size() == 4 * 3);                        // beyond U+10FFFF
  // The example of the Unicode Standard, table 3-8.
  CHECK(valid_utf8("\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64") ==
        "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x62\xEF\xBF\xBD\x63\xEF\xBF\xBD\xEF\xBF\xBD\x64");
  const Shown s = stream({"x\xE2\x82", "y", "\xC3"});
  CHECK(s.pieces == std::vector<std::string>{"x", "\xEF\xBF\xBDy", "\xEF\xBF\xBD"});
  CHECK(s.text == "x\xE2\x82y\xC3");
}

TEST_CASE("a stop string may span tokens; nothing of it is ever shown") {
  const Shown s = stream({"Hello", " EN", "D now"}, {"END"});
  CHECK(s.stopped);
  CHECK(s.text == "Hello ");
  CHECK(s.pieces == std::vector<std::string>{"Hello", " "});
  // What looked like one and is not comes later, and all of it.
  const Shown not_stop = stream({"Hello", " EN", "TER"}, {"END"});
  CHECK(!not_stop.stopped);
  CHECK(not_stop.pieces == std::vector<std::string>{"Hello", " ", "ENTER"});
  // The end of the text settles it as well.
  CHECK(stream({"Hello EN"}, {"END"}).joined() == "Hello EN");
  // Overlaps with itself: "aab" in "aaab".
  CHECK(stream({"a", "a", "a", "b", "c"}, {"aab"}).joined() == "a");
  // The first of several wins, wherever it stands in the list.
  CHECK(stream({"one two", " three"}, {"three", "two"}).text == "one ");
  CHECK(stream({"one two three"}, {"two", "three"}).text == "one ");
  CHECK(stream({"one two three"}, {"three", "two"}).text == "one ");
  // A stop string that ends within a token, or begins within a character's bytes.
  CHECK(stream({"x\xC3", "\xA9y"}, {"\xC3\xA9"}).joined() == "x");
}

TEST_CASE("however the bytes are cut, what is shown is the same and stays before the stop string") {
  const std::string text = "na\xC3\xAFve \xF0\x9F\x98\x80 END\xE2\x82\xAC ENND..END.. tail";
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    std::vector<std::string> pieces;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t n = 1 + random_below({trial}, i, 5);
      pieces.push_back(text.substr(i, n));
      i += n;
    }
    CHECK(stream(pieces).joined() == text);
    const Shown s = stream(pieces, {"END..", "..END"});
    CHECK(s.text == text.substr(0, text.find("..END")));
    CHECK(s.joined() == s.text);
    for (const std::string& p : s.pieces) CHECK(valid_utf8(p) == p);
  }
}

TEST_CASE("an empty stop string is a mistake") { CHECK_THROWS_AS(stream({}, {""}), std::invalid_argument); }
