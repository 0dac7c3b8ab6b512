// Small models and adapters with numbers in every tensor, for the tests of adapter directories.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"
#include "model/models.hpp"
#include "temporary.hpp"

namespace glassformer::test {

inline bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A gpt2, a llama, or (with ALiBi) a model that is neither.
inline ModelConfig adapter_base(bool llama, Position position = Position::learned, bool tied = true) {
  ModelConfig c;
  c.vocab = 21, c.context = 8, c.layers = 2, c.heads = 4, c.width = 16, c.position = position, c.tied = tied;
  if (llama) c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.kv_heads = 2, c.hidden = 24;
  return resolved(c);
}

// As trained: no tensor zero, magnitudes near the norms that they start from.
inline Adapter<float> filled_adapter(const Decoder<float>& base, const LoraConfig& lora) {
  Adapter<float> adapter = make_adapter(base, lora, 1);
  std::uint64_t draw = 0;
  for (const TensorInfo& info : adapter.arena.layout().tensors()) {
    const auto view = adapter.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) {
      const auto x = static_cast<float>(0.3 * random_normal(RandomStream{5}.at(info.name), draw++));
      view.data[i] = info.name.ends_with(".magnitude") ? view.data[i] * (1 + 0.2f * x) : x;
    }
  }
  return adapter;
}

inline LoraConfig rank_three(std::vector<std::string> targets) {
  LoraConfig lora;
  lora.rank = 3, lora.alpha = 5, lora.dropout = 0.25, lora.targets = std::move(targets);
  return lora;
}

// Kinds of adapters, each of a model.
struct AdapterCase {
  std::string name;
  ModelConfig base;
  LoraConfig lora;
};
inline std::vector<AdapterCase> adapter_cases() {
  const ModelConfig gpt2 = adapter_base(false), llama = adapter_base(true), other = adapter_base(false, Position::alibi);
  const ModelConfig gpt2_apart = adapter_base(false, Position::learned, false), llama_apart = adapter_base(true, Position::rope, false);
  std::vector<AdapterCase> cases = {
      {"gpt2, all linear layers", gpt2, rank_three({"attn.qkv", "attn.out", "mlp.up", "mlp.down"})},
      {"gpt2, parts of c_attn", gpt2, rank_three({"attn.q", "attn.v"})},
      {"gpt2, a part and another", gpt2, rank_three({"attn.q", "mlp.down"})},
      {"gpt2, one layer", gpt2, rank_three({"blocks.1.attn.qkv", "mlp.up"})},
      {"gpt2, tied embedding", gpt2, rank_three({"attn.qkv", "embed"})},
      {"gpt2, embedding and head", gpt2_apart, rank_three({"embed", "unembed", "attn.q"})},
      {"llama, all linear layers", llama, rank_three({"attn.q", "attn.k", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down"})},
      {"llama, joined matrices", llama, rank_three({"attn.qkv", "mlp.gate_up"})},
      {"llama, tied embedding", llama, rank_three({"embed", "mlp.down"})},
      {"llama, embedding", llama_apart, rank_three({"embed"})},
      {"llama, head", llama_apart, rank_three({"unembed", "attn.k"})},
      {"glassformer", other, rank_three({"attn.q", "mlp.up"})},
      {"glassformer, the whole and a part", other, rank_three({"attn.qkv", "attn.q", "embed"})}};
  LoraConfig patterns = rank_three({"attn.q", "attn.k", "attn.v", "attn.out"});
  patterns.rank_pattern = {{"attn.q", 4}, {"blocks.1.attn.k", 2}}, patterns.alpha_pattern = {{"blocks.0.attn.out", 7.5}, {"attn.v", 1}};
  for (const ModelConfig& base : {gpt2, llama, other}) cases.push_back({"ranks and alphas that differ", base, patterns});
  const std::size_t plain = cases.size();
  for (std::size_t i = 0; i < plain; ++i) {
    cases.push_back(cases[i]);
    cases.back().name += ", rsLoRA", cases.back().lora.rank_stabilized = true;
  }
  for (std::size_t i = 0; i < plain; ++i) {
    const auto& targets = cases[i].lora.targets;
    const auto has = [&](const char* name) { return std::find(targets.begin(), targets.end(), name) != targets.end(); };
    if (has("embed") || has("unembed")) continue;
    cases.push_back(cases[i]);
    cases.back().name += ", DoRA", cases.back().lora.dora = true;
  }
  return cases;
}

inline bool same_bits_in(const Arena<float>& a, const Arena<float>& b) {
  return a.values().size() == b.values().size() && std::memcmp(a.values().data(), b.values().data(), a.values().size_bytes()) == 0;
}

// A file's bytes with our own names for the adapter's targets taken out of the metadata: what is left is what PEFT reads.
inline void forget_own_names(const std::filesystem::path& file) {
  std::string bytes = slurp(file);
  const auto at = bytes.find("glassformer.adapter");
  REQUIRE(at != bytes.npos);
  spill(file, bytes.replace(at, 11, "xlassformer"));
}

}  // namespace glassformer::test
