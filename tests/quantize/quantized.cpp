// The formats: blocks by hand to the byte, what holds for any matrix, hostile input, and the error on normal weights.
#include "glassformer/quantize/quantized.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "glassformer/quantize/block.hpp"
#include "support/check.hpp"

using namespace glassformer;
using test::Dice;

namespace {

constexpr QuantizedType kTypes[] = {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4};

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<int>(b));
  return text;
}
std::string times(int n, const std::string& text) {
  std::string all;
  while (n-- > 0) all += text;
  return all;
}

// A row that begins with the given numbers; the rest are zeros, and `last` at its end.
Matrix<float> row_of(Index length, std::initializer_list<float> first, float last = 0) {
  Matrix<float> x = Matrix<float>::Zero(1, length);
  std::copy(first.begin(), first.end(), x.data());
  x(0, length - 1) = last;
  return x;
}

template <class S> Matrix<S> numbers(const QuantizedMatrix& w) {
  Matrix<S> y(w.rows, w.cols);
  dequantize<S>(w, 0, y);
  return y;
}

// Relative root mean square error: ‖x − x̂‖/‖x‖.
double relative_rmse(const Matrix<float>& x, const QuantizedMatrix& w) {
  const Matrix<double> exact = x.cast<double>();
  return (exact - numbers<double>(w)).norm() / exact.norm();
}

// Of very different sizes, with rows of zeros and single large numbers.
Matrix<float> wild(Dice& dice, Index rows, Index cols) {
  Matrix<float> x = dice.matrix<float>(rows, cols);
  for (Index r = 0; r < rows; ++r) {
    x.row(r) *= static_cast<float>(std::pow(10.0, dice.between(-4, 4)));
    if (dice.between(0, 4) == 0) x(r, dice.between(0, cols - 1)) *= 20;
    if (dice.between(0, 9) == 0) x.row(r).setZero();
  }
  return x;
}

}  // namespace

TEST_CASE("q8_0 by hand") {
  SUBCASE("d = 1; a half goes away from zero") {
    const QuantizedMatrix w = quantize(QuantizedType::q8_0, row_of(32, {2.5f, -2.5f, 0.25f}, -127));
    CHECK(hex(w.blocks) == "003c" "03fd00" + times(28, "00") + "81");
    CHECK(numbers<float>(w) == row_of(32, {3, -3}, -127));
  }
  SUBCASE("the codes come from amax/127, the numbers from that in fp16: 1/127 is 0x2008, 2^-7·(1 + 8/1024)") {
    const QuantizedMatrix w = quantize(QuantizedType::q8_0, row_of(32, {1.0f, -0.3f}));
    CHECK(hex(w.blocks) == "0820" "7fda" + times(30, "00"));  // −0.3·127 = −38.1
    CHECK(numbers<double>(w)(0, 0) == 127 * 0x1p-7 * (1 + 8 / 1024.0));
  }
}

TEST_CASE("q4_0 by hand") {
  SUBCASE("the largest is negative: d = 1, every code once; above 7.5 steps there is only 15") {
    Matrix<float> x = row_of(32, {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 7.6f, -0.5f, 0.49f, 0.5f});
    const QuantizedMatrix w = quantize(QuantizedType::q4_0, x);
    CHECK(hex(w.blocks) == "003c" "f0818293" "84858687" "88898a8b" "8c8d8e8f");
    x(0, 16) = 7, x(0, 17) = 0, x(0, 18) = 0, x(0, 19) = 1;
    CHECK(numbers<float>(w) == x);
  }
  SUBCASE("the largest is positive: d = −1, and the largest is exact all the same") {
    const QuantizedMatrix w = quantize(QuantizedType::q4_0, row_of(32, {4}, 8));
    CHECK(hex(w.blocks) == "00bc" "84" + times(14, "88") + "08");
    CHECK(numbers<float>(w) == row_of(32, {4}, 8));
  }
  SUBCASE("2 and −2: the first is exact, the other has no code") {
    CHECK(numbers<float>(quantize(QuantizedType::q4_0, row_of(32, {2, -2}))) == row_of(32, {2, -1.75f}));
    CHECK(numbers<float>(quantize(QuantizedType::q4_0, row_of(32, {-2, 2}))) == row_of(32, {-2, 1.75f}));
  }
}

