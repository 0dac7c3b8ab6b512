// For any processor.
#include "ops/kernels/product.hpp"

namespace glassformer::ops::kernels {
void product_portable(const Product<float>& p) { product<kTilePortable>(p); }
void product_portable(const Product<double>& p) { product<kTilePortable>(p); }
}  // namespace glassformer::ops::kernels
