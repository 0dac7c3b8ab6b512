// Legend: N = ΣT tokens of all sequences, C channels, V vocabulary.
#include "glassformer/model/decoder.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/trace/edits.hpp"
#include "model/block.hpp"

namespace glassformer {
namespace {

template <class S> void check_pass(const Decoder<S>& m, const Pass<S>& pass, std::span<const Token> ids) {
  require(pass.workspace != nullptr, "a pass needs a workspace");
  require(pass.starts.size() >= 2 && pass.starts.front() == 0 && std::ranges::is_sorted(pass.starts), "a pass needs ascending bounds that start with 0");
  require(pass.tokens() == static_cast<Index>(ids.size()), "bounds of {} tokens, but {} tokens", pass.tokens(), ids.size());
  const Index known = m.config.vocab + m.prompt.rows;
  for (const Token id : ids) require(id >= 0 && id < known, "expected a token in 0 … {}, found {}", known - 1, id);
  require(!pass.mix || (pass.mix.rows == pass.sequences() && pass.mix.cols == m.adapters), "a mix of adapters: expected shape [{}, {}], found [{}, {}]",
          pass.sequences(), m.adapters, pass.mix.rows, pass.mix.cols);
  if (!pass.cache) return;
  require(static_cast<Index>(pass.slots.size()) == pass.sequences(), "{} sequences, but {} slots of the cache", pass.sequences(), pass.slots.size());
  for (std::size_t i = 1; i < pass.slots.size(); ++i) {
    const auto before = pass.slots.first(i);
    require(std::ranges::find(before, pass.slots[i]) == before.end(), "two sequences share slot {} of the cache", pass.slots[i]);
  }
}

// The place of each row in its sequence, in scratch memory; makes room in the cache.
template <class S> std::span<const Index> places_of(const Pass<S>& pass) {
  const std::span<Index> places = pass.workspace->template array<Index>(pass.tokens());
  for (Index s = 0; s < pass.sequences(); ++s) {
    const Index begin = pass.starts[static_cast<std::size_t>(s)], end = pass.starts[static_cast<std::size_t>(s) + 1];
    const Index first = pass.cache ? pass.cache->reserve(pass.slots[static_cast<std::size_t>(s)], end - begin) : 0;
    for (Index n = begin; n < end; ++n) places[static_cast<std::size_t>(n)] = first + n - begin;
  }
  return places;
}

// x = embed[ids], where ids from V on are the soft prompt's rows.
template <class S> void look_up(const Decoder<S>& m, const Pass<S>& pass, std::span<const Token> ids, MatrixRef<S> x) {
  if (!m.prompt) return lookup_forward<S>(m.embed, pass, ids, x);
  const Workspace::Frame frame(*pass.workspace);
  const std::span<Token> text = pass.workspace->template array<Token>(x.rows());
  std::ranges::transform(ids, text.begin(), [&](Token id) { return id < m.config.vocab ? id : 0; });
  lookup_forward<S>(m.embed, pass, text, x);
  for (std::size_t n = 0; n < ids.size(); ++n) {
    if (ids[n] >= m.config.vocab) x.row(static_cast<Index>(n)) = (*m.prompt).row(ids[n] - m.config.vocab);
  }
}
template <class S>
void look_up_backward(const Decoder<S>& m, const Pass<S>& pass, std::span<const Token> ids, MatrixRef<S> dx, DecoderGrads<S>& grads) {
  if (!m.prompt) return lookup_backward<S>(m.embed, pass, ids, dx, grads.embed);
  const Workspace::Frame frame(*pass.workspace);
  const std::span<Token> text = pass.workspace->template array<Token>(dx.rows());
  std::ranges::copy(ids, text.begin());
  for (std::size_t n = 0; n < ids.size(); ++n) {
    if (ids[n] < m.config.vocab) continue;
    auto row = dx.row(static_cast<Index>(n));
    if (grads.prompt) (*grads.prompt).row(ids[n] - m.config.vocab) += row;
    row.setZero();  // this row is no token's
    text[n] = 0;
  }
  lookup_backward<S>(m.embed, pass, text, dx, grads.embed);
}

// x = embed[ids] + position
template <class S> void embed(const Decoder<S>& m, const Pass<S>& pass, std::span<const Token> ids, MatrixRef<S> x) {
  look_up<S>(m, pass, ids, x);
  pass.visit("embed", x);
  if (m.config.position == Position::learned || m.config.position == Position::sinusoidal) {
    const Workspace::Frame frame(*pass.workspace);
    const MatrixView<S> encoding = pass.workspace->template matrix<S>(x.rows(), x.cols());
    for (Index n = 0; n < x.rows(); ++n) {
      const Index place = pass.places[static_cast<std::size_t>(n)];
      if (m.config.position == Position::learned) {
        require(place < m.config.context, "place {} is beyond the learned position table of {} places", place, m.config.context);
        (*encoding).row(n) = (*m.pos_embed).row(place);
      } else {
        sinusoidal_encoding<S>(place, (*encoding).row(n));
      }
    }
    pass.visit("pos_embed", *encoding);
    ops::add<S>(*encoding, x, pass.exec);
  }
  ops::dropout_apply<S>(pass.dropout(m.config.dropout, "embed"), x, pass.exec);
}

template <class S> void enter_block(Pass<S>& pass, Index layer) {
  pass.layer = layer;
  if (pass.trace) pass.prefix = "blocks." + std::to_string(layer) + ".";
}

// The pass with the model's hook before whoever else watches. Lives as long as the pass is used.
template <class S> struct Hooked {
  TraceChain<S> chain;
  Pass<S> pass;
  Hooked(const Decoder<S>& m, const Pass<S>& p) : chain(m.hook.get(), p.trace), pass(p) {
    if (m.hook) pass.trace = &chain;
  }
  Hooked(const Hooked&) = delete;
};

template <class S> bool trains(const NormParams<S>& g) { return g.gain || g.bias; }
template <class S> bool trains(const ProjectionGradients<S>& g) { return g.weight || g.bias || !g.adapters.empty(); }
template <class S> bool trains(const BlockGrads<S>& g) {
  return trains(g.ln1) || trains(g.ln2) || trains(g.attention.qkv) || trains(g.attention.out) || trains(g.mlp.up) || trains(g.mlp.down);
}
// The lowest block that the gradient must reach: 0 when the embedding, a position or a soft prompt is trained.
template <class S> std::size_t lowest_trained(const DecoderGrads<S>& g) {
  if (trains(g.embed) || g.pos_embed || g.prompt) return 0;
  std::size_t i = 0;
  while (i < g.blocks.size() && !trains(g.blocks[i])) ++i;
  return i;
}

// Rows of logits that are held at once: 2²³ numbers, in even blocks. Each block copies all of the head's weights, so few rows would cost more than they save.
Index head_rows(Index vocab, Index rows) {
  const Index most = std::max<Index>((Index{1} << 23) / vocab, 64), blocks = std::max<Index>((rows + most - 1) / most, 1);
  return std::max<Index>((rows + blocks - 1) / blocks, 1);
}

}  // namespace

template <class S>
void decoder_forward(const Decoder<S>& m, const Pass<S>& given, std::span<const Token> ids, MatrixRef<S> hidden, DecoderSaved<S>* saved) {
  Hooked<S> hooked(m, given);
  Pass<S>& pass = hooked.pass;
  check_pass(m, pass, ids);  // all of it before the cache makes room
  require_shape("hidden", hidden.rows(), hidden.cols(), pass.tokens(), m.config.width);
  const Workspace::Frame frame(*pass.workspace);
  pass.places = places_of(pass);
  if (saved) saved->blocks.resize(m.blocks.size());

  const MatrixView<S> x = pass.workspace->template matrix<S>(pass.tokens(), m.config.width);  // the residual stream [N, C]
  embed<S>(m, pass, ids, *x);
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    enter_block(pass, static_cast<Index>(i));
    block_forward<S>(m.config, m.blocks[i], pass, *x, saved ? &saved->blocks[i] : nullptr);
  }
  pass.prefix.clear();
  if (m.ln_final.gain) {
    ops::NormStatistics<S> unsaved;
    if (saved) saved->x.resize((*x).rows(), (*x).cols());
    const MatrixView<S> keep = saved ? MatrixView<S>{saved->x.data(), saved->x.rows(), saved->x.cols()} : MatrixView<S>{};
    layer_norm<S>(m.config, m.ln_final, *x, hidden, saved ? saved->ln_final : unsaved, pass.exec, keep);
    pass.visit("ln_final.normalized", hidden);
  } else {
    hidden = *x;
  }
  if (pass.cache) {
    for (Index s = 0; s < pass.sequences(); ++s) {
      pass.cache->commit(pass.slots[static_cast<std::size_t>(s)], pass.starts[static_cast<std::size_t>(s) + 1] - pass.starts[static_cast<std::size_t>(s)]);
    }
  }
}

