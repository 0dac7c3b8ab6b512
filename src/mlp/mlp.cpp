// Legend: N tokens, C channels, F hidden width.
#include "glassformer/mlp/mlp.hpp"

namespace glassformer {
namespace {

ops::Activation activation(Mlp kind) { return kind == Mlp::gelu_exact ? ops::Activation::gelu_exact : ops::Activation::gelu_tanh; }

}  // namespace

template <class S> void mlp_forward(const MlpParams<S>& p, const Pass<S>& pass, ConstMatrixRef<S> x, MatrixRef<S> y, MlpSaved<S>* saved) {
  const Workspace::Frame frame(*pass.workspace);
  const Index N = x.rows(), wide = p.up.weight.rows(), F = p.down.weight.cols();
  if (saved) {
    if (saved->x.data() != x.data()) saved->x = x;  // a block may have put it there already
    saved->pre.resize(N, wide), saved->post.resize(N, F);
  }
  const MatrixView<S> pre = saved ? MatrixView<S>{saved->pre.data(), N, wide} : pass.workspace->template matrix<S>(N, wide);
  const MatrixView<S> post = saved ? MatrixView<S>{saved->post.data(), N, F} : pass.workspace->template matrix<S>(N, F);

  projection_forward<S>(p.up, pass, "mlp.up", x, *pre);
  pass.visit("mlp.pre", *pre);
  if (p.kind == Mlp::swiglu) {
    ops::swiglu_forward<S>(*pre, *post, pass.exec);
  } else {
    ops::activation_forward<S>(activation(p.kind), *pre, *post, pass.exec);
  }
  pass.visit("mlp.post", *post);
  projection_forward<S>(p.down, pass, "mlp.down", *post, y);
  ops::dropout_apply<S>(pass.dropout(p.dropout, "mlp"), y, pass.exec);
}

template <class S>
void mlp_backward(const MlpParams<S>& p, const Pass<S>& pass, const MlpSaved<S>& saved, ConstMatrixRef<S> dy, MatrixRef<S> dx, MlpGrads<S>& grads) {
  const Workspace::Frame frame(*pass.workspace);
  const Index N = saved.x.rows();
  const ops::Dropout dropout = pass.dropout(p.dropout, "mlp");
  const MatrixView<S> dpost = pass.workspace->template matrix<S>(N, saved.post.cols());
  const MatrixView<S> dpre = pass.workspace->template matrix<S>(N, saved.pre.cols());
  if (dropout.rate > 0) {  // forward was: y = drop(down(post))
    const MatrixView<S> dropped = pass.workspace->template matrix<S>(N, dy.cols());
    *dropped = dy;
    ops::dropout_apply<S>(dropout, *dropped, pass.exec);
    projection_backward<S>(p.down, pass, "mlp.down", saved.post, *dropped, *dpost, grads.down);
  } else {
    projection_backward<S>(p.down, pass, "mlp.down", saved.post, dy, *dpost, grads.down);
  }
  pass.visit("mlp.post.grad", *dpost);
  if (p.kind == Mlp::swiglu) {  // forward was: post = silu(gate) ⊙ up
    ops::swiglu_backward<S>(saved.pre, *dpost, *dpre, pass.exec);
  } else {  // forward was: post = gelu(pre)
    ops::activation_backward<S>(activation(p.kind), saved.pre, *dpost, *dpre, pass.exec);
  }
  pass.visit("mlp.pre.grad", *dpre);
  projection_backward<S>(p.up, pass, "mlp.up", saved.x, *dpre, dx, grads.up);
}

template void mlp_forward<float>(const MlpParams<float>&, const Pass<float>&, ConstMatrixRef<float>, MatrixRef<float>, MlpSaved<float>*);
template void mlp_forward<double>(const MlpParams<double>&, const Pass<double>&, ConstMatrixRef<double>, MatrixRef<double>, MlpSaved<double>*);
template void mlp_backward<float>(const MlpParams<float>&, const Pass<float>&, const MlpSaved<float>&, ConstMatrixRef<float>, MatrixRef<float>, MlpGrads<float>&);
template void mlp_backward<double>(const MlpParams<double>&, const Pass<double>&, const MlpSaved<double>&, ConstMatrixRef<double>, MatrixRef<double>,
                                   MlpGrads<double>&);

}  // namespace glassformer
