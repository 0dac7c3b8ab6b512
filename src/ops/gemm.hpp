// One single-threaded matrix product, as Goto and van de Geijn 2008 cut it. Each element of c is summed in an order that depends on k alone, so a product may be cut
// anywhere into parts.
#pragma once
#include "glassformer/core/matrix.hpp"
#include "ops/kernels/kernels.hpp"

namespace glassformer::ops {

inline Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

// c = alpha·op(a)·op(b) + beta·c + bias for row-major matrices; op transposes where asked. c [m, n], inner length k, leading dimensions in scalars.
template <class S> struct Gemm {
  bool transpose_a = false, transpose_b = false;
  Index m = 0, n = 0, k = 0;
  S alpha = 1;
  const S* a = nullptr;
  Index lda = 0;
  const S* b = nullptr;
  Index ldb = 0;
  S beta = 0;  // 0: c is not read
  S* c = nullptr;
  Index ldc = 0;
  const S* bias = nullptr;  // [n], added to every row; or none
};
template <class S> void gemm(const Gemm<S>&);

// Its innermost loops, by the kernels of this processor, for operands that lie in cache.
inline void tile_product(const kernels::Product<float>& p) { kernels::chosen().product_f32(p); }
inline void tile_product(const kernels::Product<double>& p) { kernels::chosen().product_f64(p); }

}  // namespace glassformer::ops
