// What people type when they are asked for a number, and how numbers are shown.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "glassformer/learn/interview.hpp"

using namespace glassformer;

TEST_CASE("numbers as people type them") {
  struct Case {
    const char* typed;
    const char* unit;
    double value;
  };
  const Case cases[] = {
      {"1024", "", 1024},
      {" 1,024 ", "tokens", 1024},
      {"1,024,000", "", 1024000},
      {"1 024", "", 1024},
      {"1_000_000", "", 1e6},
      {"0.5", "", 0.5},
      {".5", "", 0.5},
      {"-0.75", "", -0.75},
      {"−0.75", "", -0.75},
      {"3e5", "", 3e5},
      {"1.5e-3", "", 1.5e-3},
      {"1k", "", 1000},
      {"1K", "parameters", 1000},
      {"1.5M", "parameters", 1.5e6},
      {"7B", "parameters", 7e9},
      {"7 B", "bytes", 7},
      {"124 million", "parameters", 124e6},
      {"2 billion parameters", "parameters", 2e9},
      {"1 KiB", "bytes", 1024},
      {"1kib", "bytes", 1024},
      {"1 Ki", "bytes", 1024},
      {"64 KB", "bytes", 64000},
      {"1.5 MiB", "bytes", 1.5 * 1048576},
      {"2 GiB", "bytes", 2147483648.0},
      {"128 bytes", "bytes", 128},
      {"12.5%", "", 0.125},
      {"12.5%", "%", 12.5},
      {"12.5", "%", 12.5},
      {"12.5 percent", "%", 12.5},
      {"2^10", "", 1024},
      {"2**10", "", 1024},
      {"2^-3", "", 0.125},
      {"-2^2", "", -4},
      {"2^3^2", "", 512},
      {"2*8*64*4", "bytes", 4096},
      {"8×64", "", 512},
      {"8x64", "", 512},
      {"3·4", "", 12},
      {"1/8", "", 0.125},
      {"1+2*3", "", 7},
      {"10-2-3", "", 5},
      {"(1+2)*3", "", 9},
      {"64*65/2", "scores", 2080},
      {"2*4 KiB", "bytes", 8192},
      {"(2*4) KiB", "bytes", 8192},
      {"ln(65)", "nats", std::log(65.0)},
      {"ln 65", "nats", std::log(65.0)},
      {"-ln(1/65)", "nats", std::log(65.0)},
      {"log2(8)", "", 3},
      {"log10(1000)", "", 3},
      {"sqrt(64)", "", 8},
      {"√64", "", 8},
      {"cos 0", "", 1},
      {"sin(pi/2)", "", 1},
      {"exp(0)", "", 1},
      {"exp(2)/(exp(2)+1)", "", std::exp(2.0) / (std::exp(2.0) + 1)},
      {"~1000", "", 1000},
      {"about 1000", "", 1000},
      {"= 1000", "", 1000},
      {"4.17 nats", "nats", 4.17},
      {"1 token", "tokens", 1},
      {"100 tokens a second", "tokens a second", 100},
      {"4x", "times", 4},
      {"4 times", "times", 4},
      {"1e300", "", 1e300},
  };
  for (const Case& c : cases) {
    CAPTURE(c.typed);
    CAPTURE(c.unit);
    const auto value = parse_answer(c.typed, c.unit);
    REQUIRE_MESSAGE(value.has_value(), (value ? "" : value.error()));
    CHECK(*value == doctest::Approx(c.value).epsilon(1e-12));
  }
}

TEST_CASE("what is no number says what was expected and found") {
  struct Case {
    std::string typed;
    const char* unit;
    const char* found;
  };
  const Case cases[] = {
      {"lots", "bytes", "expected a number in bytes"},
      {"lots", "bytes", "found \"lots\""},
      {"", "", "found \"\""},
      {"5 bits", "nats", "found \"bits\""},
      {"5 m", "", "found \"m\""},
      {"7 b", "parameters", "found \"b\""},
      {"1,5", "", "a comma that separates no thousands"},
      {"1.2.3", "", "found"},
      {"1/0", "", "a division by zero"},
      {"1/(2-2)", "", "a division by zero"},
      {"ln(0)", "", "not finite"},
      {"sqrt(-1)", "", "not finite"},
      {"9e999", "", "not finite"},
      {"10^400", "", "not finite"},
      {"nan", "", "found"},
      {"inf", "", "found"},
      {"0x10", "", "a hexadecimal number"},
      {"log(8)", "", "write ln, log2 or log10"},
      {"(1+2", "", "a bracket that is not closed"},
      {"1+2)", "", "\")\" after the number"},
      {"1 2", "", "\"2\" after the number"},
      {"2*", "", "found"},
      {"--", "", "found"},
      {"2 ln 3", "", "found"},
      {"%", "", "found"},
      {std::string(100, '('), "", "too many brackets"},
      {std::string(150, '-') + "1", "", "too many brackets"},
      {std::string(300, '1'), "", "a longer text"},
      {std::string("1\0002", 3), "", "after the number"},
      {"\x1b[31m", "", "found \"␛[31m\""},
      {"\xff\xc3", "", "found \"\\xff\\xc3\""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.typed);
    const auto value = parse_answer(c.typed, c.unit);
    REQUIRE_FALSE(value.has_value());
    CHECK_MESSAGE(value.error().find(c.found) != std::string::npos, value.error());
    CHECK(value.error().starts_with("expected a number"));
    CHECK(value.error().size() < 200);
  }
}

TEST_CASE("amounts as they are shown") {
  CHECK(amount_text(1048576, "bytes") == "1,048,576 bytes (1 MiB)");
  CHECK(amount_text(131072, "bytes") == "131,072 bytes (128 KiB)");
  CHECK(amount_text(512, "bytes") == "512 bytes");
  CHECK(amount_text(1500, "bytes") == "1,500 bytes (1.46 KiB)");
  CHECK(amount_text(4.17439, "nats") == "4.174 nats");
  CHECK(amount_text(66.66667, "%") == "66.67%");
  CHECK(amount_text(12, "tokens") == "12 tokens");
  CHECK(amount_text(0.0078125, "") == "0.007812");
  CHECK(amount_text(-0.25, "") == "−0.2500");
  CHECK(amount_text(123456.7, "") == "123,457");
  CHECK(amount_text(0, "") == "0");
  CHECK(amount_text(6e-7, "") == "6e-07");
}
