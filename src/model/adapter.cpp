// Legend: r rank, I inputs, O outputs.
#include "glassformer/model/adapter.hpp"

#include <algorithm>
#include <cmath>

#include "glassformer/core/random.hpp"

namespace glassformer {
namespace {

// A range of a projection's rows that an adapter may sit on.
struct Range {
  const char* name;        // as the user says it
  const char* projection;  // whose rows
  Index begin, rows, inputs;
};

std::vector<Range> ranges(const ModelConfig& c) {
  const Index q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  std::vector<Range> all = {{"attn.qkv", "attn.qkv", 0, q + 2 * kv, c.width}, {"attn.q", "attn.qkv", 0, q, c.width},
                            {"attn.k", "attn.qkv", q, kv, c.width},           {"attn.v", "attn.qkv", q + kv, kv, c.width},
                            {"attn.out", "attn.out", 0, c.width, q}};
  if (c.mlp == Mlp::swiglu) {
    all.push_back({"mlp.gate_up", "mlp.up", 0, 2 * c.hidden, c.width});
    all.push_back({"mlp.gate", "mlp.up", 0, c.hidden, c.width});
    all.push_back({"mlp.up", "mlp.up", c.hidden, c.hidden, c.width});
  } else if (c.mlp != Mlp::none) {
    all.push_back({"mlp.up", "mlp.up", 0, c.hidden, c.width});
  }
  if (c.mlp != Mlp::none) all.push_back({"mlp.down", "mlp.down", 0, c.width, c.hidden});
  return all;
}

template <class S> auto& projection_of(std::vector<BlockParams<S>>& blocks, const AdapterTarget& t) {
  auto& block = blocks.at(static_cast<std::size_t>(t.block));
  if (t.projection == "attn.qkv") return block.attention.qkv;
  if (t.projection == "attn.out") return block.attention.out;
  return t.projection == "mlp.up" ? block.mlp.up : block.mlp.down;
}
template <class S> auto& gradients_of(std::vector<BlockGrads<S>>& blocks, const AdapterTarget& t) {
  auto& block = blocks.at(static_cast<std::size_t>(t.block));
  if (t.projection == "attn.qkv") return block.attention.qkv;
  if (t.projection == "attn.out") return block.attention.out;
  return t.projection == "mlp.up" ? block.mlp.up : block.mlp.down;
}

// Throws std::invalid_argument when the adapter is another model's.
template <class S> void require_fit(Decoder<S>& m, const Adapter<S>& a) {
  for (const AdapterTarget& t : a.targets) {
    require(t.block < static_cast<Index>(m.blocks.size()), "adapter {}: the model has {} blocks", t.name, m.blocks.size());
    const auto& projection = projection_of<S>(m.blocks, t);
    require(t.row_begin + t.rows <= projection.weight.rows && t.inputs == projection.weight.cols,
            "adapter {}: made for rows {} to {} of {} inputs, but the model's {} is [{}, {}]", t.name, t.row_begin, t.row_begin + t.rows, t.inputs, t.projection,
            projection.weight.rows, projection.weight.cols);
  }
}

template <class S> LoraView<S> view_of(const Adapter<S>& a, const AdapterTarget& t) {
  return {a.arena.view(t.name + ".lora_A"), a.arena.view(t.name + ".lora_B"), t.row_begin, static_cast<S>(a.config.scale()), a.config.dropout};
}

}  // namespace

std::vector<std::string> adapter_target_names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const Range& r : ranges(resolved(config))) names.emplace_back(r.name);
  return names;
}

std::vector<std::string> default_adapter_targets(const ModelConfig& c) {
  const bool joined = c.mlp != Mlp::swiglu;
  std::vector<std::string> names = joined ? std::vector<std::string>{"attn.qkv"} : std::vector<std::string>{"attn.q", "attn.k", "attn.v"};
  names.emplace_back("attn.out");
  if (c.mlp == Mlp::swiglu) names.emplace_back("mlp.gate");
  if (c.mlp != Mlp::none) names.insert(names.end(), {"mlp.up", "mlp.down"});
  return names;
}

