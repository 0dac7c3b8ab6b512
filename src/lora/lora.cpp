// Legend: N tokens, I inputs, O outputs, r rank; w an adapter's weight, c_o = m_o/‖V_o‖ (1 for all rows without DoRA).
#include "glassformer/lora/lora.hpp"

#include <cmath>

#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"

namespace glassformer {
namespace {

constexpr Index kRows = 16;  // of W at a time, when a quantized one is turned to floating point

// The adapter's own input: x, or x with dropout in scratch memory.
template <class S>
MatrixView<const S> dropped_input(const ops::Dropout& dropout, ConstMatrixRef<S> x, Workspace& workspace, const Exec& exec) {
  const MatrixView<S> copy = workspace.matrix<S>(x.rows(), x.cols());
  *copy = x;
  ops::dropout_apply<S>(dropout, *copy, exec);
  return {copy.data, copy.rows, copy.cols};
}

// x·Aᵀ [N, r] in scratch memory
template <class S>
MatrixView<S> project_down(const LoraView<S>& lora, const ops::Dropout& dropout, ConstMatrixRef<S> x, Workspace& workspace,
                           const Exec& exec) {
  const MatrixView<S> low = workspace.matrix<S>(x.rows(), lora.a.rows);
  const Workspace::Frame frame(workspace);
  if (dropout.rate > 0) {
    ops::multiply_nt<S>(1, *dropped_input<S>(dropout, x, workspace, exec), *lora.a, 0, *low, exec);
  } else {
    ops::multiply_nt<S>(1, x, *lora.a, 0, *low, exec);
  }
  return low;
}

template <class S> S row_weight(const LoraView<S>& lora, RowWeights<S> rows, Index n) {
  return rows.empty() ? lora.weight : rows[static_cast<std::size_t>(n)];
}

// Row n of x times its w: always here, so that a row gets the same bits whether its weight is the view's or its own.
template <class S> void weigh_rows(const LoraView<S>& lora, RowWeights<S> rows, MatrixView<S> x) {
  if (rows.empty() && lora.weight == 1) return;
  for (Index n = 0; n < x.rows; ++n) (*x).row(n) *= row_weight(lora, rows, n);
}

template <class S> void require_sound(const LoraView<S>& lora, RowWeights<S> rows, Index tokens, MatrixView<const S> base) {
  const auto count = static_cast<std::size_t>(tokens);
  require(rows.empty() || rows.size() == count, "lora: expected a weight for each of {} rows, found {}", count, rows.size());
  if (!lora.magnitude) return;
  require(lora.norms && lora.norms->norm.size() == lora.b.rows, "lora: expected norms of {} rows from dora_refresh, found {}", lora.b.rows,
          lora.norms ? lora.norms->norm.size() : 0);
  require(static_cast<bool>(base), "lora: DoRA needs the base's outputs, found none");
}

// c_o = m_o/‖V_o‖. Where V_o is zero there is nothing to scale, and 1 keeps it so.
template <class S> S ratio(const LoraView<S>& lora, Index o) {
  const S norm = lora.norms->norm[o];
  return norm > 0 ? lora.magnitude.data[o] / norm : S(1);
}

// diag(c)·B [O, r] in scratch memory: DoRA's B
template <class S> MatrixView<S> scaled_b(const LoraView<S>& lora, Workspace& workspace) {
  const MatrixView<S> scaled = workspace.matrix<S>(lora.b.rows, lora.b.cols);
  for (Index o = 0; o < lora.b.rows; ++o) (*scaled).row(o) = ratio(lora, o) * (*lora.b).row(o);
  return scaled;
}

// ‖w_o‖² of rows [begin, begin + squares.size()), summed in double; Eigen's order here does not depend on the memory's alignment, so row_norms
// and dora_refresh agree to the bit.
template <class S> void row_squares(const ops::Weight<S>& weight, Index begin, Vector<S>& squares, const Exec& exec) {
  const ops::Weight<S> part = weight.part(begin, squares.size());
  parallel_blocks(exec.threads, squares.size(), kRows, [&](Index first, Index last) {
    const Workspace::Frame frame(thread_workspace());
    MatrixView<const S> rows{nullptr, last - first, part.cols()};
    if (part.quantized) {
      const MatrixView<S> tile = thread_workspace().matrix<S>(rows.rows, rows.cols);
      dequantize<S>(*part.quantized, part.first_row + first, *tile);
      rows.data = tile.data;
    } else {
      rows.data = part.dense.data + first * part.cols();
    }
    for (Index o = first; o < last; ++o) squares[o] = static_cast<S>((*rows).row(o - first).template cast<double>().squaredNorm());
  });
}

// DoRA's part of y that reads the base: y_no += w_n·(c_o − 1)·u_no
template <class S>
void add_rescaled_base(const LoraView<S>& lora, RowWeights<S> rows, MatrixView<const S> base, MatrixRef<S> part, Workspace& workspace,
                       const Exec& exec) {
  const Workspace::Frame frame(workspace);
  const Index O = lora.b.rows;
  const MatrixView<S> excess = workspace.matrix<S>(1, O);
  for (Index o = 0; o < O; ++o) excess.data[o] = ratio(lora, o) - 1;
  parallel_blocks(exec.threads, base.rows, 16, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const S w = row_weight(lora, rows, n);
      const S *u = base.data + n * base.cols + lora.row_begin, *e = excess.data;
      S* y = part.data() + n * part.outerStride();
      for (Index o = 0; o < O; ++o) y[o] += w * (e[o] * u[o]);
    }
  });
}

