// Legend: N tokens, I inputs, O outputs, r rank.
#include "glassformer/lora/lora.hpp"

#include <cmath>

#include "glassformer/ops/linear.hpp"

namespace glassformer {
namespace {

// The adapter's own input: x, or x with dropout in scratch memory.
template <class S> MatrixView<const S> dropped_input(const ops::Dropout& dropout, ConstMatrixRef<S> x, Workspace& workspace, const Exec& exec) {
  const MatrixView<S> copy = workspace.matrix<S>(x.rows(), x.cols());
  *copy = x;
  ops::dropout_apply<S>(dropout, *copy, exec);
  return {copy.data, copy.rows, copy.cols};
}

}  // namespace

double LoraConfig::scale() const { return rank_stabilized ? alpha / std::sqrt(static_cast<double>(rank)) : alpha / static_cast<double>(rank); }

template <class S>
void lora_forward(const LoraView<S>& lora, const ops::Dropout& dropout, ConstMatrixRef<S> x, MatrixRef<S> y, Workspace& workspace, const Exec& exec) {
  const Workspace::Frame frame(workspace);
  auto part = y.middleCols(lora.row_begin, lora.b.rows);                     // [N, O]
  const MatrixView<S> low = workspace.matrix<S>(x.rows(), lora.a.rows);      // [N, r]
  if (dropout.rate > 0) {
    ops::multiply_nt<S>(1, *dropped_input<S>(dropout, x, workspace, exec), *lora.a, 0, *low, exec);
  } else {
    ops::multiply_nt<S>(1, x, *lora.a, 0, *low, exec);
  }
  ops::multiply_nt<S>(lora.scale, *low, *lora.b, 1, part, exec);
}

template <class S>
void lora_backward(const LoraView<S>& lora, const ops::Dropout& dropout, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                   LoraGradients<S>& gradients, Workspace& workspace, const Exec& exec) {
  const Workspace::Frame frame(workspace);
  const Index N = x.rows(), r = lora.a.rows;
  const auto dpart = dy.middleCols(lora.row_begin, lora.b.rows);                               // [N, O]
  const MatrixView<S> low = workspace.matrix<S>(N, r), dlow = workspace.matrix<S>(N, r);       // x·Aᵀ and its gradient
  ops::multiply_nn<S>(lora.scale, dpart, *lora.b, 0, *dlow, exec);                             // forward was: y += s·low·Bᵀ
  const MatrixView<const S> input =
      dropout.rate > 0 ? dropped_input<S>(dropout, x, workspace, exec) : MatrixView<const S>{nullptr, 0, 0};
  const auto with_input = [&](auto&& use) { input ? use(ConstMatrixRef<S>(*input)) : use(x); };
  if (gradients.b) {
    with_input([&](ConstMatrixRef<S> in) { ops::multiply_nt<S>(1, in, *lora.a, 0, *low, exec); });
    ops::multiply_tn<S>(lora.scale, dpart, *low, 1, *gradients.b, exec);
  }
  if (gradients.a) {
    with_input([&](ConstMatrixRef<S> in) { ops::multiply_tn<S>(1, *dlow, in, 1, *gradients.a, exec); });  // forward was: low = x·Aᵀ
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

template <class S> void lora_merge(const LoraView<S>& lora, MatrixView<S> weight, const Exec& exec) {
  auto rows = (*weight).middleRows(lora.row_begin, lora.b.rows);  // [O, I]
  ops::multiply_nn<S>(lora.scale, *lora.b, *lora.a, 1, rows, exec);
}

template void lora_forward<float>(const LoraView<float>&, const ops::Dropout&, ConstMatrixRef<float>, MatrixRef<float>, Workspace&, const Exec&);
template void lora_forward<double>(const LoraView<double>&, const ops::Dropout&, ConstMatrixRef<double>, MatrixRef<double>, Workspace&, const Exec&);
template void lora_backward<float>(const LoraView<float>&, const ops::Dropout&, ConstMatrixRef<float>, ConstMatrixRef<float>, MatrixRef<float>,
                                   LoraGradients<float>&, Workspace&, const Exec&);
template void lora_backward<double>(const LoraView<double>&, const ops::Dropout&, ConstMatrixRef<double>, ConstMatrixRef<double>, MatrixRef<double>,
                                    LoraGradients<double>&, Workspace&, const Exec&);
template void lora_merge<float>(const LoraView<float>&, MatrixView<float>, const Exec&);
template void lora_merge<double>(const LoraView<double>&, MatrixView<double>, const Exec&);

}  // namespace glassformer
