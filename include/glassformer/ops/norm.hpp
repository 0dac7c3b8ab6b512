// Normalisation of each row. Legend: N tokens, C channels.
//   LayerNorm (Ba, Kiros, Hinton 2016)   y = (x − mean)/√(var + ε) ⊙ g + b
//   RMSNorm   (Zhang, Sennrich 2019)     y = x/√(mean(x²) + ε) ⊙ g
#pragma once
#include "glassformer/core/parallel.hpp"

namespace glassformer::ops {

enum class Norm { layer, rms };

// What the backward pass needs beside x: one value a row.
template <class S> struct NormStatistics {
  Vector<S> mean;                // [N], zero for RMSNorm
  Vector<S> inverse_deviation;   // [N], 1/√(var + ε) or 1/√(mean(x²) + ε)
};

// x, y [N, C]; gain [1, C]; bias [1, C] or absent. y may be x.
template <class S>
void norm_forward(Norm, ConstMatrixRef<S> x, MatrixView<S> gain, MatrixView<S> bias, S epsilon, MatrixRef<S> y, NormStatistics<S>& statistics, const Exec&);

// dx is assigned (dx may be dy); dgain and dbias accumulate and may be absent (frozen, or no bias).
template <class S>
void norm_backward(Norm, ConstMatrixRef<S> x, MatrixView<S> gain, const NormStatistics<S>& statistics, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                   MatrixView<S> dgain, MatrixView<S> dbias, const Exec&);

}  // namespace glassformer::ops
