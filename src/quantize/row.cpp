#include "glassformer/quantize/row.hpp"

#include <algorithm>
#include <limits>

namespace glassformer {

template <class S> float quantize_row(std::span<const S> x, std::int8_t* codes) {
  using Array = Eigen::Array<S, Eigen::Dynamic, 1>;
  const Eigen::Map<const Array> row(x.data(), static_cast<Index>(x.size()));
  Eigen::Map<Eigen::Array<std::int8_t, Eigen::Dynamic, 1>> q(codes, row.size());
  const S exact = row.abs().template maxCoeff<Eigen::PropagateNaN>() / S(127);
  if (!(exact <= static_cast<S>(std::numeric_limits<float>::max()))) {  // infinite, NaN, or beyond float
    q.setZero();                                                        // NaN·0 is NaN
    return std::numeric_limits<float>::quiet_NaN();
  }
  // Never below the smallest normal number: a subnormal scale is too coarse to divide by, and a row of zeros would be 0/0.
  const float scale = std::max(static_cast<float>(exact), std::numeric_limits<float>::min());
  q = (row / static_cast<S>(scale)).rint().template cast<std::int8_t>();
  return scale;
}

template <class S> void dequantize_row(float scale, const std::int8_t* codes, std::span<S> y) {
  for (std::size_t d = 0; d < y.size(); ++d) y[d] = static_cast<S>(scale) * static_cast<S>(codes[d]);
}

template float quantize_row<float>(std::span<const float>, std::int8_t*);
template float quantize_row<double>(std::span<const double>, std::int8_t*);
template void dequantize_row<float>(float, const std::int8_t*, std::span<float>);
template void dequantize_row<double>(float, const std::int8_t*, std::span<double>);

}  // namespace glassformer
