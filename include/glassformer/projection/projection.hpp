// A linear layer, or an embedding, with adapters on ranges of its rows:  y = x·Wᵀ + b + Σ adapters.   Looked up:  y_n = (W + Σ ΔW)[id_n].
// W is dense or quantized. The token embedding and the output head are one such matrix too.
// Legend: N tokens, I inputs, O outputs.
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "glassformer/lora/lora.hpp"
#include "glassformer/pass/pass.hpp"

namespace glassformer {

template <class S> struct Projection {
  ops::Weight<S> weight;  // [O, I]
  MatrixView<S> bias;     // [1, O] or absent
  std::vector<LoraView<S>> adapters;
};

template <class S> struct ProjectionGradients {
  MatrixView<S> weight, bias;  // absent where frozen
  std::vector<LoraGradients<S>> adapters;
};

// x [N, I], y [N, O] assigned. `name` tells the random streams of different projections apart.
template <class S> void projection_forward(const Projection<S>&, const Pass<S>&, std::string_view name, ConstMatrixRef<S> x, MatrixRef<S> y);
// dx [N, I] assigned; gradients accumulate.
template <class S>
void projection_backward(const Projection<S>&, const Pass<S>&, std::string_view name, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                         ProjectionGradients<S>&);

// y_n = (W + Σ w·s·B·A)[ids_n]       y [N, I] assigned. LoRA alone: a looked-up matrix has no DoRA.
template <class S> void lookup_forward(const Projection<S>&, const Pass<S>&, std::span<const Token> ids, MatrixRef<S> y);
// dW[ids_n] += dy_n,  dB[ids_n] += w·s·dy_n·Aᵀ,  dA += s·Σ_n w·B[ids_n]ᵀ·dy_n
template <class S> void lookup_backward(const Projection<S>&, const Pass<S>&, std::span<const Token> ids, ConstMatrixRef<S> dy, ProjectionGradients<S>&);

}  // namespace glassformer
