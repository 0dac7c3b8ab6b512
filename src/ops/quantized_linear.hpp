// Products with a quantized weight, which is never turned to floating point as a whole: a few rows at a time, in registers or in a tile.
// Shapes are checked by ops/linear.
#pragma once
#include "glassformer/core/parallel.hpp"
#include "glassformer/ops/weight.hpp"

namespace glassformer::ops {

// y = x·Wᵀ   x [N, I], W [O, I], y [N, O]
template <class S> void quantized_multiply_nt(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y, const Exec&);
// y = x·W    x [N, O], W [O, I], y [N, I]
template <class S> void quantized_multiply_nn(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y, const Exec&);

}  // namespace glassformer::ops
