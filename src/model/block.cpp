// Legend: N tokens, C channels.
#include "model/block.hpp"

#include "glassformer/ops/activation.hpp"

namespace glassformer {
namespace {

// Memory for what a sub-layer reads: where the backward pass will look for it, or scratch.
template <class S> MatrixView<S> kept(const Pass<S>& pass, Matrix<S>* place, Index rows, Index cols) {
  if (!place) return pass.workspace->template matrix<S>(rows, cols);
  place->resize(rows, cols);
  return {place->data(), rows, cols};
}

// One half of a block: x ← x + f(ln(x)) or x ← ln(x + f(x)). `read` is where f's input is kept, `normed` what ln read.
template <class S, class F>
void sub_layer_forward(const ModelConfig& c, const NormParams<S>& ln, const char* site, const Pass<S>& pass, MatrixRef<S> x, Matrix<S>* read, Matrix<S>* normed,
                       ops::NormStatistics<S>* statistics, const char* out_site, F&& f) {
  const Workspace::Frame frame(*pass.workspace);
  ops::NormStatistics<S> unsaved;
  const MatrixView<S> keep = normed ? kept(pass, normed, x.rows(), x.cols()) : MatrixView<S>{};
  const MatrixView<S> h = kept(pass, read, x.rows(), x.cols()), a = pass.workspace->template matrix<S>(x.rows(), x.cols());
  if (c.placement == NormPlacement::pre) {
    layer_norm<S>(c, ln, x, *h, statistics ? *statistics : unsaved, pass.exec, keep);
    pass.visit(site, *h);
    f(*h, *a);
    pass.visit(out_site, *a);
    ops::add<S>(*a, x, pass.exec);
  } else {
    *h = x;
    f(*h, *a);
    pass.visit(out_site, *a);
    ops::add<S>(*a, x, pass.exec);
    layer_norm<S>(c, ln, x, x, statistics ? *statistics : unsaved, pass.exec, keep);
    pass.visit(site, x);
  }
}

template <class S, class F>
void sub_layer_backward(const ModelConfig& c, const NormParams<S>& ln, const Pass<S>& pass, const Matrix<S>& normed, const ops::NormStatistics<S>& statistics,
                        MatrixRef<S> dx, NormParams<S>& dln, const char* out_site, F&& f) {
  const Workspace::Frame frame(*pass.workspace);
  const MatrixView<S> dh = pass.workspace->template matrix<S>(dx.rows(), dx.cols());
  if (c.placement == NormPlacement::pre) {  // forward was: x ← x + f(ln(x))
    pass.visit(out_site, dx);
    f(dx, *dh);
    ops::norm_backward<S>(c.norm, normed, ln.gain, statistics, *dh, dx, dln.gain, dln.bias, pass.exec, ops::Into::add);
  } else {  // forward was: x ← ln(x + f(x))
    ops::norm_backward<S>(c.norm, normed, ln.gain, statistics, dx, dx, dln.gain, dln.bias, pass.exec);
    pass.visit(out_site, dx);
    f(dx, *dh);
    ops::add<S>(*dh, dx, pass.exec);
  }
}

}  // namespace

template <class S> void block_forward(const ModelConfig& c, const BlockParams<S>& p, const Pass<S>& pass, MatrixRef<S> x, BlockSaved<S>* saved) {
  pass.visit("resid_pre", x);
  sub_layer_forward<S>(c, p.ln1, "ln1.normalized", pass, x, saved ? &saved->attention.x : nullptr, saved ? &saved->x : nullptr, saved ? &saved->ln1 : nullptr,
                       "attn_out", [&](ConstMatrixRef<S> h, MatrixRef<S> a) { attention_forward<S>(p.attention, pass, h, a, saved ? &saved->attention : nullptr); });
  pass.visit("resid_mid", x);
  if (c.mlp != Mlp::none) {
    sub_layer_forward<S>(c, p.ln2, "ln2.normalized", pass, x, saved ? &saved->mlp.x : nullptr, saved ? &saved->mid : nullptr, saved ? &saved->ln2 : nullptr,
                         "mlp_out", [&](ConstMatrixRef<S> h, MatrixRef<S> a) { mlp_forward<S>(p.mlp, pass, h, a, saved ? &saved->mlp : nullptr); });
  }
  pass.visit("resid_post", x);
}

template <class S>
void block_backward(const ModelConfig& c, const BlockParams<S>& p, const Pass<S>& pass, const BlockSaved<S>& saved, MatrixRef<S> dx, BlockGrads<S>& grads) {
  pass.visit("resid_post.grad", dx);
  if (c.mlp != Mlp::none) {
    sub_layer_backward<S>(c, p.ln2, pass, saved.mid, saved.ln2, dx, grads.ln2, "mlp_out.grad",
                          [&](ConstMatrixRef<S> d, MatrixRef<S> dh) { mlp_backward<S>(p.mlp, pass, saved.mlp, d, dh, grads.mlp); });
  }
  pass.visit("resid_mid.grad", dx);
  sub_layer_backward<S>(c, p.ln1, pass, saved.x, saved.ln1, dx, grads.ln1, "attn_out.grad",
                        [&](ConstMatrixRef<S> d, MatrixRef<S> dh) { attention_backward<S>(p.attention, pass, saved.attention, d, dh, grads.attention); });
  pass.visit("resid_pre.grad", dx);
}

template void block_forward<float>(const ModelConfig&, const BlockParams<float>&, const Pass<float>&, MatrixRef<float>, BlockSaved<float>*);
template void block_forward<double>(const ModelConfig&, const BlockParams<double>&, const Pass<double>&, MatrixRef<double>, BlockSaved<double>*);
template void block_backward<float>(const ModelConfig&, const BlockParams<float>&, const Pass<float>&, const BlockSaved<float>&, MatrixRef<float>,
                                    BlockGrads<float>&);
template void block_backward<double>(const ModelConfig&, const BlockParams<double>&, const Pass<double>&, const BlockSaved<double>&, MatrixRef<double>,
                                     BlockGrads<double>&);

}  // namespace glassformer