TEST_CASE("int4 by hand: d = 1; element 32 is in the high nibble of the first byte") {
  Matrix<float> x = row_of(64, {7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7});
  x(0, 32) = 2.5f, x(0, 33) = -2.5f, x(0, 34) = 0.49f;
  const QuantizedMatrix w = quantize(QuantizedType::int4, x);
  CHECK(hex(w.blocks) == "003c" "bf5e8d8c8b8a89888786858483828188" + times(16, "88"));
  x(0, 32) = 3, x(0, 33) = -3, x(0, 34) = 0;
  CHECK(numbers<float>(w) == x);
}

TEST_CASE("nf4 by hand: the nearest level, the first of two in the high nibble") {
  const std::array<float, 16>& level = nf4_levels();
  // Over absmax = 2: 1, −1, 0, level 8, just below and above the middle of levels 7 and 8, −0.6, 0.85
  const QuantizedMatrix w = quantize(QuantizedType::nf4, row_of(64, {2, -2, 0, 0.16f, 2 * 0.0397f, 2 * 0.0398f, -1.2f, 1.7f}, -0.1f));
  CHECK(hex(w.blocks) == "f0" "78" "78" "2e" + times(27, "77") + "76");
  CHECK(numbers<float>(w) == row_of(64, {2, -2, 0, 2 * level[8], 0, 2 * level[8], 2 * level[2], 2 * level[14]}, 2 * level[6]));
  SUBCASE("one block: absmax is the mean, and exact") {
    CHECK(w.offset == 2);
    CHECK(w.group_maximum == std::vector<float>{0});
    CHECK(w.absmax == std::vector<std::uint8_t>{127});  // the level that is 0
  }
  SUBCASE("absmax 1 and 3: offset 2, differences −1 and 1; −1 is no level, the nearest is −127.1/128") {
    Matrix<float> x = Matrix<float>::Zero(2, 64);
    x(0, 5) = -1, x(1, 6) = 3;
    const QuantizedMatrix two = quantize(QuantizedType::nf4, x);
    CHECK(two.offset == 2);
    CHECK(two.group_maximum == std::vector<float>{1});
    CHECK(two.absmax == std::vector<std::uint8_t>{0, 255});
    x(0, 5) = -(2 - 127.1f / 128);
    CHECK(numbers<float>(two) == x);
  }
}

TEST_CASE("the block of docs/quantize.md in every format") {
  const auto check = [](QuantizedType type, std::initializer_list<double> expected, std::initializer_list<int> codes) {
    const QuantizedMatrix w = quantize(type, row_of(64, {0.9f, -2, 0.16f, -1.2f}));
    const Matrix<double> y = numbers<double>(w);
    for (Index i = 0; i < 4; ++i) {
      const auto u = static_cast<std::size_t>(i);
      CHECK(std::abs(y(0, i) - expected.begin()[u]) < 5.1e-6);
      const std::size_t byte = type == QuantizedType::nf4 ? u / 2 : 2 + u;
      const int both = std::to_integer<int>(w.blocks[byte]), nibble = type == QuantizedType::nf4 && i % 2 == 0 ? both >> 4 : both & 15;
      const int code = type == QuantizedType::q8_0 ? static_cast<std::int8_t>(both) : type == QuantizedType::int4 ? nibble - 8 : nibble;
      CHECK(code == codes.begin()[u]);
    }
    CHECK(y.rightCols(60).isZero(0));
  };
  check(QuantizedType::q8_0, {0.89758, -1.99988, 0.15747, -1.19678}, {57, -127, 10, -76});
  check(QuantizedType::q4_0, {1, -2, 0.25, -1.25}, {12, 0, 9, 3});
  check(QuantizedType::int4, {0.85693, -1.99951, 0.28564, -1.14258}, {3, -7, 1, -4});
  check(QuantizedType::nf4, {0.88142, -2, 0.15916, -1.05015}, {12, 0, 8, 2});
}

