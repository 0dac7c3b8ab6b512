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

// x, y [N, C]; gain [1, C]; bias [1, C] or absent. y may be x. `keep`, where it is not null, gets a copy of x [N, C], which the backward pass reads:
// on the way, while each row is at hand.
template <class S>
void norm_forward(Norm, ConstMatrixRef<S> x, MatrixView<S> gain, MatrixView<S> bias, S epsilon, MatrixRef<S> y, NormStatistics<S>& statistics, const Exec&,
                  MatrixView<S> keep = {});

// What happens to dx: assigned, or added to, as where a residual connection goes around the norm.
enum class Into { assign, add };
// dx [N, C] (which may be dy where it is assigned); dgain and dbias accumulate and may be absent (frozen, or no bias).
template <class S>
void norm_backward(Norm, ConstMatrixRef<S> x, MatrixView<S> gain, const NormStatistics<S>& statistics, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                   MatrixView<S> dgain, MatrixView<S> dbias, const Exec&, Into into = Into::assign);

}  // namespace glassformer::ops
