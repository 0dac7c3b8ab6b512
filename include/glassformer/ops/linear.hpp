// Matrix products, and the linear layer made of them.
// Legend: N tokens (rows), I inputs, O outputs. Weights are [out, in].
#pragma once
#include "glassformer/core/parallel.hpp"
#include "glassformer/ops/weight.hpp"

namespace glassformer::ops {

// c = alpha·a·bᵀ + beta·c     a [N, K], b [M, K], c [N, M]
template <class S> void multiply_nt(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec&);
// c = alpha·a·b + beta·c      a [N, K], b [K, M], c [N, M]
template <class S> void multiply_nn(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec&);
// c = alpha·aᵀ·b + beta·c     a [K, N], b [K, M], c [N, M]
template <class S> void multiply_tn(S alpha, ConstMatrixRef<S> a, ConstMatrixRef<S> b, S beta, MatrixRef<S> c, const Exec&);
// All three throw std::invalid_argument when the shapes do not fit. With beta = 0, c is not read. The same bits for any
// number of threads; multiply_nt with exec.row_exact also for any number of rows.

// y = x·Wᵀ + b                x [N, I], W [O, I], b [1, O] or absent, y [N, O]
// A quantized W is turned to floating point a few rows at a time, in registers (exec.row_exact) or in a tile that lies in cache. With
// exec.activations int8 (and fused kernels), q8_0 and q4_0 in float are instead multiplied in whole numbers: x is rounded to 8 bits a block of 32, which changes
// y by some 0.5% of its size, and each row of y has the same bits for any number of rows.
template <class S> void linear_forward(ConstMatrixRef<S> x, const Weight<S>& weight, MatrixView<S> bias, MatrixRef<S> y, const Exec&);
// dx = dy·W                   assigned
template <class S> void linear_backward_input(ConstMatrixRef<S> dy, const Weight<S>& weight, MatrixRef<S> dx, const Exec&);
// dW += dyᵀ·x, db += Σ_rows dy; an absent gradient (frozen weight, no bias) is left out
template <class S>
void linear_backward_parameters(ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixView<S> dweight, MatrixView<S> dbias, const Exec&);

// The instruction set of the kernels: "AVX-512", "AVX2" or "portable", the best that this processor has. The environment variable
// GLASSFORMER_SIMD (avx512, avx2, portable) asks for less; anything else in it throws std::invalid_argument.
const char* kernel_name();

}  // namespace glassformer::ops
