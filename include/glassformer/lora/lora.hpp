// Low-rank adapters of a frozen matrix.
//   LoRA (Hu et al. 2021)             y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ,   s = α/r (rsLoRA, Kalajdzievski 2023: α/√r)
//   DoRA (Liu et al. 2024)            y = x·W'ᵀ,   row o of W' is m_o·V_o/‖V_o‖,   V = W + s·B·A; m starts at the row norms of W
// Legend: N tokens, I inputs, O outputs, r rank. A [r, I] starts Kaiming-uniform, B [O, r] zero, so a fresh adapter changes nothing.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "glassformer/core/arena.hpp"
#include "glassformer/core/workspace.hpp"
#include "glassformer/ops/activation.hpp"
#include "glassformer/ops/weight.hpp"

namespace glassformer {

struct LoraConfig {
  Index rank = 8;
  double alpha = 16;
  double dropout = 0;                              // on the adapter's input, while training
  bool rank_stabilized = false;                    // rsLoRA: s = α/√r
  bool dora = false;                               // a magnitude m a row; linear layers only
  std::vector<std::string> targets;                // "attn.qkv", "embed", …; empty: all linear layers
  // Other ranks and alphas for some: by target ("attn.q") or by one layer's ("blocks.0.attn.q"), the latter first.
  std::map<std::string, Index> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  double scale() const { return scale(rank, alpha); }
  double scale(Index r, double a) const;
};

// What DoRA's forward and backward pass read again, of one adapter: computed by dora_refresh, not by every pass.
template <class S> struct DoraNorms {
  Matrix<S> projected;           // P = W·Aᵀ [O, r]
  Vector<S> base_squares, norm;  // ‖w_o‖², ‖V_o‖ [O]
};

// One adapter on the rows `row_begin` … `row_begin + O` of a projection.
template <class S> struct LoraView {
  MatrixView<S> a, b;       // [r, I], [O, r]
  Index row_begin = 0;
  S scale = 0;              // s
  double dropout = 0;
  S weight = 1;             // of the whole change, W' − W, in a mixture of adapters
  Index adapter = 0;        // which of the attached adapters this is a part of: the column of Pass::mix
  MatrixView<S> magnitude;  // DoRA's m [1, O]; absent: LoRA
  std::shared_ptr<DoraNorms<S>> norms;  // with a magnitude
};
template <class S> struct LoraGradients {
  MatrixView<S> a, b, magnitude;  // null where frozen
};

// How much of the adapter each row of x gets: `rows` [N] when the rows' requests mix adapters unalike, else view.weight for all.
template <class S> using RowWeights = std::span<const S>;

// y[:, rows] += w·(x·W'ᵀ − x·Wᵀ)      x [N, I], y [N, all outputs of the projection]
//   LoRA:  + w·s·(x·Aᵀ)·Bᵀ
//   DoRA:  + w·((c − 1) ⊙ u + c ⊙ s·(x·Aᵀ)·Bᵀ),   c_o = m_o/‖V_o‖,   u = x·Wᵀ = base[:, rows] (without bias; y is not read for it)
// `base` [N, all outputs] is needed by DoRA only and may not be y itself.
template <class S>
void lora_forward(const LoraView<S>&, const ops::Dropout&, RowWeights<S>, ConstMatrixRef<S> x, MatrixView<const S> base, MatrixRef<S> y, Workspace&, const Exec&);
// Gradients of the above, with g = w·dy (the columns of the adapter's rows):
//   LoRA:  dA += s·(g·B)ᵀ·x,  dB += s·gᵀ·(x·Aᵀ),  dx += s·(g·B)·A
//   DoRA:  the same with c ⊙ g; t_o = Σ_n g_no·(u + s·(x·Aᵀ)·Bᵀ)_no;  dm_o += t_o/‖V_o‖;  and through the norm, with
//          q_o = −t_o·c_o/‖V_o‖²:  dB += s·diag(q)·V·Aᵀ,  dA += s·Bᵀ·diag(q)·V.  (The paper, and PEFT, hold the norm constant here.)
// All accumulate. What reaches x through W is the projection's to compute, from dy with column o scaled by 1 + w·(c_o − 1).
// `weight` is the projection's whole W; `base` as above.
template <class S>
void lora_backward(const LoraView<S>&, const ops::Dropout&, RowWeights<S>, ConstMatrixRef<S> x, const ops::Weight<S>& weight, MatrixView<const S> base,
                   ConstMatrixRef<S> dy, MatrixRef<S> dx, LoraGradients<S>&, Workspace&, const Exec&);

// The norms of a view with a magnitude, anew: when it is attached, and after each change of A or B. `weight`: the projection's whole W.
template <class S> void dora_refresh(const LoraView<S>&, const ops::Weight<S>& weight, const Exec&);
// ‖w_o‖ of rows [begin, begin + count): where DoRA's magnitudes start. The same bits as dora_refresh's norm of an adapter with B = 0.
template <class S> Vector<S> row_norms(const ops::Weight<S>& weight, Index begin, Index count);

// ΔW [O, I] = w·(W' − W)[rows]
template <class S> Matrix<S> lora_change(const LoraView<S>&, const ops::Weight<S>& weight, const Exec&);
// W[rows] += ΔW, with W in floating point. To unmerge, restore the W that you kept: subtracting does not give the same bits.
template <class S> void lora_merge(const LoraView<S>&, MatrixView<S> weight, const Exec&);

}  // namespace glassformer