template <class S> void decoder_logits(const Decoder<S>& m, const Pass<S>& pass, ConstMatrixRef<S> hidden, MatrixRef<S> logits) {
  projection_forward<S>(m.unembed, pass, "unembed", hidden, logits);
  if (m.hook || pass.trace) Hooked<S>(m, pass).pass.visit("logits", logits);
}

template <class S>
void decoder_backward(const Decoder<S>& m, const Pass<S>& given, std::span<const Token> ids, const DecoderSaved<S>& saved, MatrixRef<S> dhidden,
                      DecoderGrads<S>& grads) {
  Hooked<S> hooked(m, given);
  Pass<S>& pass = hooked.pass;
  check_pass(m, pass, ids);
  require(grads.blocks.size() == m.blocks.size(), "gradients of {} blocks, but the model has {}", grads.blocks.size(), m.blocks.size());
  const Workspace::Frame frame(*pass.workspace);
  pass.places = places_of(pass);
  if (m.ln_final.gain) {  // forward was: hidden = ln_final(x)
    pass.visit("ln_final.normalized.grad", dhidden);
    ops::norm_backward<S>(m.config.norm, saved.x, m.ln_final.gain, saved.ln_final, dhidden, dhidden, grads.ln_final.gain, grads.ln_final.bias, pass.exec);
  }
  // Nothing below is trained, and nobody looks: the gradient need not go on.
  const std::size_t lowest = pass.trace ? 0 : lowest_trained(grads);
  for (std::size_t i = m.blocks.size(); i-- > lowest;) {
    enter_block(pass, static_cast<Index>(i));
    block_backward<S>(m.config, m.blocks[i], pass, saved.blocks[i], dhidden, grads.blocks[i]);
    if (grads.block_done) grads.block_done(static_cast<Index>(i));
  }
  if (lowest > 0) return;
  pass.prefix.clear();
  pass.layer = 0;
  ops::dropout_apply<S>(pass.dropout(m.config.dropout, "embed"), dhidden, pass.exec);  // forward was: x = drop(embed[ids] + position)
  pass.visit("embed.grad", dhidden);
  if (grads.pos_embed) {
    const std::span<Token> rows = pass.workspace->template array<Token>(pass.tokens());
    std::ranges::transform(pass.places, rows.begin(), [](Index place) { return static_cast<Token>(place); });
    ops::embedding_backward<S>(rows, dhidden, grads.pos_embed, pass.exec);
  }
  look_up_backward<S>(m, pass, ids, dhidden, grads);
}

