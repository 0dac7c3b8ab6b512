// Legend: N tokens, I inputs, O outputs, r rank, c DoRA's column scale.
#include "glassformer/projection/projection.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/loss.hpp"

namespace glassformer {
namespace {

template <class S> bool has_dora(const Projection<S>& p) {
  return std::ranges::any_of(p.adapters, [](const LoraView<S>& lora) { return bool(lora.magnitude); });
}

// How much of the adapter each of N rows gets: empty when all get its own weight. Memory from the workspace.
template <class S> RowWeights<S> row_weights(const LoraView<S>& lora, const Pass<S>& pass, Index N) {
  if (!pass.mix) return {};
  require(pass.tokens() == N, "a mix of adapters: a pass of {} tokens, but {} rows", pass.tokens(), N);
  const MatrixView<S> weights = pass.workspace->template matrix<S>(1, N);
  for (Index s = 0; s < pass.sequences(); ++s) {
    const Index begin = pass.starts[static_cast<std::size_t>(s)], end = pass.starts[static_cast<std::size_t>(s) + 1];
    std::fill(weights.data + begin, weights.data + end, (*pass.mix)(s, lora.adapter));
  }
  return {weights.data, static_cast<std::size_t>(N)};
}

// An adapter of weight zero is not computed: switching it off costs nothing.
template <class S> bool is_off(const LoraView<S>& lora, RowWeights<S> weights) {
  return weights.empty() ? lora.weight == S(0) : std::ranges::all_of(weights, [](S w) { return w == S(0); });
}

template <class S> ops::Dropout dropout_of(const Projection<S>& p, std::size_t i, const Pass<S>& pass, std::string_view name) {
  ops::Dropout dropout = pass.dropout(p.adapters[i].dropout, name);
  dropout.stream = dropout.stream.at(i);
  return dropout;
}

// u = x·Wᵀ [N, O] in scratch memory, for DoRA
template <class S> MatrixView<S> base_product(const Projection<S>& p, const Pass<S>& pass, ConstMatrixRef<S> x) {
  const MatrixView<S> base = pass.workspace->template matrix<S>(x.rows(), p.weight.rows());
  ops::linear_forward<S>(x, p.weight, {}, *base, pass.exec);
  return base;
}
template <class S> MatrixView<const S> read_only(const MatrixView<S>& m) { return {m.data, m.rows, m.cols}; }

// dy with column o scaled by 1 + Σ w·(c_o − 1): what reaches W through DoRA.   Forward was: y = u + w·((c − 1) ⊙ u + …)
template <class S> MatrixView<S> scaled_for_base(const Projection<S>& p, const Pass<S>& pass, ConstMatrixRef<S> dy) {
  const MatrixView<S> scaled = pass.workspace->template matrix<S>(dy.rows(), dy.cols());
  *scaled = dy;
  for (const LoraView<S>& lora : p.adapters) {
    if (!lora.magnitude) continue;
    const Workspace::Frame frame(*pass.workspace);
    const RowWeights<S> weights = row_weights(lora, pass, dy.rows());
    for (Index o = 0; o < lora.b.rows; ++o) {
      const Index column = lora.row_begin + o;
      const S change = lora.magnitude.data[o] / lora.norms->norm(o) - 1;
      for (Index n = 0; n < dy.rows(); ++n) (*scaled)(n, column) += (weights.empty() ? lora.weight : weights[static_cast<std::size_t>(n)]) * change * dy(n, column);
    }
  }
  return scaled;
}

}  // namespace

template <class S> void projection_forward(const Projection<S>& p, const Pass<S>& pass, std::string_view name, ConstMatrixRef<S> x, MatrixRef<S> y) {
  const Workspace::Frame frame(*pass.workspace);
  const bool dora = has_dora(p);
  const MatrixView<S> base = dora ? base_product(p, pass, x) : MatrixView<S>{};
  if (dora) {
    y = *base;
    if (p.bias) y.rowwise() += (*p.bias).row(0);
  } else {
    ops::linear_forward<S>(x, p.weight, p.bias, y, pass.exec);
  }
  for (std::size_t i = 0; i < p.adapters.size(); ++i) {
    const Workspace::Frame inner(*pass.workspace);
    const RowWeights<S> weights = row_weights(p.adapters[i], pass, x.rows());
    if (is_off(p.adapters[i], weights)) continue;
    lora_forward<S>(p.adapters[i], dropout_of(p, i, pass, name), weights, x, read_only(base), y, *pass.workspace, pass.exec);
  }
}

template <class S>
void projection_backward(const Projection<S>& p, const Pass<S>& pass, std::string_view name, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                         ProjectionGradients<S>& gradients) {
  const Workspace::Frame frame(*pass.workspace);
  require(gradients.adapters.empty() || gradients.adapters.size() == p.adapters.size(), "projection {}: {} adapters, gradients of {}", name, p.adapters.size(),
          gradients.adapters.size());
  const bool dora = has_dora(p);
  require(!(dora && gradients.weight), "projection {}: expected a frozen weight under DoRA, whose norms are of that weight", name);
  ops::linear_backward_parameters<S>(x, dy, gradients.weight, gradients.bias, pass.exec);
  const MatrixView<S> base = dora ? base_product(p, pass, x) : MatrixView<S>{};
  if (dora) {
    ops::linear_backward_input<S>(*scaled_for_base(p, pass, dy), p.weight, dx, pass.exec);
  } else {
    ops::linear_backward_input<S>(dy, p.weight, dx, pass.exec);
  }
  for (std::size_t i = 0; i < p.adapters.size(); ++i) {
    const Workspace::Frame inner(*pass.workspace);
    const RowWeights<S> weights = row_weights(p.adapters[i], pass, x.rows());
    LoraGradients<S> frozen;
    lora_backward<S>(p.adapters[i], dropout_of(p, i, pass, name), weights, x, p.weight, read_only(base), dy, dx,
                     gradients.adapters.empty() ? frozen : gradients.adapters[i], *pass.workspace, pass.exec);
  }
}

namespace {

// w·s·B[ids] [N, r], in scratch memory
template <class S> MatrixView<S> rows_of_b(const LoraView<S>& lora, const Pass<S>& pass, std::span<const Token> ids) {
  const MatrixView<S> low = pass.workspace->template matrix<S>(static_cast<Index>(ids.size()), lora.b.cols);
  const RowWeights<S> weights = row_weights(lora, pass, low.rows);
  ops::embedding_forward<S>(lora.b, ids, *low, pass.exec);
  for (Index n = 0; n < low.rows; ++n) (*low).row(n) *= lora.scale * (weights.empty() ? lora.weight : weights[static_cast<std::size_t>(n)]);
  return low;
}

template <class S> void require_lora(const LoraView<S>& lora) { require(!lora.magnitude, "embedding: expected LoRA, found DoRA"); }

}  // namespace

template <class S> void lookup_forward(const Projection<S>& p, const Pass<S>& pass, std::span<const Token> ids, MatrixRef<S> y) {
  ops::embedding_forward<S>(p.weight, ids, y, pass.exec);
  for (const LoraView<S>& lora : p.adapters) {
    require_lora(lora);
    if (!pass.mix && lora.weight == S(0)) continue;
    const Workspace::Frame frame(*pass.workspace);
    const MatrixView<S> low = rows_of_b(lora, pass, ids), turned = pass.workspace->template matrix<S>(lora.a.cols, lora.a.rows);
    *turned = (*lora.a).transpose();
    ops::multiply_nt<S>(1, *low, *turned, 1, y, pass.exec);  // low·A: a product by rows, so that a row has the same bits in any company
  }
}

template <class S>
void lookup_backward(const Projection<S>& p, const Pass<S>& pass, std::span<const Token> ids, ConstMatrixRef<S> dy, ProjectionGradients<S>& gradients) {
  if (gradients.weight) ops::embedding_backward<S>(ids, dy, gradients.weight, pass.exec);
  for (std::size_t i = 0; i < p.adapters.size() && !gradients.adapters.empty(); ++i) {
    const LoraView<S>& lora = p.adapters[i];
    const LoraGradients<S>& d = gradients.adapters[i];
    require_lora(lora);
    const Workspace::Frame frame(*pass.workspace);
    const MatrixView<S> low = rows_of_b(lora, pass, ids), dlow = pass.workspace->template matrix<S>(low.rows, low.cols);
    if (d.a) ops::multiply_tn<S>(1, *low, dy, 1, *d.a, pass.exec);  // forward was: y += low·A, low = w·s·B[ids]
    if (!d.b) continue;
    ops::multiply_nt<S>(lora.scale, dy, *lora.a, 0, *dlow, pass.exec);
    const RowWeights<S> weights = row_weights(lora, pass, low.rows);
    for (Index n = 0; n < low.rows; ++n) (*dlow).row(n) *= weights.empty() ? lora.weight : weights[static_cast<std::size_t>(n)];
    ops::embedding_backward<S>(ids, *dlow, d.b, pass.exec);
  }
}

template void projection_forward<float>(const Projection<float>&, const Pass<float>&, std::string_view, ConstMatrixRef<float>, MatrixRef<float>);
template void projection_forward<double>(const Projection<double>&, const Pass<double>&, std::string_view, ConstMatrixRef<double>, MatrixRef<double>);
template void projection_backward<float>(const Projection<float>&, const Pass<float>&, std::string_view, ConstMatrixRef<float>, ConstMatrixRef<float>,
                                         MatrixRef<float>, ProjectionGradients<float>&);
template void projection_backward<double>(const Projection<double>&, const Pass<double>&, std::string_view, ConstMatrixRef<double>, ConstMatrixRef<double>,
                                          MatrixRef<double>, ProjectionGradients<double>&);
template void lookup_forward<float>(const Projection<float>&, const Pass<float>&, std::span<const Token>, MatrixRef<float>);
template void lookup_forward<double>(const Projection<double>&, const Pass<double>&, std::span<const Token>, MatrixRef<double>);
template void lookup_backward<float>(const Projection<float>&, const Pass<float>&, std::span<const Token>, ConstMatrixRef<float>, ProjectionGradients<float>&);
template void lookup_backward<double>(const Projection<double>&, const Pass<double>&, std::span<const Token>, ConstMatrixRef<double>, ProjectionGradients<double>&);

}  // namespace glassformer
