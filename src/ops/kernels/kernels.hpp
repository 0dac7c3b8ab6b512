// The innermost loops of decoding, compiled once for each instruction set and chosen when the program runs. Files that implement this
// header are compiled with flags of their own, so they share no inline code with the rest: raw pointers here, no Eigen, no templates of
// std. Legend: N rows of x (tokens), I inputs, O outputs (rows of W). Every output is summed in one order that depends on I alone: a token
// gets the same bits alone and beside others.
#pragma once
#include <cstddef>
#include <cstdint>

namespace glassformer::ops::kernels {

using std::ptrdiff_t;

enum class Format { q8_0, q4_0, int4, nf4 };  // quantize/quantized.hpp says how a block of each lies

struct Rows {  // n rows of numbers, `stride` apart
  const float* data;
  ptrdiff_t n, stride;
};
struct QuantizedRows {  // O rows of W, one after another
  Format format;
  const std::uint8_t* blocks;
  const float* scales;  // nf4 only: absmax of each block, [O, I/64]
  ptrdiff_t rows, cols;
  const float* levels = nullptr;  // nf4 only: nf4_levels()
};
struct Output {  // y [N, O]
  float* data;
  ptrdiff_t stride;
};

// x in 8 bits, for products in whole numbers: x ≈ scale·code in blocks of 32 (q8_0 of a token's activations).
struct QuantizedInput {
  const std::int8_t* codes;  // [N, I]
  const float* scales;       // [N, I/32]
  const std::int32_t* sums;  // [N, I/32] Σ codes of the block: what W's codes are more than they stand for is taken off again
  ptrdiff_t n;
};

struct Kernels {
  const char* name;  // "AVX-512", "AVX2", "portable"
  // y = x·Wᵀ
  void (*dense)(Rows x, const float* w, ptrdiff_t w_stride, ptrdiff_t outputs, ptrdiff_t inputs, Output y);
  void (*q8_0)(Rows x, const QuantizedRows& w, Output y);
  // The same for formats of 4 bits, whose codes are taken out of a register in an order that suits it: x must be arranged likewise, once
  // for all rows of W. `arranged_size` numbers a row.
  ptrdiff_t (*arranged_size)(ptrdiff_t inputs);
  void (*arrange)(Format, const float* x, ptrdiff_t inputs, float* arranged);
  void (*nibbles)(Rows arranged_x, const QuantizedRows& w, Output y);
  // y = x·Wᵀ in whole numbers within a block of 32, for q8_0 and q4_0. `scratch` holds integer_scratch(I) bytes, at a multiple of 64.
  ptrdiff_t (*integer_scratch)(ptrdiff_t inputs);
  void (*integer)(const QuantizedInput& x, const QuantizedRows& w, void* scratch, Output y);
};

extern const Kernels avx512, avx2, portable;  // what is not compiled in has a null name

// The best that this processor has; or what the environment variable GLASSFORMER_SIMD names (avx512, avx2, portable), where it can run.
const Kernels& chosen();
bool can_run(const Kernels&);

}  // namespace glassformer::ops::kernels
