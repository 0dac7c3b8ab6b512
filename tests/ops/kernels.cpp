// Every instruction set that this machine has, against sums in double: not only the one that ops would choose.
#include "ops/kernels/kernels.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

#include "glassformer/ops/linear.hpp"
#include "glassformer/quantize/block.hpp"
#include "glassformer/quantize/row.hpp"
#include "support/check.hpp"

using namespace glassformer;
namespace kernels = ops::kernels;
using test::Dice;

namespace {

const kernels::Kernels* const kAll[] = {&kernels::portable, &kernels::avx2, &kernels::avx512};

template <class F>
void each_level(F&& f) {
  for (const kernels::Kernels* k : kAll) {
    if (!kernels::can_run(*k)) continue;
    INFO(k->name);
    f(*k);
  }
}

// Relative to Σ|x·w|: what rounding may add.
double error(const Matrix<float>& found, const Matrix<float>& x, const Matrix<double>& w) {
  const Matrix<double> exact = x.cast<double>() * w.transpose(), size = x.cast<double>().cwiseAbs() * w.cwiseAbs().transpose();
  return ((found.cast<double>() - exact).array() / (size.array() + 1e-30)).abs().maxCoeff();
}

struct Quantized {
  QuantizedMatrix matrix;
  Matrix<double> numbers;
  Vector<float> scales;  // nf4
  Quantized(QuantizedType type, Index O, Index I, Dice& dice) : matrix(quantize(type, dice.matrix<float>(O, I, 0.05))), numbers(O, I) {
    dequantize<double>(matrix, 0, numbers);
    if (type != QuantizedType::nf4) return;
    scales.resize(O * I / 64);
    for (Index j = 0; j < scales.size(); ++j) scales(j) = nf4_absmax(matrix, j);
  }
  kernels::QuantizedRows rows() const {
    return {static_cast<kernels::Format>(matrix.type), reinterpret_cast<const std::uint8_t*>(matrix.blocks.data()), scales.data(),
            matrix.rows, matrix.cols, nf4_levels().data()};
  }
};

// x·Wᵀ for the given tokens by the kernel of the weight's format.
Matrix<float> product(const kernels::Kernels& k, const Quantized& w, const Matrix<float>& x) {
  Matrix<float> y(x.rows(), w.matrix.rows);
  const kernels::Output out{y.data(), y.cols()};
  if (w.matrix.type == QuantizedType::q8_0) return k.q8_0({x.data(), x.rows(), x.cols()}, w.rows(), out), y;
  const Index size = k.arranged_size(x.cols());
  Matrix<float> arranged(x.rows(), size);
  for (Index n = 0; n < x.rows(); ++n) k.arrange(w.rows().format, x.data() + n * x.cols(), x.cols(), arranged.data() + n * size);
  k.nibbles({arranged.data(), x.rows(), size}, w.rows(), out);
  return y;
}

// x in 8 bits, and what that stands for.
struct Codes {
  Matrix<std::int8_t> codes;
  Matrix<float> scales, numbers;
  Matrix<std::int32_t> sums;
  explicit Codes(const Matrix<float>& x)
      : codes(x.rows(), x.cols()), scales(x.rows(), x.cols() / 32), numbers(x), sums(scales.rows(), scales.cols()) {
    for (Index n = 0; n < x.rows(); ++n) {
      for (Index b = 0; b < scales.cols(); ++b) {
        std::int8_t* block = &codes(n, 32 * b);
        scales(n, b) = quantize_row<float>({&x(n, 32 * b), 32}, block);
        dequantize_row<float>(scales(n, b), block, {&numbers(n, 32 * b), 32});
        sums(n, b) = Eigen::Map<Vector<std::int8_t>>(block, 32).cast<std::int32_t>().sum();
      }
    }
  }
  kernels::QuantizedInput input() const { return {codes.data(), scales.data(), sums.data(), codes.rows()}; }
};

Matrix<float> integer_product(const kernels::Kernels& k, const Quantized& w, const Codes& x) {
  Matrix<float> y(x.codes.rows(), w.matrix.rows);
  Vector<float> scratch(k.integer_scratch(w.matrix.cols) / 4 + 32);
  void* aligned = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(scratch.data()) + 63) / 64 * 64);
  kernels::QuantizedInput input = x.input();
  Vector<double> turned;  // [groups of eight tokens][size], at a multiple of 64
  if (k.turn && input.n > 1) {
    const kernels::Format format = w.rows().format;
    const Index I = w.matrix.cols, size = k.turned_size(format, I), groups = (input.n + 7) / 8;
    turned.resize((groups * size + 64) / 8);
    auto* out = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(turned.data()) + 63) / 64 * 64);
    for (Index g = 0; g < groups; ++g) {
      const Index n = 8 * g;
      k.turn(format, {input.codes + n * I, input.scales + n * I / 32, input.sums + n * I / 32, std::min<Index>(8, input.n - n)}, I, out + g * size);
    }
    input.turned = out, input.turned_tokens = input.n;
  }
  k.integer(input, w.rows(), aligned, {y.data(), y.cols()});
  return y;
}

}  // namespace