// t_o = Σ_n g_no·(u + s·(x·Aᵀ)·Bᵀ)_no = Σ_n w_n·dy_no·u_no + Σ_k B_ok·C_ok,   with C = s·gᵀ·(x·Aᵀ) [O, r]
template <class S>
void ratio_gradients(const LoraView<S>& lora, RowWeights<S> rows, MatrixView<const S> base, ConstMatrixRef<S> dpart, MatrixView<const S> c,
                     MatrixView<S> t, const Exec& exec) {
  parallel_blocks(exec.threads, t.cols, 128, [&](Index begin, Index end) {  // columns are cut, each summed from the first row to the last
    auto sum = (*t).row(0).segment(begin, end - begin);
    sum.setZero();
    for (Index n = 0; n < base.rows; ++n) {
      const auto u = (*base).row(n).segment(lora.row_begin + begin, end - begin);
      sum += row_weight(lora, rows, n) * dpart.row(n).segment(begin, end - begin).cwiseProduct(u);
    }
    for (Index o = begin; o < end; ++o) t.data[o] += (*lora.b).row(o).dot((*c).row(o));
  });
}

// Through the norm, forward was c_o = m_o/‖V_o‖:   dV = diag(q)·V with q_o = −t_o·c_o/‖V_o‖², and V = W + s·B·A, so
//   dB += s·diag(q)·V·Aᵀ = s·diag(q)·(P + s·B·G)                       P = W·Aᵀ [O, r], G = A·Aᵀ [r, r]
//   dA += s·(diag(q)·B)ᵀ·V = s·(Q·W + s·(Q·B)·A)                       Q = (diag(q)·B)ᵀ [r, O]
// None of it forms V.
template <class S>
void norm_backward(const LoraView<S>& lora, const ops::Weight<S>& weight, MatrixView<const S> t, const LoraGradients<S>& gradients,
                   Workspace& workspace, const Exec& exec) {
  const Workspace::Frame frame(workspace);
  const Index O = lora.b.rows, r = lora.a.rows;
  const S s = lora.scale;
  const MatrixView<S> q = workspace.matrix<S>(1, O);
  for (Index o = 0; o < O; ++o) {
    const S norm = lora.norms->norm[o];
    q.data[o] = norm > 0 ? -(t.data[o] / norm) * (ratio(lora, o) / norm) : S(0);
  }
  const MatrixView<S> small = workspace.matrix<S>(r, r);  // G, then Q·B
  if (gradients.b) {
    const MatrixView<S> va = workspace.matrix<S>(O, r);  // V·Aᵀ
    *va = lora.norms->projected;
    ops::multiply_nt<S>(1, *lora.a, *lora.a, 0, *small, exec);
    ops::multiply_nn<S>(s, *lora.b, *small, 1, *va, exec);
    for (Index o = 0; o < O; ++o) (*gradients.b).row(o) += s * q.data[o] * (*va).row(o);
  }
  if (gradients.a) {
    const MatrixView<S> qb = workspace.matrix<S>(r, O), qw = workspace.matrix<S>(r, lora.a.cols);
    for (Index k = 0; k < r; ++k) (*qb).row(k) = (*q).row(0).cwiseProduct((*lora.b).col(k).transpose());
    ops::linear_backward_input<S>(*qb, weight.part(lora.row_begin, O), *qw, exec);
    ops::multiply_nn<S>(1, *qb, *lora.b, 0, *small, exec);
    ops::multiply_nn<S>(s, *small, *lora.a, 1, *qw, exec);
    *gradients.a += s * *qw;
  }
}

}  // namespace

double LoraConfig::scale(Index r, double a) const {
  return rank_stabilized ? a / std::sqrt(static_cast<double>(r)) : a / static_cast<double>(r);
}

