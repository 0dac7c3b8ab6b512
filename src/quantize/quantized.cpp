#include "glassformer/quantize/quantized.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "glassformer/quantize/block.hpp"

namespace glassformer {
namespace {

struct Format {
  QuantizedType type;
  const char* name;
  Index length, bytes;  // of a block
  float largest;        // number that it can hold: of an fp16 scale, 65504, times the most steps
};
constexpr float kF16Max = 65504;
constexpr Format kFormats[] = {{QuantizedType::q8_0, "q8_0", 32, 34, 127 * kF16Max},
                               {QuantizedType::q4_0, "q4_0", 32, 18, 8 * kF16Max},
                               {QuantizedType::int4, "int4", 64, 34, 7 * kF16Max},
                               {QuantizedType::nf4, "nf4", 64, 32, std::numeric_limits<float>::max()}};
constexpr Index kGroup = 256;  // absmax that share a float
constexpr Index kRowsAtOnce = 16;

const Format& format_of(QuantizedType type) { return kFormats[static_cast<std::size_t>(type)]; }

void put_f16(std::byte* block, float d) {
  const std::uint16_t bits = f16_from_float(d);
  std::memcpy(block, &bits, 2);
}

// 1/d, and 0 where the scale is zero or so small that its inverse is no number: fp16 has no such scale either, every x becomes 0.
float inverse_or_zero(float d) {
  const float inverse = 1 / d;
  return std::isfinite(inverse) ? inverse : 0;
}

std::byte two_nibbles(int low, int high) { return static_cast<std::byte>(high << 4 | low); }

using Numbers = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;

void quantize_q8_0(const float* x, std::byte* block) {
  const float d = Numbers(x, 32).abs().maxCoeff() / 127, inverse = inverse_or_zero(d);
  put_f16(block, d);
  for (Index i = 0; i < 32; ++i) block[2 + i] = static_cast<std::byte>(static_cast<int>(std::round(x[i] * inverse)));
}

void quantize_q4_0(const float* x, std::byte* block) {
  Index largest = 0;
  Numbers(x, 32).abs().maxCoeff(&largest);
  const float d = x[largest] / -8, inverse = inverse_or_zero(d);  // the largest becomes −8 exactly, whatever its sign
  put_f16(block, d);
  const auto code = [&](float v) { return std::min(15, static_cast<int>(v * inverse + 8.5f)); };
  for (Index i = 0; i < 16; ++i) block[2 + i] = two_nibbles(code(x[i]), code(x[i + 16]));
}

void quantize_int4(const float* x, std::byte* block) {
  const float d = Numbers(x, 64).abs().maxCoeff() / 7, inverse = inverse_or_zero(d);
  put_f16(block, d);
  const auto code = [&](float v) { return static_cast<int>(std::round(v * inverse)) + 8; };
  for (Index i = 0; i < 32; ++i) block[2 + i] = two_nibbles(code(x[i]), code(x[i + 32]));
}

// The number of middles between neighbouring levels that lie below v: the index of the nearest level.
template <std::size_t N> int nearest(const std::array<float, N>& levels, float v) {
  int index = 0;
  for (std::size_t i = 0; i + 1 < N; ++i) index += v > (levels[i] + levels[i + 1]) / 2;
  return index;
}

void quantize_nf4(const float* x, std::byte* block, float& absmax) {
  absmax = Numbers(x, 64).abs().maxCoeff();
  const auto code = [&](float v) { return nearest(nf4_levels(), absmax > 0 ? v / absmax : 0); };
  for (Index i = 0; i < 32; ++i) block[i] = two_nibbles(code(x[2 * i + 1]), code(x[2 * i]));
}

// Double quantization: what is left of absmax without their mean, over the largest of its group, in 8 bits.
void quantize_absmax(const std::vector<float>& absmax, QuantizedMatrix& w, const Exec& exec) {
  double sum = 0;
  for (const float a : absmax) sum += a;
  const auto blocks = static_cast<Index>(absmax.size());
  w.offset = blocks == 0 ? 0 : static_cast<float>(sum / static_cast<double>(blocks));
  w.absmax.resize(absmax.size());
  w.group_maximum.resize(static_cast<std::size_t>((blocks + kGroup - 1) / kGroup));
  parallel_blocks(exec.threads, blocks, kGroup, [&](Index begin, Index end) {
    const auto differences = Numbers(absmax.data() + begin, end - begin) - w.offset;
    const float maximum = differences.abs().maxCoeff();
    w.group_maximum[static_cast<std::size_t>(begin / kGroup)] = maximum;
    for (Index j = begin; j < end; ++j) {
      int code = nearest(dynamic_levels(), maximum > 0 ? differences(j - begin) / maximum : 0);
      do {  // an absmax below zero would turn the signs of its block
        w.absmax[static_cast<std::size_t>(j)] = static_cast<std::uint8_t>(code++);
      } while (nf4_absmax(w, j) < 0);
    }
  });
}

void require_numbers(const Format& format, ConstMatrixRef<float> x) {
  for (Index r = 0; r < x.rows(); ++r) {
    const auto good = [&](float v) { return std::abs(v) <= format.largest; };
    if ((x.row(r).array().abs() <= format.largest).all()) continue;
    const float* row = x.data() + r * x.outerStride();
    const float* bad = std::find_if_not(row, row + x.cols(), good);
    require(false, "quantize: expected finite numbers of magnitude at most {} for {}, found {} in row {}, column {}", format.largest, format.name, *bad, r,
            bad - row);
  }
}

}  // namespace

std::string_view quantized_name(QuantizedType type) { return format_of(type).name; }
Index block_length(QuantizedType type) { return format_of(type).length; }
Index block_bytes(QuantizedType type) { return format_of(type).bytes; }

Expected<QuantizedType> quantized_named(std::string_view name) {
  for (const Format& f : kFormats) {
    if (name == f.name) return f.type;
  }
  return unexpected("expected one of q8_0, q4_0, int4, nf4, found {}", name);
}

Index QuantizedMatrix::bytes() const {
  return static_cast<Index>(blocks.size() + absmax.size() + group_maximum.size() * sizeof(float) + (absmax.empty() ? 0 : sizeof(float)));
}

QuantizedMatrix quantize(QuantizedType type, ConstMatrixRef<float> x, const Exec& exec) {
  const Format& format = format_of(type);
  require(x.cols() % format.length == 0, "quantize: expected rows of a multiple of {} numbers for {}, found {}", format.length, format.name, x.cols());
  require_numbers(format, x);
  const Index row_blocks = x.cols() / format.length;
  QuantizedMatrix w{.type = type, .rows = x.rows(), .cols = x.cols()};
  w.blocks.resize(static_cast<std::size_t>(x.rows() * row_blocks * format.bytes));
  std::vector<float> absmax(type == QuantizedType::nf4 ? static_cast<std::size_t>(x.rows() * row_blocks) : 0);
  parallel_blocks(exec.threads, x.rows(), kRowsAtOnce, [&](Index begin, Index end) {
    for (Index j = begin * row_blocks; j < end * row_blocks; ++j) {
      const float* numbers = x.data() + j / row_blocks * x.outerStride() + j % row_blocks * format.length;
      std::byte* block = w.blocks.data() + j * format.bytes;
      switch (type) {
        case QuantizedType::q8_0:
          quantize_q8_0(numbers, block);
          break;
        case QuantizedType::q4_0:
          quantize_q4_0(numbers, block);
          break;
        case QuantizedType::int4:
          quantize_int4(numbers, block);
          break;
        case QuantizedType::nf4:
          quantize_nf4(numbers, block, absmax[static_cast<std::size_t>(j)]);
          break;
      }
    }
  });
  if (type == QuantizedType::nf4) quantize_absmax(absmax, w, exec);
  return w;
}

template <class S> void dequantize(const QuantizedMatrix& w, Index begin, MatrixRef<S> y) {
  require_shape("dequantize", y.rows(), y.cols(), y.rows(), w.cols);
  require(begin >= 0 && begin + y.rows() <= w.rows, "dequantize: expected rows within 0 to {}, found {} to {}", w.rows, begin, begin + y.rows());
  with_block_format(w.type, [&](auto format) {
    const Index row_blocks = w.cols / format.kLength;
    for (Index n = 0; n < y.rows(); ++n) {
      S* numbers = y.data() + n * y.outerStride();
      for (Index b = 0; b < row_blocks; ++b) read_block<decltype(format)>(w, (begin + n) * row_blocks + b, numbers + b * format.kLength);
    }
  });
}
template void dequantize<float>(const QuantizedMatrix&, Index, MatrixRef<float>);
template void dequantize<double>(const QuantizedMatrix&, Index, MatrixRef<double>);

}  // namespace glassformer
