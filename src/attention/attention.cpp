// Legend: N = ΣT tokens of all sequences, C channels, H query heads, G key-value heads, D head width.
#include "glassformer/attention/attention.hpp"

#include <numeric>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

using ops::AttentionSequence;
using ops::Heads;

// The columns of q, k and v in a row of qkv.
struct Columns {
  Index q, k, v, width;
  explicit Columns(const AttentionConfig& c) : q(0), k(c.query_width()), v(k + c.kv_width()), width(v + c.kv_width()) {}
};

// Sequences whose keys are all in this pass. `lse` counts from the first sequence's: [H, T] of each.
template <class S> std::span<const AttentionSequence<S>> sequences_in_pass(const AttentionConfig& c, const Pass<S>& pass, const S* qkv, S* z, S* lse) {
  const Columns at(c);
  const Index D = c.core.head_dim, H = c.core.heads;
  const auto result = pass.workspace->template array<AttentionSequence<S>>(pass.sequences());
  for (Index s = 0; s < pass.sequences(); ++s) {
    const Index begin = pass.starts[static_cast<std::size_t>(s)], T = pass.starts[static_cast<std::size_t>(s) + 1] - begin;
    const S* row = qkv + begin * at.width;
    result[static_cast<std::size_t>(s)] = {
        T, T, {row + at.q, at.width, D}, {row + at.k, at.width, D}, {row + at.v, at.width, D}, {z + begin * H * D, H * D, D}, lse ? lse + begin * H : nullptr};
  }
  return result;
}

// Shows the new keys as a sliding cache's pass reads them: turned by their place in the cache. An edit holds for this pass, which
// alone reads this copy. Sequence s has its turned keys, [G, U, D], at keys[s].
template <class S> void visit_turned(const AttentionConfig& c, const Pass<S>& pass, const std::vector<S*>& keys) {
  const Index D = c.core.head_dim, G = c.core.kv_heads;
  const MatrixView<S> rot_k = pass.workspace->template matrix<S>(pass.tokens(), G * D);
  const auto each_row = [&](auto&& move) {
    for (Index s = 0; s < pass.sequences(); ++s) {
      const Index begin = pass.starts[static_cast<std::size_t>(s)], T = pass.starts[static_cast<std::size_t>(s) + 1] - begin;
      const Index length = pass.cache->length(pass.slots[static_cast<std::size_t>(s)]), U = length + T;
      for (Index t = 0; t < T; ++t) {
        for (Index g = 0; g < G; ++g) move(rot_k.data + (begin + t) * G * D + g * D, keys[static_cast<std::size_t>(s)] + (g * U + length + t) * D);
      }
    }
  };
  each_row([D](S* seen, const S* key) { std::copy_n(key, D, seen); });
  pass.visit("attn.rot_k", *rot_k);
  each_row([D](const S* seen, S* key) { std::copy_n(seen, D, key); });
}

// Writes the new keys and values into the cache and returns sequences that read all keys from it. Where the cache does not hold them as
// attention reads them, the workspace gets copies [G, U, D] of this layer alone: an 8-bit cache is read in floating point, and a sliding
// one keeps keys unrotated.
template <class S>
std::span<const AttentionSequence<S>> sequences_in_cache(const AttentionParams<S>& p, const Pass<S>& pass, const S* qkv, S* z) {
  const AttentionConfig& c = p.config;
  const Columns at(c);
  const Index D = c.core.head_dim, H = c.core.heads, G = c.core.kv_heads;
  const CacheShape& cache = pass.cache->shape();
  require(cache.kv_heads == G && cache.head_dim == D && pass.layer < cache.layers, "KV cache: its shape does not fit the model's attention");
  const auto result = pass.workspace->template array<AttentionSequence<S>>(pass.sequences());
  std::vector<S*> turned_keys;
  for (Index s = 0; s < pass.sequences(); ++s) {
    const Index begin = pass.starts[static_cast<std::size_t>(s)], T = pass.starts[static_cast<std::size_t>(s) + 1] - begin;
    const Index slot = pass.slots[static_cast<std::size_t>(s)], length = pass.cache->length(slot), U = length + T;
    for (Index t = 0; t < T; ++t) {
      const S* row = qkv + (begin + t) * at.width;
      pass.cache->write(pass.layer, slot, length + t, row + at.k, row + at.v);
    }
    Heads<const S> k = pass.cache->keys(pass.layer, slot, U, *pass.workspace);
    const Heads<const S> v = pass.cache->values(pass.layer, slot, U, *pass.workspace);
    if (cache.sliding && p.rope) {
      std::vector<Index> places(static_cast<std::size_t>(U));
      std::iota(places.begin(), places.end(), Index{0});
      const MatrixView<S> turned = pass.workspace->template matrix<S>(G * U, D);
      for (Index g = 0; g < G; ++g) {
        auto head = (*turned).middleRows(g * U, U);
        head = Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>>(k.at(0, g), U, D, Eigen::OuterStride<>(k.token_stride));
        rope_rotate<S>(*p.rope, places, 1, false, head, pass.exec);
      }
      k = {turned.data, D, U * D};
      turned_keys.push_back(turned.data);
    }
    result[static_cast<std::size_t>(s)] = {T, U, {qkv + begin * at.width + at.q, at.width, D}, k, v, {z + begin * H * D, H * D, D}, nullptr};
  }
  if (!turned_keys.empty() && pass.wants("attn.rot_k")) visit_turned(c, pass, turned_keys);
  return result;
}