template <class S>
Loss decoder_loss(const Decoder<S>& m, const Pass<S>& pass, std::span<const Token> ids, std::span<const Token> targets, DecoderSaved<S>* saved,
                  DecoderGrads<S>* grads, S scale, std::span<double> losses) {
  require(targets.size() == ids.size(), "{} tokens, but {} targets", ids.size(), targets.size());
  require(losses.empty() || losses.size() == ids.size(), "{} tokens, but room for {} losses", ids.size(), losses.size());
  require(!grads || saved, "gradients need what the forward pass saves");
  require(!pass.mix, "a loss has one mixture of adapters: attach them with the weights that they shall have");
  const Index N = static_cast<Index>(ids.size()), V = m.config.vocab;
  const Workspace::Frame frame(*pass.workspace);
  const MatrixView<S> hidden = pass.workspace->template matrix<S>(N, m.config.width);
  const MatrixView<S> dhidden = grads ? pass.workspace->template matrix<S>(N, m.config.width) : MatrixView<S>{};
  decoder_forward<S>(m, pass, ids, *hidden, grads ? saved : nullptr);

  // The head by blocks of rows, forward and backward together, so that logits and their gradient are never all held.
  const std::span<double> each = losses.empty() ? pass.workspace->template array<double>(N) : losses;
  // Who looks sees all rows at once.
  const Hooked<S> hooked(m, pass);
  const Index rows = hooked.pass.wants("logits") || hooked.pass.wants("logits.grad") ? std::max<Index>(N, 1) : head_rows(V, N);
  Loss loss;
  const MatrixView<S> logits = pass.workspace->template matrix<S>(std::min(rows, N), V);
  for (Index begin = 0; begin < N; begin += rows) {
    const Index n = std::min(rows, N - begin);
    const auto part = (*hidden).middleRows(begin, n);
    auto block = (*logits).topRows(n);
    const auto at = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(n);
    Pass<S> head = pass;
    head.random = pass.random.at(at);  // adapters of the head may drop inputs: other ones in each block
    decoder_logits<S>(m, head, part, block);
    loss.correct += ops::cross_entropy<S>(block, targets.subspan(at, count), each.subspan(at, count), grads != nullptr, scale, pass.exec);
    if (!grads) continue;
    hooked.pass.visit("logits.grad", block);
    projection_backward<S>(m.unembed, head, "unembed", part, block, (*dhidden).middleRows(begin, n), grads->unembed);  // forward was: logits = hidden·Uᵀ
  }
  if (grads) decoder_backward<S>(m, pass, ids, *saved, *dhidden, *grads);

  for (std::size_t i = 0; i < targets.size(); ++i) {
    loss.sum_nats += each[i];
    loss.count += targets[i] >= 0;
  }
  return loss;
}

