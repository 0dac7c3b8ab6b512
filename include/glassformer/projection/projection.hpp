// A linear layer with adapters on ranges of its rows:  y = x·Wᵀ + b + Σ adapters.
// Legend: N tokens, I inputs, O outputs.
#pragma once
#include <string_view>
#include <vector>

#include "glassformer/lora/lora.hpp"
#include "glassformer/pass/pass.hpp"

namespace glassformer {

template <class S> struct Projection {
  MatrixView<S> weight;  // [O, I]
  MatrixView<S> bias;    // [1, O] or absent
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

}  // namespace glassformer
