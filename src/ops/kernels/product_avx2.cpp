// Compiled for AVX2 with FMA.
#include "ops/kernels/product.hpp"

namespace glassformer::ops::kernels {
#ifdef __AVX2__
void product_avx2(const Product<float>& p) { product<kTileAvx2>(p); }
void product_avx2(const Product<double>& p) { product<kTileAvx2>(p); }
#else
void product_avx2(const Product<float>&) {}  // its table is empty, too: kernels.hpp
void product_avx2(const Product<double>&) {}
#endif
}  // namespace glassformer::ops::kernels
