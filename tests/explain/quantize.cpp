// The story of quantization: the docs' block by hand, and on a model the library's own numbers, added up.
#include "glassformer/explain/quantize.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "explain_support.hpp"
#include "glassformer/quantize/block.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

constexpr QuantizedType kTypes[] = {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4};

std::string key(QuantizedType type, const char* what) { return fmt::format("{}_{}", quantized_name(type), what); }

Decoder<float> wide_decoder() {
  ModelConfig c = test::small_config();
  c.width = 128, c.hidden = 320, c.position = Position::rope;
  return test::random_decoder(c);
}

std::string message_of(const Decoder<float>& m, const QuantizeQuestion& q) {
  try {
    explain_quantize(m, "m", q);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the example of quantization, redone by hand") {
  const Story s = explain_quantize_example();
  test::check_story_widths(s);
  test::check_story_json(s);
  // 0.9, −2, 0.16, −1.2: the table of docs/quantize.md
  const auto first = [&](const std::string& name, double a, double b, double c, double d) {
    CAPTURE(name);
    const Matrix<double>& m = s.matrix(name);
    CHECK(m(0, 0) == Approx(a).epsilon(1e-5));
    CHECK(m(0, 1) == Approx(b).epsilon(1e-5));
    CHECK(m(0, 2) == Approx(c).epsilon(1e-4));
    CHECK(m(0, 3) == Approx(d).epsilon(1e-5));
    CHECK(m.cols() == 64);
  };
  first("q8_0_codes", 57, -127, 10, -76);
  first("q8_0_back", 0.89758, -1.99988, 0.15747, -1.19678);
  first("q4_0_codes", 12, 0, 9, 3);
  first("q4_0_back", 1, -2, 0.25, -1.25);
  first("int4_codes", 3, -7, 1, -4);
  first("int4_back", 0.85693, -1.99951, 0.28564, -1.14258);
  first("nf4_codes", 12, 0, 8, 2);
  first("nf4_back", 0.88142, -2, 0.15916, -1.05015);
  CHECK(s.number("q4_0_error") == Approx(std::sqrt(0.01 + 0.0081 + 0.0025) / std::sqrt(0.81 + 4 + 0.0256 + 1.44)));
  CHECK(s.number("q8_0_bits") == 8.5);
  CHECK(s.number("q4_0_bits") == 4.5);
  CHECK(s.number("int4_bits") == 4.25);
  CHECK(s.number("nf4_bits") == Approx(4 + 8.0 / 64 + 32.0 / (64 * 256)));
  // absmax 2, 1.5, 2.5, 2: mean 2, differences 0, −0.5, 0.5, 0; the level nearest to −1 is −0.99297
  CHECK(s.number("offset") == 2);
  CHECK(s.number("group_maximum") == 0.5);
  const auto vector = [&](const char* name) { return test::data_of<Vector<double>>(s, name); };
  CHECK(vector("absmax") == Vector<double>{{2, 1.5, 2.5, 2}});
  CHECK(vector("absmax_levels")(0) == 0);
  CHECK(vector("absmax_levels")(1) == Approx(-(0.1 + 0.9 * 63.5 / 64)));
  CHECK(vector("absmax_levels")(2) == 1);
  CHECK(vector("absmax_back")(1) == Approx(2 - 0.5 * (0.1 + 0.9 * 63.5 / 64)));
  CHECK(s.number("exact_scale_error") == Approx(s.number("nf4_error")).epsilon(1e-6));
  CHECK(s.number("deviation") < 1e-7);
}

TEST_CASE("on a model the story's numbers are the library's, and add up") {
  const Decoder<float> m = wide_decoder();
  struct Place {
    const char* tensor;
    Index row, block;
  };
  for (const Place& p :
       {Place{"", 0, 0}, Place{"blocks.1.mlp.up.weight", 319, 1}, Place{"blocks.1.mlp.down.weight", 77, 4}, Place{"embed.weight", 15, 1}}) {
    CAPTURE(p.tensor);
    const Story s = explain_quantize(m, "a random model", {.tensor = p.tensor, .row = p.row, .block = p.block});
    test::check_story_widths(s);
    test::check_story_json(s);
    CHECK(s.number("deviation") < 1e-6);
    const std::string name = *p.tensor ? p.tensor : "blocks.0.attn.qkv.weight";
    const MatrixView<float> w = m.arena.view(name);
    const Matrix<double> x = (*w).block(p.row, 64 * p.block, 1, 64).cast<double>();
    CHECK(s.matrix("x").reshaped<Eigen::RowMajor>(1, 64) == x);
    double worst = 0;  // of all formats but q8_0
    for (const QuantizedType type : kTypes) {
      CAPTURE(quantized_name(type));
      const QuantizedMatrix q = quantize(type, *w);
      Matrix<float> all(w.rows, w.cols);
      dequantize<float>(q, 0, all);
      const Matrix<double> back = all.block(p.row, 64 * p.block, 1, 64).cast<double>();
      CHECK(s.matrix(key(type, "back")) == back);
      const auto scales = test::data_of<Vector<double>>(s, key(type, "scales"));
      const Matrix<double>&steps = s.matrix(key(type, "steps")), &codes = s.matrix(key(type, "codes"));
      const Index length = 64 / scales.size();
      CHECK(length == block_length(type));
      for (Index i = 0; i < 64; ++i) {
        CHECK(scales(i / length) * steps(0, i) == Approx(back(0, i)).epsilon(1e-6));
        const auto code = static_cast<std::size_t>(codes(0, i));
        CHECK(steps(0, i) == (type == QuantizedType::nf4    ? static_cast<double>(nf4_levels()[code])
                              : type == QuantizedType::q4_0 ? codes(0, i) - 8
                                                            : codes(0, i)));
      }
      CHECK(s.number(key(type, "error")) == Approx((x - back).norm() / x.norm()));
      CHECK(test::data_of<double>(s, key(type, "matrix_error")) == Approx((*w - all).cast<double>().norm() / (*w).cast<double>().norm()));
      CHECK(test::data_of<Index>(s, key(type, "matrix_bytes")) == q.bytes());
      if (type != QuantizedType::q8_0) worst = std::max(worst, s.number(key(type, "error")));
    }
    CHECK(s.number("q8_0_error") < worst / 8);
    // The scales: the mean is that of all blocks of the matrix, and what comes back is what the engine multiplies with.
    const QuantizedMatrix q = quantize(QuantizedType::nf4, *w);
    const Index row_blocks = w.cols / 64, at = p.row * row_blocks + p.block;
    double sum = 0;
    for (Index j = 0; j < w.rows * row_blocks; ++j)
      sum += static_cast<double>((*w).block(j / row_blocks, j % row_blocks * 64, 1, 64).cwiseAbs().maxCoeff());
    CHECK(s.number("offset") == Approx(sum / static_cast<double>(w.rows * row_blocks)));
    const auto absmax = test::data_of<Vector<double>>(s, "absmax"), absmax_back = test::data_of<Vector<double>>(s, "absmax_back");
    CHECK(absmax(at % 256) == x.cwiseAbs().maxCoeff());
    CHECK(absmax_back(at % 256) == static_cast<double>(nf4_absmax(q, at)));
    CHECK(absmax.size() == std::min<Index>(256, w.rows * row_blocks - at / 256 * 256));
    CHECK((absmax - absmax_back).norm() / absmax.norm() == Approx(s.number("absmax_error")));
    CHECK(s.number("absmax_error") < 0.02);
  }
}

TEST_CASE("questions about quantization that have no answer") {
  const Decoder<float> m = wide_decoder();
  CHECK(message_of(m, {.tensor = "blocks.9.mlp.up.weight"}) ==
        "tensor: expected a matrix of the model such as blocks.0.attn.qkv.weight, found blocks.9.mlp.up.weight");
  CHECK(message_of(m, {.tensor = "blocks.0.ln1.weight"}) ==
        "tensor: expected a matrix of the model such as blocks.0.attn.qkv.weight, found blocks.0.ln1.weight");
  CHECK(message_of(m, {.row = 256}) == "row: expected 0 to 255 in blocks.0.attn.qkv.weight, found 256");
  CHECK(message_of(m, {.block = 2}) == "block: expected 0 to 1 in a row of blocks.0.attn.qkv.weight, found 2");
  CHECK(message_of(test::random_decoder(test::small_config()), {}) ==
        "tensor: expected a matrix whose rows are a multiple of 64 numbers, found blocks.0.attn.qkv.weight with 8");
}