// What a trace wants to see of scores and patterns.
template <class S> ops::AttentionWatch<S> watch_of(const Pass<S>& pass, const char* scores, const char* pattern) {
  ops::AttentionWatch<S> watch;
  const auto show = [&pass](const char* site) {
    return [&pass, site](Index sequence, Index head, MatrixRef<S> value) { pass.visit(site, value, sequence, head); };
  };
  if (pass.wants(scores)) watch.scores = show(scores);
  if (pass.wants(pattern)) watch.pattern = show(pattern);
  return watch;
}

}  // namespace

template <class S>
void attention_forward(const AttentionParams<S>& p, const Pass<S>& pass, ConstMatrixRef<S> x, MatrixRef<S> y, AttentionSaved<S>* saved) {
  const Workspace::Frame frame(*pass.workspace);
  const AttentionConfig& c = p.config;
  const Columns at(c);
  const Index N = x.rows(), HD = c.query_width(), GD = c.kv_width();
  require(!(saved && pass.cache), "attention: a pass with a KV cache has no backward pass");
  if (saved) {
    if (saved->x.data() != x.data()) saved->x = x;  // a block may have put it there already
    saved->qkv.resize(N, at.width), saved->z.resize(N, HD), saved->logsumexp.resize(N * c.core.heads);
  }
  const MatrixView<S> qkv = saved ? MatrixView<S>{saved->qkv.data(), N, at.width} : pass.workspace->template matrix<S>(N, at.width);
  const MatrixView<S> z = saved ? MatrixView<S>{saved->z.data(), N, HD} : pass.workspace->template matrix<S>(N, HD);

  projection_forward<S>(p.qkv, pass, "attn.qkv", x, *qkv);  // [N, (H + 2G)·D]
  auto q = (*qkv).middleCols(at.q, HD), k = (*qkv).middleCols(at.k, GD), v = (*qkv).middleCols(at.v, GD);
  pass.visit("attn.q", q);
  pass.visit("attn.k", k);
  pass.visit("attn.v", v);
  if (p.rope) {
    rope_rotate<S>(*p.rope, pass.places, c.core.heads, false, q, pass.exec);
    pass.visit("attn.rot_q", q);
    if (!(pass.cache && pass.cache->shape().sliding)) {  // a sliding cache keeps keys unrotated, and turns them when they are read
      rope_rotate<S>(*p.rope, pass.places, c.core.kv_heads, false, k, pass.exec);
      pass.visit("attn.rot_k", k);
    }
  }
  const auto sequences = pass.cache ? sequences_in_cache<S>(p, pass, qkv.data, z.data)
                                    : sequences_in_pass<S>(c, pass, qkv.data, z.data, saved ? saved->logsumexp.data() : nullptr);
  ops::AttentionShape unsaved;
  ops::AttentionShape& shape = saved ? saved->shape : unsaved;
  shape = c.core;
  shape.dropout = pass.dropout(c.dropout, "attn.pattern");
  ops::attention_core_forward<S>(shape, sequences, watch_of(pass, "attn.attn_scores", "attn.pattern"), pass.exec);
  pass.visit("attn.z", *z);
  projection_forward<S>(p.out, pass, "attn.out", *z, y);
  ops::dropout_apply<S>(pass.dropout(c.dropout, "attn.out"), y, pass.exec);
}

