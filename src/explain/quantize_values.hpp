// What `explain_quantize` has read of the engine, and `quantize_story` tells. 64 numbers of one row of W [O, I].
#pragma once
#include <string>
#include <vector>

#include "glassformer/explain/quantize.hpp"
#include "glassformer/quantize/quantized.hpp"

namespace glassformer {

// One format.
struct FormatValues {
  QuantizedType type = QuantizedType::q8_0;
  Index length = 32;                   // of its blocks
  Vector<double> scales;               // [64/length] as they are stored: fp16, or nf4's absmax after double quantization
  Matrix<double> codes, steps;          // [1, 64]
  Matrix<double> back;                 // [1, 64] what dequantize gives
  double bits = 0;                     // a number, scales included
  double error = 0, matrix_error = 0;  // ‖x − x̂‖/‖x‖ of the 64 numbers and of the whole matrix
  Index matrix_bytes = 0;
};

struct QuantizeValues {
  std::string model, tensor;  // model: "" the example
  Index row = 0, block = 0, rows = 0, cols = 0;
  Matrix<double> x;                   // [1, 64]
  std::vector<FormatValues> formats;  // q8_0, q4_0, int4, nf4
  // nf4's scales: the group of up to 256 blocks that the block is in.
  Index group_begin = 0, group_place = 0;  // the group's first block, counted through the matrix; the block's place in it
  Vector<double> absmax;                   // [n] exact
  Vector<double> levels;                   // [n] of dynamic_levels, as their codes say
  Vector<double> absmax_back;              // [n] by the engine
  double offset = 0, group_maximum = 0;
  double exact_scale_error = 0;  // the block's error if absmax were kept exactly
};

Story quantize_story(const QuantizeValues&);

}  // namespace glassformer
