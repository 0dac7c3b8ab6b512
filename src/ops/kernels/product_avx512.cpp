// Compiled for AVX-512.
#include "ops/kernels/product.hpp"

namespace glassformer::ops::kernels {
#ifdef __AVX512F__
void product_avx512(const Product<float>& p) { product<kTileAvx512>(p); }
void product_avx512(const Product<double>& p) { product<kTileAvx512>(p); }
#else
void product_avx512(const Product<float>&) {}  // its table is empty, too: kernels.hpp
void product_avx512(const Product<double>&) {}
#endif
}  // namespace glassformer::ops::kernels
