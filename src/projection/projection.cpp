#include "glassformer/projection/projection.hpp"

#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"

namespace glassformer {

template <class S> void projection_forward(const Projection<S>& p, const Pass<S>& pass, std::string_view name, ConstMatrixRef<S> x, MatrixRef<S> y) {
  ops::linear_forward<S>(x, p.weight, p.bias, y, pass.exec);
  for (std::size_t i = 0; i < p.adapters.size(); ++i) {
    const LoraView<S>& lora = p.adapters[i];
    ops::Dropout dropout = pass.dropout(lora.dropout, name);
    dropout.stream = dropout.stream.at(i);
    lora_forward<S>(lora, dropout, x, y, *pass.workspace, pass.exec);
  }
}

template <class S>
void projection_backward(const Projection<S>& p, const Pass<S>& pass, std::string_view name, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                         ProjectionGradients<S>& gradients) {
  ops::linear_backward_parameters<S>(x, dy, gradients.weight, gradients.bias, pass.exec);
  ops::linear_backward_input<S>(dy, p.weight, dx, pass.exec);
  require(gradients.adapters.empty() || gradients.adapters.size() == p.adapters.size(), "projection {}: {} adapters, gradients of {}", name, p.adapters.size(),
          gradients.adapters.size());
  for (std::size_t i = 0; i < p.adapters.size(); ++i) {
    const LoraView<S>& lora = p.adapters[i];
    ops::Dropout dropout = pass.dropout(lora.dropout, name);
    dropout.stream = dropout.stream.at(i);
    LoraGradients<S> frozen;
    lora_backward<S>(lora, dropout, x, dy, dx, gradients.adapters.empty() ? frozen : gradients.adapters[i], *pass.workspace, pass.exec);
  }
}

template void projection_forward<float>(const Projection<float>&, const Pass<float>&, std::string_view, ConstMatrixRef<float>, MatrixRef<float>);
template void projection_forward<double>(const Projection<double>&, const Pass<double>&, std::string_view, ConstMatrixRef<double>, MatrixRef<double>);
template void projection_backward<float>(const Projection<float>&, const Pass<float>&, std::string_view, ConstMatrixRef<float>, ConstMatrixRef<float>,
                                         MatrixRef<float>, ProjectionGradients<float>&);
template void projection_backward<double>(const Projection<double>&, const Pass<double>&, std::string_view, ConstMatrixRef<double>, ConstMatrixRef<double>,
                                          MatrixRef<double>, ProjectionGradients<double>&);

}  // namespace glassformer
