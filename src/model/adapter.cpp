// Legend: r rank, I inputs, O outputs, C channels, V vocabulary.
#include "glassformer/model/adapter.hpp"

#include <algorithm>
#include <cmath>

#include "glassformer/core/random.hpp"
#include "glassformer/ops/loss.hpp"

namespace glassformer {
namespace {

template <class Model> auto& projection_of(Model& m, const AdapterTarget& t) {
  if (t.projection == "embed") return m.embed;
  if (t.projection == "unembed") return m.unembed;
  auto& block = m.blocks.at(static_cast<std::size_t>(t.block));
  if (t.projection == "attn.qkv") return block.attention.qkv;
  if (t.projection == "attn.out") return block.attention.out;
  return t.projection == "mlp.up" ? block.mlp.up : block.mlp.down;
}

// Calls f with each place where the target acts: a tied embedding's is looked up and is the head.
template <class Model, class F> void for_each_place(Model& m, bool tied, const AdapterTarget& t, F&& f) {
  f(projection_of(m, t));
  if (t.projection == "embed" && tied) f(m.unembed);
}

// Throws std::invalid_argument when the adapter is another model's.
template <class S> void require_fit(const Decoder<S>& m, const Adapter<S>& a) {
  require(bool(a.arena), "adapter: expected one that was made, found an empty one");
  if (const Index P = a.prompt_tokens(); P > 0) {
    const Index C = a.arena.view("prompt.weight").cols;
    require(C == m.config.width, "soft prompt: expected {} channels, as the model has, found {}", m.config.width, C);
    require(P < m.config.context, "soft prompt: expected fewer tokens than the context of {}, found {}", m.config.context, P);
  }
  for (const AdapterTarget& t : a.targets) {
    require(t.block < static_cast<Index>(m.blocks.size()), "adapter {}: the model has {} blocks", t.name, m.blocks.size());
    const ops::Weight<S>& weight = projection_of(m, t).weight;
    require(t.row_begin + t.rows <= weight.rows() && t.inputs == weight.cols(),
            "adapter {}: made for rows {} to {} of {} inputs, but the model's {} is [{}, {}]", t.name, t.row_begin, t.row_begin + t.rows, t.inputs, t.projection,
            weight.rows(), weight.cols());
  }
}

template <class S> LoraView<S> view_of(const Adapter<S>& a, const AdapterTarget& t, double weight) {
  LoraView<S> view;
  view.a = a.arena.view(t.name + ".lora_A"), view.b = a.arena.view(t.name + ".lora_B"), view.magnitude = a.arena.view(t.name + ".magnitude");
  view.row_begin = t.row_begin;
  view.scale = static_cast<S>(a.config.scale(t.rank, t.alpha));
  view.dropout = t.block < 0 ? 0 : a.config.dropout;  // a token that is looked up has no input to drop
  view.weight = static_cast<S>(weight);
  if (view.magnitude) view.norms = std::make_shared<DoraNorms<S>>();
  return view;
}

template <class S> void draw_a(const Adapter<S>& a, std::uint64_t seed) {
  for (const AdapterTarget& t : a.targets) {
    const MatrixView<S> A = a.arena.view(t.name + ".lora_A");
    const RandomStream stream = RandomStream{seed}.at("lora").at(t.name);
    const double bound = 1 / std::sqrt(static_cast<double>(t.inputs));  // Kaiming-uniform with a = √5: √(6/((1 + 5)·I))
    for (Index i = 0; i < A.size(); ++i) A.data[i] = static_cast<S>(bound * (2 * random_uniform(stream, static_cast<std::uint64_t>(i)) - 1));
  }
}

template <class Model, class F> void for_each_projection(Model& m, F&& f) {
  f(m.embed), f(m.unembed);
  for (auto& block : m.blocks) f(block.attention.qkv), f(block.attention.out), f(block.mlp.up), f(block.mlp.down);
}

}  // namespace

template <class S> Adapter<S> make_adapter(const ModelConfig& config, const LoraConfig& lora, std::uint64_t seed) {
  const ModelConfig c = resolved(config);
  Adapter<S> a{lora, {}, {}};
  if (a.config.targets.empty()) a.config.targets = default_adapter_targets(c);
  a.targets = adapter_targets(c, a.config);
  auto layout = std::make_shared<ArenaLayout>();
  for (const AdapterTarget& t : a.targets) {
    layout->add(t.name + ".lora_A", t.rank, t.inputs, ParameterKind::hidden);
    layout->add(t.name + ".lora_B", t.rows, t.rank, ParameterKind::hidden);
    if (lora.dora) layout->add(t.name + ".magnitude", 1, t.rows, ParameterKind::vector);
  }
  a.arena = Arena<S>(layout);
  draw_a(a, seed);
  return a;
}

template <class S> Adapter<S> make_adapter(const Decoder<S>& m, const LoraConfig& lora, std::uint64_t seed) {
  Adapter<S> a = make_adapter<S>(m.config, lora, seed);
  if (!lora.dora) return a;
  for (const AdapterTarget& t : a.targets) (*a.arena.view(t.name + ".magnitude")) = row_norms<S>(projection_of(m, t).weight, t.row_begin, t.rows);
  return a;
}

template <class S> Adapter<S> make_soft_prompt(const Decoder<S>& m, Index tokens, std::uint64_t seed) {
  require(tokens > 0 && tokens < m.config.context, "soft prompt: expected 1 to {} tokens (the context holds the text too), found {}", m.config.context - 1, tokens);
  auto layout = std::make_shared<ArenaLayout>();
  layout->add("prompt.weight", tokens, m.config.width, ParameterKind::embedding);
  Adapter<S> a{{}, {}, Arena<S>(layout)};
  std::vector<Token> ids;
  for (Index i = 0; i < tokens; ++i) {
    ids.push_back(static_cast<Token>(random_below(RandomStream{seed}.at("soft prompt"), static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(m.config.vocab))));
  }
  ops::embedding_forward<S>(m.embed.weight, ids, *a.arena.view("prompt.weight"), {});
  return a;
}

template <class S> void attach(Decoder<S>& m, const Adapter<S>& a, double weight) {
  require_fit(m, a);
  require(std::isfinite(weight), "adapter: expected a weight that is a number, found {}", weight);
  if (a.prompt_tokens() > 0) {
    require(!m.prompt, "soft prompt: expected one at a time, found another attached");
    require(weight == 1, "soft prompt: expected a weight of 1, found {}: it is there or not", weight);
    m.prompt = a.arena.view("prompt.weight");
  }
  for (const AdapterTarget& t : a.targets) {
    LoraView<S> view = view_of(a, t, weight);
    view.adapter = m.adapters;
    if (view.norms) dora_refresh<S>(view, projection_of(m, t).weight, {});
    for_each_place(m, m.config.tied, t, [&](Projection<S>& p) { p.adapters.push_back(view); });
  }
  ++m.adapters;
}

template <class S> void detach(Decoder<S>& m) {
  for_each_projection(m, [](Projection<S>& p) { p.adapters.clear(); });
  m.prompt = {};
  m.adapters = 0;
}

template <class S> void refresh(const Decoder<S>& m, const Exec& exec) {
  for_each_projection(const_cast<Decoder<S>&>(m), [&](const Projection<S>& p) {  // the norms are a cache: the model stays the same
    for (const LoraView<S>& view : p.adapters) {
      if (view.norms) dora_refresh<S>(view, p.weight, exec);
    }
  });
}

template <class S> std::vector<Token> soft_prompt_ids(const Decoder<S>& m) {
  std::vector<Token> ids;
  for (Index i = 0; i < m.prompt.rows; ++i) ids.push_back(static_cast<Token>(m.config.vocab + i));
  return ids;
}

template <class S> Index soft_prompt_adapter(const Decoder<S>& m) {
  if (!m.prompt) return -1;
  std::vector<char> has_targets(static_cast<std::size_t>(m.adapters), 0);  // a soft prompt alone has none
  for_each_projection(m, [&](const Projection<S>& p) {
    for (const LoraView<S>& view : p.adapters) has_targets[static_cast<std::size_t>(view.adapter)] = 1;
  });
  return std::ranges::find(has_targets, 0) - has_targets.begin();
}

template <class S> Arena<S> merge(Decoder<S>& m, const Adapter<S>& a, const Exec& exec, double weight) {
  require_fit(m, a);
  require(a.prompt_tokens() == 0, "merge: expected an adapter of the weights, found a soft prompt, which is a text and no change of them");
  for (const AdapterTarget& t : a.targets) {
    const auto& w = projection_of(m, t).weight;
    require(!w.quantized, "merge: expected {} in floating point, found it in {}", t.tensor(), w.quantized ? quantized_name(w.quantized->type) : "");
  }
  Arena<S> kept = m.arena.clone();
  detach(m);
  for (const AdapterTarget& t : a.targets) {
    LoraView<S> view = view_of(a, t, weight);
    const MatrixView<S> w = projection_of(m, t).weight.dense;
    if (view.norms) dora_refresh<S>(view, w, exec);
    lora_merge<S>(view, w, exec);
  }
  return kept;
}

template <class S> void restore(Decoder<S>& m, const Arena<S>& kept) {
  require(kept.values().size() == m.arena.values().size(), "restore: the kept weights are another model's");
  std::ranges::copy(kept.values(), m.arena.values().begin());
}

template <class S> Matrix<S> adapter_change(const Decoder<S>& m, const Adapter<S>& a, const AdapterTarget& t, const Exec& exec) {
  require_fit(m, a);
  LoraView<S> view = view_of(a, t, 1);
  const auto& w = projection_of(m, t).weight;
  if (view.norms) dora_refresh<S>(view, w, exec);
  return lora_change<S>(view, w, exec);
}

template <class S> const Projection<S>& adapted_projection(const Decoder<S>& m, const AdapterTarget& t) { return projection_of(m, t); }

template <class S> DecoderGrads<S> make_adapter_gradients(const Decoder<S>& m, const Adapter<S>& a) {
  DecoderGrads<S> g;
  g.adapter = Arena<S>(a.arena.shared_layout());
  g.prompt = g.adapter.view("prompt.weight");
  g.blocks.resize(m.blocks.size());
  for (const AdapterTarget& t : a.targets) {
    const LoraGradients<S> views{g.adapter.view(t.name + ".lora_A"), g.adapter.view(t.name + ".lora_B"), g.adapter.view(t.name + ".magnitude")};
    for_each_place(g, m.config.tied, t, [&](ProjectionGradients<S>& p) { p.adapters.push_back(views); });
  }
  return g;
}

template Adapter<float> make_adapter<float>(const ModelConfig&, const LoraConfig&, std::uint64_t);
template Adapter<float> make_adapter<float>(const Decoder<float>&, const LoraConfig&, std::uint64_t);
template Adapter<float> make_soft_prompt<float>(const Decoder<float>&, Index, std::uint64_t);
template void attach<float>(Decoder<float>&, const Adapter<float>&, double);
template void detach<float>(Decoder<float>&);
template void refresh<float>(const Decoder<float>&, const Exec&);
template std::vector<Token> soft_prompt_ids<float>(const Decoder<float>&);
template Index soft_prompt_adapter<float>(const Decoder<float>&);
template Arena<float> merge<float>(Decoder<float>&, const Adapter<float>&, const Exec&, double);
template void restore<float>(Decoder<float>&, const Arena<float>&);
template Matrix<float> adapter_change<float>(const Decoder<float>&, const Adapter<float>&, const AdapterTarget&, const Exec&);
template const Projection<float>& adapted_projection<float>(const Decoder<float>&, const AdapterTarget&);
template DecoderGrads<float> make_adapter_gradients<float>(const Decoder<float>&, const Adapter<float>&);
template Adapter<double> make_adapter<double>(const ModelConfig&, const LoraConfig&, std::uint64_t);
template Adapter<double> make_adapter<double>(const Decoder<double>&, const LoraConfig&, std::uint64_t);
template Adapter<double> make_soft_prompt<double>(const Decoder<double>&, Index, std::uint64_t);
template void attach<double>(Decoder<double>&, const Adapter<double>&, double);
template void detach<double>(Decoder<double>&);
template void refresh<double>(const Decoder<double>&, const Exec&);
template std::vector<Token> soft_prompt_ids<double>(const Decoder<double>&);
template Index soft_prompt_adapter<double>(const Decoder<double>&);
template Arena<double> merge<double>(Decoder<double>&, const Adapter<double>&, const Exec&, double);
template void restore<double>(Decoder<double>&, const Arena<double>&);
template Matrix<double> adapter_change<double>(const Decoder<double>&, const Adapter<double>&, const AdapterTarget&, const Exec&);
template const Projection<double>& adapted_projection<double>(const Decoder<double>&, const AdapterTarget&);
template DecoderGrads<double> make_adapter_gradients<double>(const Decoder<double>&, const Adapter<double>&);

}  // namespace glassformer
