// The innermost loops of matrix products and of decoding, compiled once for each instruction set and chosen when the program runs. Files that implement this
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
  // The first tokens as Kernels::turn puts them, eight after eight: [turned_tokens/8 rounded up][turned_size]. Those are multiplied one token a lane.
  const std::byte* turned = nullptr;
  ptrdiff_t turned_tokens = 0;
};

// c [m, n] (+)= alpha·a·b on operands that lie in cache; each element is summed from the first of k to the last.
template <class S> struct Product {
  ptrdiff_t m, n, k;  // n: whole vectors
  const S* a;
  ptrdiff_t a_row, a_col;  // a_ij = a[i·a_row + j·a_col]; one of them is 1
  ptrdiff_t a_group;       // from one group of ProductTile::rows rows of a to the next; 0: they follow one another as rows do
  const S* b;
  ptrdiff_t b_row;
  S alpha;
  S* c;
  ptrdiff_t c_row;
  bool accumulate;
  const S* ahead = nullptr;  // the block of a that comes next, if a_col is 1: a tile fetches numbers [ahead_begin, ahead_end) of the rows that match its own
  ptrdiff_t ahead_begin = 0, ahead_end = 0;
};
// What of c a product holds in registers: `rows` times two vectors. With two vectors of b and a number of a that must leave some free.
struct ProductTile {
  int rows, vector_bytes;
};
constexpr ProductTile kTileAvx512{12, 64}, kTileAvx2{6, 32}, kTilePortable{6, 16};  // 32, 16 and 16 registers
void product_avx512(const Product<float>&), product_avx512(const Product<double>&);
void product_avx2(const Product<float>&), product_avx2(const Product<double>&);
void product_portable(const Product<float>&), product_portable(const Product<double>&);

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
  // Null, or up to eight tokens of x so that `integer` can take them at once with weights of that format. turned_size bytes, at a multiple of 32.
  ptrdiff_t (*turned_size)(Format, ptrdiff_t inputs);
  void (*turn)(Format, const QuantizedInput& x, ptrdiff_t inputs, void* turned);
  ProductTile tile;
  void (*product_f32)(const Product<float>&);
  void (*product_f64)(const Product<double>&);
};

extern const Kernels avx512, avx2, portable;  // what is not compiled in has a null name

// The best that this processor has; or what the environment variable GLASSFORMER_SIMD names (avx512, avx2, portable), where it can run.
const Kernels& chosen();
bool can_run(const Kernels&);

}  // namespace glassformer::ops::kernels
