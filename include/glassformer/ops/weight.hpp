// The matrix W [O, I] of a linear layer or an embedding: in floating point, or quantized and only read.
#pragma once
#include <memory>

#include "glassformer/core/require.hpp"
#include "glassformer/quantize/quantized.hpp"

namespace glassformer::ops {

template <class S> struct Weight {
  MatrixView<S> dense;                               // null when quantized
  std::shared_ptr<const QuantizedMatrix> quantized;  // null when dense
  Index first_row = 0, row_count = 0;                // of `quantized`: the part that this is

  Weight() = default;
  Weight(MatrixView<S> view) : dense(view) {}
  Weight(std::shared_ptr<const QuantizedMatrix> q) : quantized(std::move(q)), row_count(quantized->rows) {}

  Index rows() const { return quantized ? row_count : dense.rows; }
  Index cols() const { return quantized ? quantized->cols : dense.cols; }
  Index size() const { return rows() * cols(); }
  explicit operator bool() const { return dense || quantized; }
  // Rows [begin, begin + count), without a copy.
  Weight part(Index begin, Index count) const {
    Weight w = *this;
    if (quantized) {
      w.first_row += begin, w.row_count = count;
    } else {
      w.dense = {dense.data + begin * dense.cols, count, dense.cols};
    }
    return w;
  }
  // As an Eigen expression; throws std::invalid_argument when quantized.
  auto operator*() const {
    require(!quantized, "weight: expected a matrix in floating point, found one in {}", quantized ? quantized_name(quantized->type) : "");
    return *dense;
  }
};

}  // namespace glassformer::ops