template <class S> Adapter<S> make_adapter(const ModelConfig& config, const LoraConfig& lora, std::uint64_t seed) {
  const ModelConfig c = resolved(config);
  require(lora.rank > 0, "LoRA: expected a positive rank, found {}", lora.rank);
  require(lora.alpha > 0 && std::isfinite(lora.alpha), "LoRA: expected a positive alpha, found {}", lora.alpha);
  require(lora.dropout >= 0 && lora.dropout < 1, "LoRA: expected a dropout of at least 0 and below 1, found {}", lora.dropout);
  const std::vector<Range> valid = ranges(c);
  Adapter<S> a{lora, {}, {}};
  if (a.config.targets.empty()) a.config.targets = default_adapter_targets(c);
  auto layout = std::make_shared<ArenaLayout>();
  for (Index block = 0; block < c.layers; ++block) {
    for (const std::string& target : a.config.targets) {
      const auto r = std::ranges::find_if(valid, [&](const Range& range) { return target == range.name; });
      if (r == valid.end()) {
        std::string names;
        for (const Range& range : valid) names += (names.empty() ? "" : ", ") + std::string(range.name);
        require(false, "LoRA: expected targets of {}, found {}", names, target);
      }
      require(lora.rank <= std::min(r->rows, r->inputs), "LoRA: rank {} is above that of {} [{}, {}]", lora.rank, target, r->rows, r->inputs);
      AdapterTarget t{"blocks." + std::to_string(block) + "." + target, block, r->projection, r->begin, r->rows, r->inputs};
      layout->add(t.name + ".lora_A", lora.rank, t.inputs, ParameterKind::hidden);
      layout->add(t.name + ".lora_B", t.rows, lora.rank, ParameterKind::hidden);
      a.targets.push_back(std::move(t));
    }
  }
  a.arena = Arena<S>(layout);
  for (const AdapterTarget& t : a.targets) {
    const MatrixView<S> A = a.arena.view(t.name + ".lora_A");
    const RandomStream stream = RandomStream{seed}.at("lora").at(t.name);
    const double bound = 1 / std::sqrt(static_cast<double>(t.inputs));  // Kaiming-uniform with a = √5: √(6/((1 + 5)·I))
    for (Index i = 0; i < A.size(); ++i) A.data[i] = static_cast<S>(bound * (2 * random_uniform(stream, static_cast<std::uint64_t>(i)) - 1));
  }
  return a;
}

template <class S> void attach(Decoder<S>& m, const Adapter<S>& a) {
  require_fit(m, a);
  for (const AdapterTarget& t : a.targets) projection_of<S>(m.blocks, t).adapters.push_back(view_of(a, t));
}

template <class S> void detach(Decoder<S>& m) {
  for (auto& block : m.blocks) {
    for (auto* p : {&block.attention.qkv, &block.attention.out, &block.mlp.up, &block.mlp.down}) p->adapters.clear();
  }
}

template <class S> Arena<S> merge(Decoder<S>& m, const Adapter<S>& a, const Exec& exec) {
  require_fit(m, a);
  Arena<S> kept = m.arena.clone();
  detach(m);
  for (const AdapterTarget& t : a.targets) lora_merge<S>(view_of(a, t), projection_of<S>(m.blocks, t).weight, exec);
  return kept;
}

template <class S> void restore(Decoder<S>& m, const Arena<S>& kept) {
  require(kept.values().size() == m.arena.values().size(), "restore: the kept weights are another model's");
  std::ranges::copy(kept.values(), m.arena.values().begin());
}

template <class S> DecoderGrads<S> make_adapter_gradients(const Decoder<S>& m, const Adapter<S>& a) {
  DecoderGrads<S> g;
  g.adapter = Arena<S>(a.arena.shared_layout());
  g.blocks.resize(m.blocks.size());
  for (const AdapterTarget& t : a.targets) {
    gradients_of<S>(g.blocks, t).adapters.push_back({g.adapter.view(t.name + ".lora_A"), g.adapter.view(t.name + ".lora_B")});
  }
  return g;
}

template Adapter<float> make_adapter<float>(const ModelConfig&, const LoraConfig&, std::uint64_t);
template Adapter<double> make_adapter<double>(const ModelConfig&, const LoraConfig&, std::uint64_t);
template void attach<float>(Decoder<float>&, const Adapter<float>&);
template void attach<double>(Decoder<double>&, const Adapter<double>&);
template void detach<float>(Decoder<float>&);
template void detach<double>(Decoder<double>&);
template Arena<float> merge<float>(Decoder<float>&, const Adapter<float>&, const Exec&);
template Arena<double> merge<double>(Decoder<double>&, const Adapter<double>&, const Exec&);
template void restore<float>(Decoder<float>&, const Arena<float>&);
template void restore<double>(Decoder<double>&, const Arena<double>&);
template DecoderGrads<float> make_adapter_gradients<float>(const Decoder<float>&, const Adapter<float>&);
template DecoderGrads<double> make_adapter_gradients<double>(const Decoder<double>&, const Adapter<double>&);

}  // namespace glassformer
