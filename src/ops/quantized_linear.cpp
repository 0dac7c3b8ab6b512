#include "ops/quantized_linear.hpp"

#include "glassformer/ops/linear.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kTileRows = 64;  // of W at a time

}  // namespace

template <class S> void quantized_multiply_nt(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y, const Exec& exec) {
  Matrix<S> tile;
  for (Index o = 0; o < w.rows(); o += kTileRows) {
    tile.resize(std::min(kTileRows, w.rows() - o), w.cols());
    dequantize<S>(*w.quantized, w.first_row + o, tile);
    multiply_nt<S>(1, x, tile, 0, y.middleCols(o, tile.rows()), exec);
  }
}

template <class S> void quantized_multiply_nn(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y, const Exec& exec) {
  Matrix<S> tile;
  y.setZero();
  for (Index o = 0; o < w.rows(); o += kTileRows) {
    tile.resize(std::min(kTileRows, w.rows() - o), w.cols());
    dequantize<S>(*w.quantized, w.first_row + o, tile);
    multiply_nn<S>(1, x.middleCols(o, tile.rows()), tile, 1, y, exec);
  }
}

template void quantized_multiply_nt<float>(ConstMatrixRef<float>, const Weight<float>&, MatrixRef<float>, const Exec&);
template void quantized_multiply_nt<double>(ConstMatrixRef<double>, const Weight<double>&, MatrixRef<double>, const Exec&);
template void quantized_multiply_nn<float>(ConstMatrixRef<float>, const Weight<float>&, MatrixRef<float>, const Exec&);
template void quantized_multiply_nn<double>(ConstMatrixRef<double>, const Weight<double>&, MatrixRef<double>, const Exec&);

}  // namespace glassformer::ops