TEST_CASE("the levels of NF4 are quantiles of the normal distribution (Dettmers et al. 2023)") {
  // Evenly spaced probabilities from 1/2 to δ = 1 − (1/32 + 1/30)/2, in 8 steps above zero and 7 below it, divided by the outermost quantile.
  const auto below = [](double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; };
  const double delta = 1 - (1 / 32.0 + 1 / 30.0) / 2;
  double outermost = 0;
  for (double step = 1; step > 1e-15; step /= 2) outermost += below(outermost + step) < delta ? step : 0;
  for (std::size_t i = 0; i < 16; ++i) {
    const double steps = i < 7 ? (static_cast<double>(i) - 7) / 7 : (static_cast<double>(i) - 7) / 8;
    CHECK(std::abs(below(static_cast<double>(nf4_levels()[i]) * outermost) - (0.5 + steps * (delta - 0.5))) < 1e-6);
  }
}

TEST_CASE("the 256 levels of the dynamic type: seven powers of ten, each in twice as many parts as the one below") {
  const std::array<float, 256>& level = dynamic_levels();
  CHECK(level[127] == 0);
  CHECK(level[255] == 1);
  for (const auto& [index, value] : {std::pair{128, 0.55e-6}, {129, 3.25e-6}, {130, 7.75e-6}, {131, 2.125e-5}, {254, 127.1 / 128}, {191, 0.1 + 0.9 / 128}}) {
    CHECK(std::abs(static_cast<double>(level[static_cast<std::size_t>(index)]) / value - 1) < 1e-7);
  }
  for (std::size_t i = 0; i < 127; ++i) CHECK(level[i] == -level[254 - i]);
  for (std::size_t i = 0; i < 255; ++i) CHECK(level[i] < level[i + 1]);
}

TEST_CASE("double quantization: each group of 256 has its own maximum, and absmax comes back within half a gap of it") {
  Dice dice(3);
  Matrix<float> x = dice.matrix<float>(5, 64 * 120);  // 600 blocks; in the third group a block is larger by far
  x.row(4).tail(64) *= 50;
  const QuantizedMatrix w = quantize(QuantizedType::nf4, x);
  CHECK(w.group_maximum.size() == 3);
  CHECK(w.group_maximum[2] > 10 * w.group_maximum[1]);
  CHECK(w.bytes() == 600 * 32 + 600 + 3 * 4 + 4);
  double sum = 0;
  for (Index j = 0; j < 600; ++j) {
    const float absmax = Eigen::Map<const Vector<float>>(x.data() + 64 * j, 64).cwiseAbs().maxCoeff();
    CHECK(std::abs(nf4_absmax(w, j) - absmax) <= w.group_maximum[static_cast<std::size_t>(j / 256)] * (0.9f / 128 + 1e-6f));
    sum += static_cast<double>(absmax);
  }
  CHECK(std::abs(static_cast<double>(w.offset) - sum / 600) < 1e-6);
}

TEST_CASE("no number is further off than half a step of its block") {
  Dice dice(4);
  for (int trial = 0; trial < 20; ++trial) {
    const Matrix<float> x = wild(dice, 10, 64 * dice.between(1, 6));
    for (const QuantizedType type : kTypes) {
      const QuantizedMatrix w = quantize(type, x);
      const Matrix<float> y = numbers<float>(w);
      for (Index j = 0; j < x.size() / block_length(type); ++j) {
        const Eigen::Map<const Vector<float>> exact(x.data() + j * block_length(type), block_length(type)), found(y.data() + j * block_length(type), block_length(type));
        const float amax = exact.cwiseAbs().maxCoeff();
        // A half of a step, one whole for the side of q4_0 that lacks its last code, half of nf4's widest gap; and the rounding of the scale.
        const float half[] = {0.5f / 127, 1.0f / 8, 0.5f / 7, 0.1519036f};
        const float scale = type == QuantizedType::nf4 ? std::abs(nf4_absmax(w, j) - amax) : amax * 0x1p-11f + 127 * 0x1p-25f;
        CHECK((exact - found).cwiseAbs().maxCoeff() <= amax * half[static_cast<int>(type)] * 1.00001f + scale);
      }
    }
  }
}