TEST_CASE("kernels: the machine's choice can run, and the portable ones always can") {
  CHECK(kernels::can_run(kernels::chosen()));
  CHECK(kernels::can_run(kernels::portable));
#if defined(__x86_64__)
  REQUIRE(kernels::avx2.name);  // compiled in, whatever this machine can run
  REQUIRE(kernels::avx512.name);
#endif
  if (const char* wanted = std::getenv("GLASSFORMER_SIMD"); wanted && std::string(wanted) == "portable") CHECK(&kernels::chosen() == &kernels::portable);
  CHECK(std::string(ops::kernel_name()) == kernels::chosen().name);
}

TEST_CASE("kernels: dense products of each instruction set; a row alone has the bits that it has in company") {
  Dice dice(41);
  each_level([&](const kernels::Kernels& k) {
    for (int trial = 0; trial < 30; ++trial) {
      const Index N = dice.between(1, 13), O = dice.between(1, 20), I = dice.between(1, 300);
      const Matrix<float> x = dice.matrix<float>(N, I), w = dice.matrix<float>(O, I);
      Matrix<float> y(N, O), alone(N, O);
      k.dense({x.data(), N, I}, w.data(), I, O, I, {y.data(), O});
      for (Index n = 0; n < N; ++n) k.dense({x.data() + n * I, 1, I}, w.data(), I, O, I, {alone.data() + n * O, O});
      CHECK(error(y, x, w.cast<double>()) < 1e-6);
      CHECK(test::same_bits(y, alone));
      for (Index o = 0; o < O; ++o) k.dense({x.data(), N, I}, w.data() + o * I, I, 1, I, {alone.data() + o, O});  // and a row of W
      CHECK(test::same_bits(y, alone));
    }
  });
}

TEST_CASE("kernels: quantized products of each instruction set and format") {
  Dice dice(42);
  each_level([&](const kernels::Kernels& k) {
    for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4}) {
      INFO(std::string(quantized_name(type)));
      for (int trial = 0; trial < 20; ++trial) {
        const Index N = dice.between(1, 13), O = dice.between(1, 20), I = block_length(type) * dice.between(1, 12);
        const Quantized w(type, O, I, dice);
        const Matrix<float> x = dice.matrix<float>(N, I), y = product(k, w, x);
        Matrix<float> alone(N, O);
        for (Index n = 0; n < N; ++n) alone.row(n) = product(k, w, x.row(n));
        CHECK(error(y, x, w.numbers) < 1e-6);
        CHECK(test::same_bits(y, alone));
      }
    }
  });
}

TEST_CASE("kernels: products in whole numbers equal those of what the codes stand for; codes of −128 too") {
  Dice dice(43);
  each_level([&](const kernels::Kernels& k) {
    for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0}) {
      INFO(std::string(quantized_name(type)));
      for (int trial = 0; trial < 20; ++trial) {
        const Index N = dice.between(1, 29), O = dice.between(1, 40), I = 32 * dice.between(1, 12);
        Quantized w(type, O, I, dice);
        if (trial == 0 && type == QuantizedType::q8_0) {  // a file may hold what our quantizer never writes
          for (Index i = 2; i < 34; ++i) w.matrix.blocks[static_cast<std::size_t>(i)] = std::byte{0x80};
          dequantize<double>(w.matrix, 0, w.numbers);
        }
        const Codes x(dice.matrix<float>(N, I));
        const Matrix<float> y = integer_product(k, w, x);
        Matrix<float> alone(N, O);
        for (Index n = 0; n < N; ++n) alone.row(n) = integer_product(k, w, Codes(x.numbers.row(n)));
        CHECK(error(y, x.numbers, w.numbers) < 1e-6);
        CHECK(error(alone, x.numbers, w.numbers) < 1e-6);
        for (Index n = 0; n < N; ++n) {  // whatever loop a token is in
          Codes one(x.numbers.row(n));
          one.codes = x.codes.row(n), one.scales = x.scales.row(n), one.sums = x.sums.row(n);
          CHECK(test::same_bits(integer_product(k, w, one), y.row(n)));
        }
      }
    }
  });
}

TEST_CASE(
    "kernels: activations in 8 bits are near the exact ones, the same bits alone, in a batch and on any threads; what is not finite stays "
    "visible") {
  Dice dice(44);
  for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4}) {
    const bool whole = type == QuantizedType::q8_0 || type == QuantizedType::q4_0;
    auto matrix = std::make_shared<QuantizedMatrix>(quantize(type, dice.matrix<float>(300, 448, 0.05)));
    const ops::Weight<float> w(matrix);
    Matrix<float> x = dice.matrix<float>(20, 448), exact(20, 300), y(20, 300), alone(1, 300);
    Exec exec{.threads = 2, .row_exact = true};
    ops::linear_forward<float>(x, w, {}, exact, exec);
    exec.activations = Activations::int8;
    ops::linear_forward<float>(x, w, {}, y, exec);
    const double difference = test::relative_error(y, exact);
    CHECK(difference < 6e-3);
    CHECK((difference > 1e-4) == whole);  // formats without such a product keep the exact one
    for (Index n = 0; n < x.rows(); ++n) {
      exec.threads = 1 + static_cast<int>(n % 3), exec.row_exact = n % 2 == 0 || !whole;
      ops::linear_forward<float>(x.row(n), w, {}, alone, exec);
      CHECK(test::same_bits(alone, y.row(n)));
    }
    x(3, 100) = std::numeric_limits<float>::infinity();
    ops::linear_forward<float>(x, w, {}, y, exec);
    CHECK(!std::isfinite(y(3, 0)));
    CHECK(std::isfinite(y(4, 0)));
  }
}
