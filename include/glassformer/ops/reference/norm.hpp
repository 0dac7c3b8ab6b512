// LayerNorm and RMSNorm, as formulas. Contracts: ops/norm.hpp. Legend: N tokens, C channels; r = 1/√(var + ε), x̂ = (x − mean)·r.
#pragma once
#include <cmath>

#include "glassformer/ops/norm.hpp"

namespace glassformer::ops::reference {

// y = x̂ ⊙ g + b; RMSNorm is the same with mean = 0 and no b in its usual form.
template <class S>
void norm_forward(Norm kind, ConstMatrixRef<S> x, MatrixView<S> gain, MatrixView<S> bias, S epsilon, MatrixRef<S> y,
                  NormStatistics<S>& statistics) {
  using std::sqrt;
  statistics.mean.resize(x.rows());
  statistics.inverse_deviation.resize(x.rows());
  for (Index n = 0; n < x.rows(); ++n) {
    const S mean = kind == Norm::layer ? S(x.row(n).mean()) : S(0);
    const Vector<S> centred = x.row(n).array() - mean;  // [C]
    const S variance = centred.array().square().mean();
    const S r = S(1) / sqrt(variance + epsilon);
    y.row(n) = (centred.array() * r) * (*gain).row(0).array();
    if (bias) y.row(n) += (*bias).row(0);
    statistics.mean(n) = mean;
    statistics.inverse_deviation(n) = r;
  }
}

// forward was: y = x̂ ⊙ g + b. With dx̂ = dy ⊙ g, and because mean and r depend on every x of the row:
//   LayerNorm  dx = r·(dx̂ − mean(dx̂) − x̂·mean(dx̂ ⊙ x̂))      RMSNorm  dx = r·(dx̂ − x̂·mean(dx̂ ⊙ x̂))
template <class S>
void norm_backward(Norm kind, ConstMatrixRef<S> x, MatrixView<S> gain, const NormStatistics<S>& statistics, ConstMatrixRef<S> dy,
                   MatrixRef<S> dx, MatrixView<S> dgain, MatrixView<S> dbias) {
  for (Index n = 0; n < x.rows(); ++n) {
    const S mean = statistics.mean(n), r = statistics.inverse_deviation(n);
    const Vector<S> normalized = (x.row(n).array() - mean) * r;                    // x̂ [C]
    const Vector<S> dnormalized = dy.row(n).array() * (*gain).row(0).array();      // dx̂ [C]
    if (dgain) (*dgain).row(0).array() += dy.row(n).array() * normalized.array();  // dg += dy ⊙ x̂
    if (dbias) (*dbias).row(0) += dy.row(n);                                       // db += dy
    const S through_mean = kind == Norm::layer ? S(dnormalized.mean()) : S(0);
    const S through_deviation = (dnormalized.array() * normalized.array()).mean();
    dx.row(n) = r * (dnormalized.array() - through_mean - normalized.array() * through_deviation);
  }
}

}  // namespace glassformer::ops::reference