TEST_CASE("quantizing what was dequantized gives the same codes; float and double hold the same numbers; rows come alone") {
  Dice dice(5);
  for (int trial = 0; trial < 20; ++trial) {
    const Matrix<float> x = wild(dice, 10, 64 * dice.between(1, 6));
    for (const QuantizedType type : kTypes) {
      const QuantizedMatrix w = quantize(type, x);
      const Matrix<float> y = numbers<float>(w);
      INFO(std::string(quantized_name(type)));
      CHECK(test::same_bits(y, Matrix<float>(numbers<double>(w).cast<float>())));
      // q4_0 of zeros has d = −0, and of the −0 that come back d = 0. nf4: the mean of the absmax that came back is another one.
      if (type != QuantizedType::q4_0) CHECK(quantize(type, y).blocks == w.blocks);
      if (type != QuantizedType::nf4) CHECK(numbers<float>(quantize(type, y)) == y);
      const Index begin = dice.between(0, 9), count = dice.between(0, 10 - begin);
      test::Block<float> part(count, x.cols());
      dequantize<float>(w, begin, *part);
      CHECK((test::same_bits(part.value(), Matrix<float>(y.middleRows(begin, count))) && part.frame_intact()));
    }
  }
}

TEST_CASE("edges: zeros, −0, equal numbers, one large number, numbers too small for a scale") {
  const std::string zeros[] = {"0000" + times(32, "00"), "0080" + times(16, "88"), "0000" + times(32, "88"), times(32, "77")};
  for (const QuantizedType type : kTypes) {
    INFO(std::string(quantized_name(type)));
    const Index length = block_length(type);
    const auto round_trip = [&](const Matrix<float>& x) { return numbers<float>(quantize(type, x)); };
    CHECK(hex(quantize(type, Matrix<float>::Zero(1, length)).blocks) == zeros[static_cast<int>(type)]);
    CHECK(round_trip(Matrix<float>::Zero(3, 2 * length)).isZero(0));
    CHECK(round_trip(Matrix<float>::Constant(1, length, -0.0f)).isZero(0));
    CHECK(quantize(type, Matrix<float>(0, length)).bytes() == 0);
    Matrix<float> x = Matrix<float>::Zero(2, length);  // zeros beside a large block, whose absmax is far from their mean
    x(1, 3) = 1000;
    CHECK(round_trip(x).row(0).isZero(0));
    for (const float c : {8 * 127 * 7 * 0.125f, -8 * 127 * 7 * 0.125f}) {
      CHECK(round_trip(Matrix<float>::Constant(2, length, c)) == Matrix<float>::Constant(2, length, c));
    }
    x = Matrix<float>::Constant(1, length, 1e-3f);
    x(0, 7) = -100000;
    CHECK(std::abs(round_trip(x)(0, 7) / -100000 - 1) < 0x1p-11);
    CHECK(std::abs(round_trip(x)(0, 8)) < 1e-3f);
    for (const float tiny : {std::numeric_limits<float>::denorm_min(), 190 * std::numeric_limits<float>::denorm_min(), 1e-40f, 1e-38f, 1e-9f}) {
      x = Matrix<float>::Constant(1, length, tiny);
      x(0, 1) = -tiny / 2;
      const Matrix<float> y = round_trip(x);
      if (type == QuantizedType::nf4) {
        CHECK(y(0, 0) == tiny);
      } else {
        CHECK(y.isZero(0));
      }
    }
  }
  SUBCASE("a scale that is a subnormal fp16 number") {
    CHECK(numbers<float>(quantize(QuantizedType::q8_0, row_of(32, {127 * 0x3p-24f, -0x3p-24f}))) == row_of(32, {127 * 0x3p-24f, -0x3p-24f}));
  }
  SUBCASE("nf4: a small absmax is not rounded to one below zero, which would turn the signs of its block") {
    Matrix<float> x = Matrix<float>::Constant(94, 64, 1e-4f);
    x(0, 0) = 101;  // mean 1.0745: the nearest level to (1e-4 − mean)/maximum would give −0.065
    const Matrix<float> y = numbers<float>(quantize(QuantizedType::nf4, x));
    CHECK(y.bottomRows(93).minCoeff() >= 0);
  }
}

