// The formats: blocks by hand to the byte, what holds for any matrix, and the error on normal weights.
#include "glassformer/quantize/quantized.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "support/check.hpp"

using namespace glassformer;
using test::Dice;

namespace {

constexpr QuantizedType kTypes[] = {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4};

std::string hex(const std::vector<std::byte>& bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<int>(b));
  return text;
}

template <class S> Matrix<S> floats(const QuantizedMatrix& w) {
  Matrix<S> y(w.rows, w.cols);
  dequantize<S>(w, 0, y);
  return y;
}

// Relative root mean square error: ‖x − x̂‖/‖x‖.
double relative_rmse(const Matrix<float>& x, const QuantizedMatrix& w) {
  const Matrix<double> exact = x.cast<double>();
  return (exact - floats<double>(w)).norm() / exact.norm();
}

}  // namespace

TEST_CASE("q8_0 by hand: 31 zeros, then −127 and halves of a step") {
  Matrix<float> x = Matrix<float>::Zero(1, 32);
  x(0, 31) = -127, x(0, 0) = 2.5f, x(0, 1) = -2.5f, x(0, 2) = 0.25f;
  const QuantizedMatrix w = quantize(QuantizedType::q8_0, x);
  CHECK(hex(w.blocks) == "003c" "03fd00" + std::string(56, '0') + "81");  // d = 1; halves go away from zero
  CHECK(floats<float>(w)(0, 31) == -127);
  CHECK(floats<double>(w)(0, 1) == -3);
}

TEST_CASE("the error on normal weights: q4_0 0.086, nf4 0.092, int4 0.108 of their size") {
  Dice dice(1);
  const Matrix<float> x = dice.matrix<float>(1024, 1024, 0.02);
  double rmse[4];
  for (const QuantizedType type : kTypes) {
    const QuantizedMatrix w = quantize(type, x);
    rmse[static_cast<int>(type)] = relative_rmse(x, w);
  }
  const auto [q8_0, q4_0, int4, nf4] = rmse;
  CHECK(std::abs(q4_0 / 0.086 - 1) < 0.03);
  CHECK(std::abs(nf4 / 0.092 - 1) < 0.03);
  CHECK(std::abs(int4 / 0.108 - 1) < 0.03);
  CHECK(nf4 < 0.9 * int4);
  CHECK(q8_0 < 0.01);
}

TEST_CASE("the same bytes on any number of threads, from a block of a larger matrix") {
  Dice dice(2);
  test::Block<float> x(dice.matrix<float>(70, 384));
  for (const QuantizedType type : kTypes) {
    const QuantizedMatrix alone = quantize(type, *x);
    for (const int threads : {2, 4}) {
      const QuantizedMatrix w = quantize(type, *x, {.threads = threads});
      CHECK(w.blocks == alone.blocks);
      CHECK(w.absmax == alone.absmax);
      CHECK(w.group_maximum == alone.group_maximum);
      CHECK(w.offset == alone.offset);
    }
    CHECK(static_cast<Index>(alone.blocks.size()) == x.value().size() / block_length(type) * block_bytes(type));
  }
}
