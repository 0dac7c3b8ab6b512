// LoRA (Hu et al. 2021): a frozen W learns a low-rank change.   y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ,  s = α/r (rsLoRA: α/√r)
// Legend: N tokens, I inputs, O outputs, r rank. A [r, I] starts Kaiming-uniform, B [O, r] zero, so a fresh adapter changes nothing.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "glassformer/core/arena.hpp"
#include "glassformer/core/workspace.hpp"
#include "glassformer/ops/activation.hpp"

namespace glassformer {

struct LoraConfig {
  Index rank = 8;
  double alpha = 16;
  double dropout = 0;                              // on the adapter's input, while training
  bool rank_stabilized = false;                    // rsLoRA (Kalajdzievski 2023): s = α/√r
  std::vector<std::string> targets;                // projections by the end of their names, "attn.qkv"; empty: all linear layers
  double scale() const;
};

// One adapter on the rows `row_begin` … `row_begin + O` of a projection.
template <class S> struct LoraView {
  MatrixView<S> a, b;  // [r, I], [O, r]
  Index row_begin = 0;
  S scale = 0;
  double dropout = 0;
};
template <class S> struct LoraGradients {
  MatrixView<S> a, b;  // null where frozen
};

// y[:, rows] += s·(x·Aᵀ)·Bᵀ;   x [N, I], y [N, all outputs of the projection]
template <class S>
void lora_forward(const LoraView<S>&, const ops::Dropout&, ConstMatrixRef<S> x, MatrixRef<S> y, Workspace&, const Exec&);
// dA += s·(dy·B)ᵀ·x, dB += s·dyᵀ·(x·Aᵀ), dx += s·(dy·B)·A, with dy the columns of the adapter's rows. All accumulate.
template <class S>
void lora_backward(const LoraView<S>&, const ops::Dropout&, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx, LoraGradients<S>&, Workspace&,
                   const Exec&);
// W[rows] += s·B·A. To unmerge, restore the W that you kept: subtracting does not give the same bits.
template <class S> void lora_merge(const LoraView<S>&, MatrixView<S> weight, const Exec&);

}  // namespace glassformer