TEST_CASE("refused: numbers that are not finite or too large for the scale, rows that are no multiple of the block") {
  for (const QuantizedType type : kTypes) {
    const Index length = block_length(type);
    Matrix<float> x = Matrix<float>::Zero(3, 2 * length);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
      x(2, length + 1) = bad;
      CHECK_THROWS_AS(quantize(type, x, {.threads = 2}), std::invalid_argument);
    }
    CHECK_THROWS_AS(quantize(type, Matrix<float>::Zero(1, length + 1)), std::invalid_argument);
  }
  Matrix<float> x = Matrix<float>::Zero(3, 64);
  x(2, 40) = -8 * 65504.0f;
  CHECK(numbers<float>(quantize(QuantizedType::q4_0, x))(2, 40) == x(2, 40));
  x(2, 40) = -8 * 65536.0f;
  CHECK_THROWS_WITH_AS(quantize(QuantizedType::q4_0, x), "quantize: expected finite numbers of magnitude at most 524032 for q4_0, found -524288 in row 2, column 40",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(quantize(QuantizedType::nf4, Matrix<float>::Zero(2, 96)), "quantize: expected rows of a multiple of 64 numbers for nf4, found 96",
                       std::invalid_argument);
  const QuantizedMatrix w = quantize(QuantizedType::nf4, x);
  Matrix<float> rows(2, 64), narrow(2, 32);
  CHECK_THROWS_WITH_AS(dequantize<float>(w, 2, rows), "dequantize: expected rows within 0 to 3, found 2 to 4", std::invalid_argument);
  CHECK_THROWS_WITH_AS(dequantize<float>(w, -1, rows), "dequantize: expected rows within 0 to 3, found -1 to 1", std::invalid_argument);
  CHECK_THROWS_WITH_AS(dequantize<float>(w, 0, narrow), "dequantize: expected shape [2, 64], found [2, 32]", std::invalid_argument);
}

TEST_CASE("names") {
  for (const QuantizedType type : kTypes) CHECK(quantized_named(quantized_name(type)).value() == type);
  CHECK(quantized_named("q4_1").error() == "expected one of q8_0, q4_0, int4, nf4, found q4_1");
}

TEST_CASE("the same bytes on any number of threads, from a block of a larger matrix") {
  Dice dice(2);
  test::Block<float> x(dice.matrix<float>(70, 384));
  for (const QuantizedType type : kTypes) {
    const QuantizedMatrix alone = quantize(type, x.value());
    for (const int threads : {1, 2, 4}) {
      const QuantizedMatrix w = quantize(type, *x, {.threads = threads});
      CHECK(w.blocks == alone.blocks);
      CHECK(w.absmax == alone.absmax);
      CHECK(w.group_maximum == alone.group_maximum);
      CHECK(w.offset == alone.offset);
    }
  }
}

// The table of docs/quantize.md.
TEST_CASE("the error on normal weights, at their bits a number: NF4 beats int4 of the same block, not q4_0") {
  Dice dice(1);
  const Matrix<float> x = dice.matrix<float>(1024, 1024, 0.02);
  const double bits[] = {8.5, 4.5, 4.25, 4.127}, expected[] = {0.00535, 0.086, 0.108, 0.092};
  double found[4];
  for (const QuantizedType type : kTypes) {
    const int t = static_cast<int>(type);
    const QuantizedMatrix w = quantize(type, x);
    found[t] = relative_rmse(x, w);
    INFO(std::string(quantized_name(type)), ": ", found[t]);
    CHECK(std::abs(found[t] / expected[t] - 1) < 0.03);
    CHECK(std::abs(8 * static_cast<double>(w.bytes()) / static_cast<double>(x.size()) - bits[t]) < 0.0005);
  }
  CHECK(found[static_cast<int>(QuantizedType::nf4)] < 0.9 * found[static_cast<int>(QuantizedType::int4)]);
  CHECK(found[static_cast<int>(QuantizedType::nf4)] > found[static_cast<int>(QuantizedType::q4_0)]);
}
