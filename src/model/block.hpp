// One block of the decoder, on the residual stream x [N, C] in place.
//   pre-norm    x ← x + attention(ln1(x))       x ← x + mlp(ln2(x))         (GPT-2, Llama; Xiong et al. 2020)
//   post-norm   x ← ln1(x + attention(x))       x ← ln2(x + mlp(x))         (Vaswani et al. 2017)
#pragma once
#include "glassformer/model/decoder.hpp"

namespace glassformer {

template <class S> void block_forward(const ModelConfig&, const BlockParams<S>&, const Pass<S>&, MatrixRef<S> x, BlockSaved<S>* saved);
// dx [N, C] is the gradient of the block's output and becomes that of its input.
template <class S> void block_backward(const ModelConfig&, const BlockParams<S>&, const Pass<S>&, const BlockSaved<S>&, MatrixRef<S> dx, BlockGrads<S>&);

template <class S>
void layer_norm(const ModelConfig& c, const NormParams<S>& p, ConstMatrixRef<S> x, MatrixRef<S> y, ops::NormStatistics<S>& statistics, const Exec& exec,
                MatrixView<S> keep = {}) {
  ops::norm_forward<S>(c.norm, x, p.gain, p.bias, static_cast<S>(c.norm_epsilon), y, statistics, exec, keep);
}

}  // namespace glassformer
