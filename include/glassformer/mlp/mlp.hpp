// The position-wise network.  Legend: N tokens, C channels, F hidden width.
//   GELU     y = gelu(x·Wupᵀ + b)·Wdownᵀ + b                    (Vaswani et al. 2017; GPT-2)
//   SwiGLU   y = (silu(x·Wgateᵀ) ⊙ (x·Wupᵀ))·Wdownᵀ             (Shazeer 2020; Llama)
#pragma once
#include "glassformer/projection/projection.hpp"

namespace glassformer {

enum class Mlp { gelu_tanh, gelu_exact, swiglu, none };

template <class S> struct MlpParams {
  Mlp kind = Mlp::gelu_tanh;
  Projection<S> up;    // [F, C]; SwiGLU [2F, C]: rows of the gate, then of up
  Projection<S> down;  // [C, F]
  double dropout = 0;  // on the output
};
template <class S> struct MlpGrads {
  ProjectionGradients<S> up, down;
};
template <class S> struct MlpSaved {
  Matrix<S> x;     // [N, C]
  Matrix<S> pre;   // [N, F] or [N, 2F], before the non-linearity
  Matrix<S> post;  // [N, F], after it
};

// x, y [N, C]. Saved is null in inference. Sites: mlp.pre, mlp.post
template <class S> void mlp_forward(const MlpParams<S>&, const Pass<S>&, ConstMatrixRef<S> x, MatrixRef<S> y, MlpSaved<S>* saved);
// dx is assigned.
template <class S> void mlp_backward(const MlpParams<S>&, const Pass<S>&, const MlpSaved<S>&, ConstMatrixRef<S> dy, MatrixRef<S> dx, MlpGrads<S>&);

}  // namespace glassformer
