#include "glassformer/explain/quantize.hpp"

#include <algorithm>

#include "explain/quantize_values.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/quantize/block.hpp"

namespace glassformer {
namespace {

constexpr Index kNumbers = 64, kGroup = 256;

// ‖x − x̂‖/‖x‖; 0 of zeros.
double relative_error(const Matrix<double>& x, const Matrix<double>& back) {
  const double size = x.norm();
  return size > 0 ? (x - back).norm() / size : 0;
}

// The stored code of a step.
double code_of(QuantizedType type, float step) {
  if (type == QuantizedType::q4_0) return static_cast<double>(step) + 8;
  if (type != QuantizedType::nf4) return static_cast<double>(step);
  const auto& levels = nf4_levels();
  return static_cast<double>(std::ranges::find(levels, step) - levels.begin());
}

FormatValues format_values(const QuantizedMatrix& w, ConstMatrixRef<float> numbers, Index row, Index block) {
  FormatValues v;
  v.type = w.type, v.length = block_length(w.type), v.matrix_bytes = w.bytes();
  const bool nf4 = w.type == QuantizedType::nf4;
  v.bits = 8.0 * static_cast<double>(block_bytes(w.type)) / static_cast<double>(v.length) + (nf4 ? (8 + 32.0 / kGroup) / kNumbers : 0);
  v.scales.resize(kNumbers / v.length), v.codes.resize(1, kNumbers), v.steps.resize(1, kNumbers);
  with_block_format(w.type, [&](auto format) {
    const Index first = (row * w.cols + block * kNumbers) / format.kLength;
    for (Index b = 0; b < v.scales.size(); ++b) {
      v.scales(b) = static_cast<double>(format.scale(w, first + b));
      float steps[format.kLength];
      format.steps(w.blocks.data() + (first + b) * format.kBytes, steps);
      for (Index i = 0; i < format.kLength; ++i) {
        v.steps(0, b * format.kLength + i) = static_cast<double>(steps[i]);
        v.codes(0, b * format.kLength + i) = code_of(w.type, steps[i]);
      }
    }
  });
  double error = 0;
  Matrix<float> back(1, w.cols);
  for (Index r = 0; r < w.rows; ++r) {
    dequantize<float>(w, r, back);
    error += (numbers.row(r) - back).cast<double>().squaredNorm();
    if (r == row) v.back = back.middleCols(block * kNumbers, kNumbers).cast<double>();
  }
  const double size = numbers.cast<double>().norm();
  v.matrix_error = size > 0 ? std::sqrt(error) / size : 0;
  v.error = relative_error(numbers.block(row, block * kNumbers, 1, kNumbers).cast<double>(), v.back);
  return v;
}

// The group of scales that the block's own belongs to.
void scale_values(const QuantizedMatrix& w, ConstMatrixRef<float> numbers, QuantizeValues& v) {
  const Index row_blocks = w.cols / kNumbers, at = v.row * row_blocks + v.block, blocks = w.rows * row_blocks;
  v.group_begin = at / kGroup * kGroup, v.group_place = at - v.group_begin;
  const Index n = std::min(kGroup, blocks - v.group_begin);
  v.absmax.resize(n), v.levels.resize(n), v.absmax_back.resize(n);
  for (Index i = 0; i < n; ++i) {
    const Index j = v.group_begin + i;
    v.absmax(i) = static_cast<double>(numbers.block(j / row_blocks, j % row_blocks * kNumbers, 1, kNumbers).cwiseAbs().maxCoeff());
    v.levels(i) = static_cast<double>(dynamic_levels()[w.absmax[static_cast<std::size_t>(j)]]);
    v.absmax_back(i) = static_cast<double>(nf4_absmax(w, j));
  }
  v.offset = static_cast<double>(w.offset);
  v.group_maximum = static_cast<double>(w.group_maximum[static_cast<std::size_t>(at / kGroup)]);
  v.exact_scale_error = relative_error(v.x, v.absmax(v.group_place) * v.formats.back().steps);
}

QuantizeValues values_of(ConstMatrixRef<float> numbers, const QuantizeQuestion& question) {
  QuantizeValues v;
  v.row = question.row, v.block = question.block, v.rows = numbers.rows(), v.cols = numbers.cols();
  v.x = numbers.block(v.row, v.block * kNumbers, 1, kNumbers).cast<double>();
  for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4}) {
    const QuantizedMatrix w = quantize(type, numbers, question.exec);
    v.formats.push_back(format_values(w, numbers, v.row, v.block));
    if (type == QuantizedType::nf4) scale_values(w, numbers, v);
  }
  return v;
}

}  // namespace

Story explain_quantize(const Decoder<float>& m, const std::string& model, const QuantizeQuestion& question) {
  require(m.quantized.empty(), "explain quantize: expected a model in floating point, found a quantized one");
  const std::string name = question.tensor.empty() ? "blocks.0.attn.qkv.weight" : question.tensor;
  const TensorInfo* info = m.arena.layout().find(name);
  require(info && info->kind != ParameterKind::vector, "tensor: expected a matrix of the model such as blocks.0.attn.qkv.weight, found {}",
          name);
  require(info->cols % kNumbers == 0, "tensor: expected a matrix whose rows are a multiple of {} numbers, found {} with {}", kNumbers, name,
          info->cols);
  const Index blocks = info->cols / kNumbers;
  require(question.row >= 0 && question.row < info->rows, "row: expected 0 to {} in {}, found {}", info->rows - 1, name, question.row);
  require(question.block >= 0 && question.block < blocks, "block: expected 0 to {} in a row of {}, found {}", blocks - 1, name,
          question.block);
  QuantizeValues v = values_of(*m.arena.view(*info), question);
  v.model = model, v.tensor = name;
  return quantize_story(v);
}

Story explain_quantize_example() {
  Matrix<float> numbers = Matrix<float>::Zero(4, kNumbers);  // absmax 2, 1.5, 2.5, 2: their mean is 2
  numbers.row(0).head(4) << 0.9f, -2.0f, 0.16f, -1.2f;
  numbers(1, 0) = 1.5f, numbers(2, 0) = -2.5f, numbers(3, 0) = 2.0f;
  QuantizeValues v = values_of(numbers, {});
  v.tensor = "a matrix of 4 rows of 64";
  return quantize_story(v);
}

}  // namespace glassformer
