// The linear product for decoding: each output is one dot product of rows where they lie, summed in an order that depends on its length alone. A
// sequence therefore gets the same bits alone and in a batch.
#pragma once
#include "glassformer/core/parallel.hpp"

namespace glassformer::ops {

// c = alpha·a·bᵀ + beta·c     a [N, K], b [M, K], c [N, M]
template <class S> void row_dot(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec&);

}  // namespace glassformer::ops