template void decoder_forward<float>(const Decoder<float>&, const Pass<float>&, std::span<const Token>, MatrixRef<float>, DecoderSaved<float>*);
template void decoder_forward<double>(const Decoder<double>&, const Pass<double>&, std::span<const Token>, MatrixRef<double>, DecoderSaved<double>*);
template void decoder_logits<float>(const Decoder<float>&, const Pass<float>&, ConstMatrixRef<float>, MatrixRef<float>);
template void decoder_logits<double>(const Decoder<double>&, const Pass<double>&, ConstMatrixRef<double>, MatrixRef<double>);
template void decoder_backward<float>(const Decoder<float>&, const Pass<float>&, std::span<const Token>, const DecoderSaved<float>&, MatrixRef<float>, DecoderGrads<float>&);
template void decoder_backward<double>(const Decoder<double>&, const Pass<double>&, std::span<const Token>, const DecoderSaved<double>&, MatrixRef<double>,
                                       DecoderGrads<double>&);
template Loss decoder_loss<float>(const Decoder<float>&, const Pass<float>&, std::span<const Token>, std::span<const Token>, DecoderSaved<float>*,
                                  DecoderGrads<float>*, float, std::span<double>);
template Loss decoder_loss<double>(const Decoder<double>&, const Pass<double>&, std::span<const Token>, std::span<const Token>, DecoderSaved<double>*,
                                   DecoderGrads<double>*, double, std::span<double>);

}  // namespace glassformer