template <class S>
void lora_forward(const LoraView<S>& lora, const ops::Dropout& dropout, RowWeights<S> rows, ConstMatrixRef<S> x, MatrixView<const S> base,
                  MatrixRef<S> y, Workspace& workspace, const Exec& exec) {
  require_sound(lora, rows, x.rows(), base);
  if (rows.empty() && lora.weight == 0) return;
  const Workspace::Frame frame(workspace);
  auto part = y.middleCols(lora.row_begin, lora.b.rows);  // [N, O]
  const MatrixView<S> low = project_down<S>(lora, dropout, x, workspace, exec);
  weigh_rows(lora, rows, low);
  if (lora.magnitude) add_rescaled_base<S>(lora, rows, base, part, workspace, exec);
  ops::multiply_nt<S>(lora.scale, *low, lora.magnitude ? *scaled_b(lora, workspace) : *lora.b, 1, part, exec);
}

template <class S>
void lora_backward(const LoraView<S>& lora, const ops::Dropout& dropout, RowWeights<S> rows, ConstMatrixRef<S> x,
                   const ops::Weight<S>& weight, MatrixView<const S> base, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                   LoraGradients<S>& gradients, Workspace& workspace, const Exec& exec) {
  require_sound(lora, rows, x.rows(), base);
  if (rows.empty() && lora.weight == 0) return;
  const Workspace::Frame frame(workspace);
  const Index N = x.rows(), O = lora.b.rows, r = lora.a.rows;
  const auto dpart = dy.middleCols(lora.row_begin, O);  // [N, O]
  const MatrixView<S> b = lora.magnitude ? scaled_b(lora, workspace) : lora.b;
  const MatrixView<S> dlow = workspace.matrix<S>(N, r);        // the gradient of x·Aᵀ
  ops::multiply_nn<S>(lora.scale, dpart, *b, 0, *dlow, exec);  // forward was: y += s·w·low·(diag(c)·B)ᵀ
  weigh_rows(lora, rows, dlow);
  if (gradients.b || gradients.magnitude || (lora.magnitude && gradients.a)) {
    const MatrixView<S> low = project_down<S>(lora, dropout, x, workspace, exec);
    weigh_rows(lora, rows, low);
    if (!lora.magnitude) {
      ops::multiply_tn<S>(lora.scale, dpart, *low, 1, *gradients.b, exec);
    } else {
      const MatrixView<S> c = workspace.matrix<S>(O, r), t = workspace.matrix<S>(1, O);
      ops::multiply_tn<S>(lora.scale, dpart, *low, 0, *c, exec);
      ratio_gradients<S>(lora, rows, base, dpart, {c.data, O, r}, t, exec);
      for (Index o = 0; o < O; ++o) {
        const S norm = lora.norms->norm[o];
        if (gradients.b) (*gradients.b).row(o) += ratio(lora, o) * (*c).row(o);
        if (gradients.magnitude && norm > 0) gradients.magnitude.data[o] += t.data[o] / norm;
      }
      norm_backward<S>(lora, weight, {t.data, 1, O}, gradients, workspace, exec);
    }
  }
  if (gradients.a) {  // forward was: low = x·Aᵀ
    const Workspace::Frame input(workspace);
    if (dropout.rate > 0) {
      ops::multiply_tn<S>(1, *dlow, *dropped_input<S>(dropout, x, workspace, exec), 1, *gradients.a, exec);
    } else {
      ops::multiply_tn<S>(1, *dlow, x, 1, *gradients.a, exec);
    }
  }
  if (dropout.rate > 0) {
    const MatrixView<S> through = workspace.matrix<S>(N, x.cols());
    ops::multiply_nn<S>(1, *dlow, *lora.a, 0, *through, exec);
    ops::dropout_apply<S>(dropout, *through, exec);
    dx += *through;
  } else {
    ops::multiply_nn<S>(1, *dlow, *lora.a, 1, dx, exec);
  }
}

// ‖V_o‖² = ‖w_o‖² + 2s·Σ_k B_ok·P_ok + s²·b_o·G·b_oᵀ, summed in double: with B = 0 it is ‖w_o‖² to the bit.
template <class S> void dora_refresh(const LoraView<S>& lora, const ops::Weight<S>& weight, const Exec& exec) {
  require(lora.magnitude && lora.norms, "lora: dora_refresh expects an adapter with a magnitude and room for its norms, found none");
  const Index O = lora.b.rows, r = lora.a.rows;
  DoraNorms<S>& norms = *lora.norms;
  Workspace& scratch = thread_workspace();  // a step of training comes by here: it allocates nothing
  const Workspace::Frame frame(scratch);
  const MatrixView<S> projected = scratch.matrix<S>(r, O), gram = scratch.matrix<S>(r, r);  // A·Wᵀ, A·Aᵀ
  ops::linear_forward<S>(*lora.a, weight.part(lora.row_begin, O), {}, *projected, exec);
  ops::multiply_nt<S>(1, *lora.a, *lora.a, 0, *gram, exec);
  norms.projected = (*projected).transpose();
  norms.base_squares.resize(O);
  row_squares(weight, lora.row_begin, norms.base_squares, exec);
  norms.norm.resize(O);
  const auto s = static_cast<double>(lora.scale);
  const MatrixView<double> g = scratch.matrix<double>(r, r), b = scratch.matrix<double>(1, r), p = scratch.matrix<double>(1, r),
                           bg = scratch.matrix<double>(1, r);
  *g = (*gram).template cast<double>();
  for (Index o = 0; o < O; ++o) {
    *b = (*lora.b).row(o).template cast<double>();
    *p = norms.projected.row(o).template cast<double>();
    (*bg).noalias() = *b * *g;
    const double square = static_cast<double>(norms.base_squares[o]) + 2 * s * (*b).row(0).dot((*p).row(0)) + s * s * (*bg).row(0).dot((*b).row(0));
    norms.norm[o] = static_cast<S>(std::sqrt(std::max(square, 0.0)));
  }
}

