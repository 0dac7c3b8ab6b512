// Which parameters a decoder has, where they lie, and how they are drawn.
#include <cmath>

#include "glassformer/core/parallel.hpp"
#include "glassformer/core/random.hpp"
#include "glassformer/model/decoder.hpp"

namespace glassformer {
namespace {

void add_norm(ArenaLayout& layout, const ModelConfig& c, const std::string& name) {
  layout.add(name + ".weight", 1, c.width, ParameterKind::vector);
  if (c.norm_bias) layout.add(name + ".bias", 1, c.width, ParameterKind::vector);
}

void add_projection(ArenaLayout& layout, const ModelConfig& c, const std::string& name, Index outputs, Index inputs) {
  layout.add(name + ".weight", outputs, inputs, ParameterKind::hidden);
  if (c.bias) layout.add(name + ".bias", 1, outputs, ParameterKind::vector);
}

template <class S> NormParams<S> norm_view(const Arena<S>& arena, const std::string& name) { return {arena.view(name + ".weight"), arena.view(name + ".bias")}; }

// Fills the views of Params or of Grads from an arena: both have the same parts. `weight` gives the matrix of a name.
template <class S, class Model, class W> void bind(const ModelConfig& c, const Arena<S>& arena, Model& m, W&& weight) {
  m.embed.weight = weight("embed.weight");
  m.pos_embed = arena.view("pos_embed.weight");
  m.unembed.weight = c.tied ? m.embed.weight : weight("unembed.weight");
  m.ln_final = norm_view(arena, "ln_final");
  m.blocks.resize(static_cast<std::size_t>(c.layers));
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    const std::string at = "blocks." + std::to_string(i) + ".";
    const auto projection = [&](auto& p, const std::string& name) { p.weight = weight(at + name + ".weight"), p.bias = arena.view(at + name + ".bias"); };
    auto& block = m.blocks[i];
    block.ln1 = norm_view(arena, at + "ln1");
    block.ln2 = norm_view(arena, at + "ln2");
    projection(block.attention.qkv, "attn.qkv");
    projection(block.attention.out, "attn.out");
    projection(block.mlp.up, "mlp.up");
    projection(block.mlp.down, "mlp.down");
  }
}

// The layout of what is not quantized.
std::shared_ptr<const ArenaLayout> layout_without(const ArenaLayout& all, const QuantizedTensors& quantized) {
  auto layout = std::make_shared<ArenaLayout>();
  std::size_t found = 0;
  for (const TensorInfo& info : all.tensors()) {
    const auto at = quantized.find(info.name);
    if (at == quantized.end()) {
      layout->add(info.name, info.rows, info.cols, info.kind);
      continue;
    }
    ++found;
    require_shape(info.name.c_str(), at->second->rows, at->second->cols, info.rows, info.cols);
  }
  require(found == quantized.size(), "quantized tensors: {} of {} are none of the model's", quantized.size() - found, quantized.size());
  return layout;
}

AttentionConfig attention_config(const ModelConfig& c) {
  AttentionConfig a;
  a.core.heads = c.heads, a.core.kv_heads = c.kv_heads, a.core.head_dim = c.head_dim;
  a.core.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  a.core.causal = c.causal, a.core.window = c.window;
  if (c.position == Position::alibi) a.core.slopes = alibi_slopes(c.heads);
  a.dropout = c.dropout;
  return a;
}

}  // namespace

std::shared_ptr<const ArenaLayout> decoder_layout(const ModelConfig& config) {
  const ModelConfig c = resolved(config);
  auto layout = std::make_shared<ArenaLayout>();
  layout->add("embed.weight", c.vocab, c.width, ParameterKind::embedding);
  if (c.position == Position::learned) layout->add("pos_embed.weight", c.context, c.width, ParameterKind::embedding);
  for (Index i = 0; i < c.layers; ++i) {
    const std::string at = "blocks." + std::to_string(i) + ".";
    add_norm(*layout, c, at + "ln1");
    add_projection(*layout, c, at + "attn.qkv", (c.heads + 2 * c.kv_heads) * c.head_dim, c.width);
    add_projection(*layout, c, at + "attn.out", c.width, c.heads * c.head_dim);
    if (c.mlp == Mlp::none) continue;
    add_norm(*layout, c, at + "ln2");
    add_projection(*layout, c, at + "mlp.up", c.mlp == Mlp::swiglu ? 2 * c.hidden : c.hidden, c.width);
    add_projection(*layout, c, at + "mlp.down", c.width, c.hidden);
  }
  if (c.placement == NormPlacement::pre) add_norm(*layout, c, "ln_final");
  if (!c.tied) layout->add("unembed.weight", c.vocab, c.width, ParameterKind::embedding);
  return layout;
}

template <class S> Decoder<S> make_decoder(const ModelConfig& config) { return make_decoder<S>(config, QuantizedTensors{}); }