template <class S>
void attention_backward(const AttentionParams<S>& p, const Pass<S>& pass, const AttentionSaved<S>& saved, ConstMatrixRef<S> dy, MatrixRef<S> dx,
                        AttentionGrads<S>& grads) {
  const Workspace::Frame frame(*pass.workspace);
  const AttentionConfig& c = p.config;
  const Columns at(c);
  const Index N = saved.x.rows(), HD = c.query_width(), GD = c.kv_width(), D = c.core.head_dim;
  const MatrixView<S> dz = pass.workspace->template matrix<S>(N, HD), dqkv = pass.workspace->template matrix<S>(N, at.width);
  const ops::Dropout dropout = pass.dropout(c.dropout, "attn.out");
  if (dropout.rate > 0) {  // forward was: y = drop(out(z))
    const MatrixView<S> dropped = pass.workspace->template matrix<S>(N, dy.cols());
    *dropped = dy;
    ops::dropout_apply<S>(dropout, *dropped, pass.exec);
    projection_backward<S>(p.out, pass, "attn.out", saved.z, *dropped, *dz, grads.out);
  } else {
    projection_backward<S>(p.out, pass, "attn.out", saved.z, dy, *dz, grads.out);
  }
  pass.visit("attn.z.grad", *dz);

  // Forward was: z = softmax(q·kᵀ/√D + mask)·v
  const auto sequences = sequences_in_pass<S>(c, pass, saved.qkv.data(), const_cast<S*>(saved.z.data()), const_cast<S*>(saved.logsumexp.data()));
  const auto gradients = pass.workspace->template array<ops::AttentionGradients<S>>(pass.sequences());
  for (Index s = 0; s < pass.sequences(); ++s) {
    const Index begin = pass.starts[static_cast<std::size_t>(s)];
    S* row = dqkv.data + begin * at.width;
    gradients[static_cast<std::size_t>(s)] = {{dz.data + begin * HD, HD, D}, {row + at.q, at.width, D}, {row + at.k, at.width, D}, {row + at.v, at.width, D}};
  }
  // Whoever edited scores or patterns is asked again, and an edited z is not the sum that the fused kernel takes it for.
  Exec exec = pass.exec;
  if (pass.wants("attn.z")) exec.kernels = Kernels::reference;
  ops::attention_core_backward<S>(saved.shape, sequences, gradients, watch_of(pass, "attn.attn_scores", "attn.pattern"), exec);
  auto dq = (*dqkv).middleCols(at.q, HD), dk = (*dqkv).middleCols(at.k, GD);
  if (p.rope) {  // forward was: q and k turned by their places
    pass.visit("attn.rot_q.grad", dq);
    pass.visit("attn.rot_k.grad", dk);
    rope_rotate<S>(*p.rope, pass.places, c.core.heads, true, dq, pass.exec);
    rope_rotate<S>(*p.rope, pass.places, c.core.kv_heads, true, dk, pass.exec);
  }
  pass.visit("attn.q.grad", dq);
  pass.visit("attn.k.grad", dk);
  pass.visit("attn.v.grad", (*dqkv).middleCols(at.v, GD));
  projection_backward<S>(p.qkv, pass, "attn.qkv", saved.x, *dqkv, dx, grads.qkv);  // forward was: qkv = x·Wᵀ + b
}

template void attention_forward<float>(const AttentionParams<float>&, const Pass<float>&, ConstMatrixRef<float>, MatrixRef<float>, AttentionSaved<float>*);
template void attention_forward<double>(const AttentionParams<double>&, const Pass<double>&, ConstMatrixRef<double>, MatrixRef<double>, AttentionSaved<double>*);
template void attention_backward<float>(const AttentionParams<float>&, const Pass<float>&, const AttentionSaved<float>&, ConstMatrixRef<float>, MatrixRef<float>,
                                        AttentionGrads<float>&);
template void attention_backward<double>(const AttentionParams<double>&, const Pass<double>&, const AttentionSaved<double>&, ConstMatrixRef<double>,
                                         MatrixRef<double>, AttentionGrads<double>&);

}  // namespace glassformer