template <class S> Vector<S> row_norms(const ops::Weight<S>& weight, Index begin, Index count) {
  Vector<S> norms(count);
  row_squares(weight, begin, norms, {});
  for (S& norm : norms) norm = static_cast<S>(std::sqrt(static_cast<double>(norm)));
  return norms;
}

template <class S> Matrix<S> lora_change(const LoraView<S>& lora, const ops::Weight<S>& weight, const Exec& exec) {
  const Index O = lora.b.rows, I = lora.a.cols;
  Matrix<S> change(O, I);
  ops::multiply_nn<S>(lora.scale, *lora.b, *lora.a, 0, change, exec);
  if (lora.magnitude) {  // W' − W = diag(c)·(W + s·B·A) − W
    require(lora.norms && lora.norms->norm.size() == O, "lora: expected norms of {} rows from dora_refresh", O);
    const ops::Weight<S> part = weight.part(lora.row_begin, O);
    parallel_blocks(exec.threads, O, kRows, [&](Index begin, Index end) {
      Matrix<S> base(end - begin, I);
      if (part.quantized) {
        dequantize<S>(*part.quantized, part.first_row + begin, base);
      } else {
        base = (*part).middleRows(begin, end - begin);
      }
      for (Index o = begin; o < end; ++o) {
        const S c = ratio(lora, o);
        change.row(o) = (c - 1) * base.row(o - begin) + c * change.row(o);
      }
    });
  }
  if (lora.weight != 1) change *= lora.weight;
  return change;
}

template <class S> void lora_merge(const LoraView<S>& lora, MatrixView<S> weight, const Exec& exec) {
  auto rows = (*weight).middleRows(lora.row_begin, lora.b.rows);  // [O, I]
  if (lora.magnitude) {
    rows += lora_change<S>(lora, weight, exec);
  } else {
    ops::multiply_nn<S>(lora.weight * lora.scale, *lora.b, *lora.a, 1, rows, exec);
  }
}

template void lora_forward<float>(const LoraView<float>&, const ops::Dropout&, RowWeights<float>, ConstMatrixRef<float>,
                                  MatrixView<const float>, MatrixRef<float>, Workspace&, const Exec&);
template void lora_backward<float>(const LoraView<float>&, const ops::Dropout&, RowWeights<float>, ConstMatrixRef<float>,
                                   const ops::Weight<float>&, MatrixView<const float>, ConstMatrixRef<float>, MatrixRef<float>,
                                   LoraGradients<float>&, Workspace&, const Exec&);
template void dora_refresh<float>(const LoraView<float>&, const ops::Weight<float>&, const Exec&);
template Vector<float> row_norms<float>(const ops::Weight<float>&, Index, Index);
template Matrix<float> lora_change<float>(const LoraView<float>&, const ops::Weight<float>&, const Exec&);
template void lora_merge<float>(const LoraView<float>&, MatrixView<float>, const Exec&);
template void lora_forward<double>(const LoraView<double>&, const ops::Dropout&, RowWeights<double>, ConstMatrixRef<double>,
                                   MatrixView<const double>, MatrixRef<double>, Workspace&, const Exec&);
template void lora_backward<double>(const LoraView<double>&, const ops::Dropout&, RowWeights<double>, ConstMatrixRef<double>,
                                    const ops::Weight<double>&, MatrixView<const double>, ConstMatrixRef<double>, MatrixRef<double>,
                                    LoraGradients<double>&, Workspace&, const Exec&);
template void dora_refresh<double>(const LoraView<double>&, const ops::Weight<double>&, const Exec&);
template Vector<double> row_norms<double>(const ops::Weight<double>&, Index, Index);
template Matrix<double> lora_change<double>(const LoraView<double>&, const ops::Weight<double>&, const Exec&);
template void lora_merge<double>(const LoraView<double>&, MatrixView<double>, const Exec&);

}  // namespace glassformer
