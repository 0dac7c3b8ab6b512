// One single-threaded matrix product, by oneDNN where CMake found it and by Eigen elsewhere. The rest of the code never knows.
#pragma once
#include "glassformer/core/matrix.hpp"

namespace glassformer::ops {

// c = alpha·op(a)·op(b) + beta·c for row-major matrices; op transposes where asked. c [m, n], inner length k, leading dimensions in scalars.
template <class S> struct Gemm {
  bool transpose_a = false, transpose_b = false;
  Index m = 0, n = 0, k = 0;
  S alpha = 1;
  const S* a = nullptr;
  Index lda = 0;
  const S* b = nullptr;
  Index ldb = 0;
  S beta = 0;
  S* c = nullptr;
  Index ldc = 0;
};
template <class S> void gemm(const Gemm<S>&);

}  // namespace glassformer::ops