template <class S> Decoder<S> make_decoder(const ModelConfig& config, QuantizedTensors quantized) {
  Decoder<S> m;
  m.config = resolved(config);
  m.quantized = std::move(quantized);
  m.arena = Arena<S>(layout_without(*decoder_layout(m.config), m.quantized));
  bind(m.config, m.arena, m, [&m](const std::string& name) -> ops::Weight<S> {
    const auto at = m.quantized.find(name);
    return at == m.quantized.end() ? ops::Weight<S>(m.arena.view(name)) : ops::Weight<S>(at->second);
  });
  if (m.config.position == Position::rope) m.rope = std::make_shared<RopeTable<S>>(rope_table<S>(m.config.context, m.config.head_dim, m.config.rope_base, m.config.rope_stretch));
  for (auto& block : m.blocks) {
    block.attention.config = attention_config(m.config);
    block.attention.rope = m.rope.get();
    block.mlp.kind = m.config.mlp;
    block.mlp.dropout = m.config.dropout;
  }
  return m;
}

template <class S> void initialize(Decoder<S>& m, std::uint64_t seed) {
  require(m.quantized.empty(), "initialize: expected a model in floating point");
  const ModelConfig& c = m.config;
  for (const TensorInfo& info : m.arena.layout().tensors()) {
    const MatrixView<S> view = m.arena.view(info);
    if (info.kind == ParameterKind::vector) {
      (*view).setConstant(info.name.ends_with(".weight") ? S(1) : S(0));
      continue;
    }
    const bool residual = info.name.ends_with("attn.out.weight") || info.name.ends_with("mlp.down.weight");
    // A head of its own starts small whatever the embedding: large logits would be confident nonsense.
    const double deviation = info.name == "unembed.weight" ? c.init_std : info.kind == ParameterKind::embedding ? c.embedding_std : c.init_std / (residual ? std::sqrt(2.0 * static_cast<double>(c.layers)) : 1.0);
    const RandomStream stream = RandomStream{seed}.at("initialize").at(info.name);
    parallel_blocks(available_threads(), view.size(), 1 << 16, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) view.data[i] = static_cast<S>(deviation * random_normal(stream, static_cast<std::uint64_t>(i)));
    });
  }
}

template <class To, class From> Decoder<To> convert_decoder(const Decoder<From>& from) {
  Decoder<To> to = make_decoder<To>(from.config, from.quantized);
  const auto source = from.arena.values();
  const auto target = to.arena.values();
  for (std::size_t i = 0; i < source.size(); ++i) target[i] = static_cast<To>(source[i]);
  return to;
}

template <class S> DecoderGrads<S> make_gradients(const Decoder<S>& m) { return make_gradients(m, m.arena); }

template <class S> DecoderGrads<S> make_gradients(const Decoder<S>& m, const Arena<S>& part) {
  require(m.quantized.empty(), "gradients: expected a model in floating point, found {} quantized tensors: train an adapter of it", m.quantized.size());
  DecoderGrads<S> g;
  g.arena = Arena<S>(part.shared_layout());
  bind(m.config, g.arena, g, [&g](const std::string& name) { return g.arena.view(name); });
  return g;
}

template <class S> Index decoder_parameters(const Decoder<S>& m) {
  Index count = m.arena.layout().parameters();
  for (const auto& [name, q] : m.quantized) count += q->rows * q->cols;
  return count;
}

template <class S> KvCache<S> make_cache(const Decoder<S>& m, Index slots, Index capacity, bool sliding, Index sinks, CacheKind kind) {
  const ModelConfig& c = m.config;
  return KvCache<S>({c.layers, slots, c.kv_heads, capacity == 0 ? c.context : capacity, c.head_dim, sliding, sinks, kind});
}

template Decoder<float> make_decoder<float>(const ModelConfig&);
template Decoder<double> make_decoder<double>(const ModelConfig&);
template Decoder<float> make_decoder<float>(const ModelConfig&, QuantizedTensors);
template Decoder<double> make_decoder<double>(const ModelConfig&, QuantizedTensors);
template Index decoder_parameters<float>(const Decoder<float>&);
template Index decoder_parameters<double>(const Decoder<double>&);
template void initialize<float>(Decoder<float>&, std::uint64_t);
template void initialize<double>(Decoder<double>&, std::uint64_t);
template Decoder<double> convert_decoder<double, float>(const Decoder<float>&);
template Decoder<float> convert_decoder<float, double>(const Decoder<double>&);
template Decoder<float> convert_decoder<float, float>(const Decoder<float>&);
template Decoder<double> convert_decoder<double, double>(const Decoder<double>&);
template DecoderGrads<float> make_gradients<float>(const Decoder<float>&);
template DecoderGrads<double> make_gradients<double>(const Decoder<double>&);
template DecoderGrads<float> make_gradients<float>(const Decoder<float>&, const Arena<float>&);
template DecoderGrads<double> make_gradients<double>(const Decoder<double>&, const Arena<double>&);
template KvCache<float> make_cache<float>(const Decoder<float>&, Index, Index, bool, Index, CacheKind);
template KvCache<double> make_cache<double>(const Decoder<double>&, Index, Index, bool, Index, CacheKind);

}  // namespace glassformer
