#include "io/tensor_names.hpp"

#include <algorithm>

namespace glassformer::io {

std::vector<Index> TensorName::shape() const {
  if (vector) return {cols};
  return transposed ? std::vector<Index>{cols, rows} : std::vector<Index>{rows, cols};
}

namespace {

// Adds lines of the table, asking the arena's layout what there is.
struct Table {
  const ArenaLayout& layout;
  std::vector<TensorName> lines;

  void add(std::string theirs, const std::string& ours, bool transposed = false) {
    const TensorInfo* info = layout.find(ours);
    if (info) lines.push_back({std::move(theirs), ours, 0, info->rows, info->cols, info->kind == ParameterKind::vector, transposed});
  }
  // Rows of a joined matrix.
  void add_rows(std::string theirs, const std::string& ours, Index begin, Index rows) {
    lines.push_back({std::move(theirs), ours, begin, rows, layout.find(ours)->cols, false, false});
  }
  // GPT-2 has every bias: where we have none, it is zeros, as long as the weight has outputs (of a gain: entries).
  void add_bias(std::string theirs, const std::string& module) {
    if (layout.find(module + ".bias")) return add(std::move(theirs), module + ".bias");
    const TensorInfo& weight = *layout.find(module + ".weight");
    lines.push_back({std::move(theirs), "", 0, 1, weight.kind == ParameterKind::vector ? weight.cols : weight.rows, true, false});
  }
};

void add_gpt2(Table& t, const ModelConfig& config) {
  t.add("transformer.wte.weight", "embed.weight");
  t.add("transformer.wpe.weight", "pos_embed.weight");
  const auto module = [&](const std::string& theirs, const std::string& ours, bool transposed) {
    t.add(theirs + ".weight", ours + ".weight", transposed);
    t.add_bias(theirs + ".bias", ours);
  };
  for (Index i = 0; i < config.layers; ++i) {
    const std::string theirs = fmt::format("transformer.h.{}.", i), ours = fmt::format("blocks.{}.", i);
    module(theirs + "ln_1", ours + "ln1", false);
    module(theirs + "attn.c_attn", ours + "attn.qkv", true);  // Conv1D: [in, out]
    module(theirs + "attn.c_proj", ours + "attn.out", true);
    module(theirs + "ln_2", ours + "ln2", false);
    module(theirs + "mlp.c_fc", ours + "mlp.up", true);
    module(theirs + "mlp.c_proj", ours + "mlp.down", true);
  }
  module("transformer.ln_f", "ln_final", false);
  t.add("lm_head.weight", "unembed.weight");
}

void add_llama(Table& t, const ModelConfig& config) {
  const Index q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim, F = config.hidden;
  t.add("model.embed_tokens.weight", "embed.weight");
  for (Index i = 0; i < config.layers; ++i) {
    const std::string theirs = fmt::format("model.layers.{}.", i), ours = fmt::format("blocks.{}.", i);
    t.add(theirs + "input_layernorm.weight", ours + "ln1.weight");
    t.add_rows(theirs + "self_attn.q_proj.weight", ours + "attn.qkv.weight", 0, q);
    t.add_rows(theirs + "self_attn.k_proj.weight", ours + "attn.qkv.weight", q, kv);
    t.add_rows(theirs + "self_attn.v_proj.weight", ours + "attn.qkv.weight", q + kv, kv);
    t.add(theirs + "self_attn.o_proj.weight", ours + "attn.out.weight");
    t.add(theirs + "post_attention_layernorm.weight", ours + "ln2.weight");
    t.add_rows(theirs + "mlp.gate_proj.weight", ours + "mlp.up.weight", 0, F);
    t.add_rows(theirs + "mlp.up_proj.weight", ours + "mlp.up.weight", F, F);
    t.add(theirs + "mlp.down_proj.weight", ours + "mlp.down.weight");
  }
  t.add("model.norm.weight", "ln_final.weight");
  t.add("lm_head.weight", "unembed.weight");
}

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> ends) {
  return std::ranges::any_of(ends, [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace

std::vector<TensorName> tensor_names(const ModelConfig& config, ModelFamily family) {
  const auto layout = decoder_layout(config);
  Table table{*layout, {}};
  switch (family) {
    case ModelFamily::gpt2:
      add_gpt2(table, config);
      break;
    case ModelFamily::llama:
      add_llama(table, config);
      break;
    case ModelFamily::glassformer:
      for (const TensorInfo& info : layout->tensors()) table.add(info.name, info.name);
      break;
  }
  return std::move(table.lines);
}

std::string canonical_name(std::string_view theirs, ModelFamily family) {
  if (family == ModelFamily::glassformer) return std::string(theirs);
  // Buffers that older versions stored beside the parameters: the causal mask, RoPE's frequencies.
  if (ends_with_any(theirs, {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"})) return "";
  const std::string_view prefix = family == ModelFamily::gpt2 ? "transformer." : "model.";
  if (theirs.starts_with(prefix) || theirs == "lm_head.weight") return std::string(theirs);
  return std::string(prefix) + std::string(theirs);
}

Expected<ModelFamily> family_of(const SafetensorsFile& file) {
  for (const TensorEntry& entry : file.tensors()) {
    if (entry.name == "embed.weight") return ModelFamily::glassformer;
    if (entry.name == "wte.weight" || entry.name == "transformer.wte.weight") return ModelFamily::gpt2;
    if (entry.name == "embed_tokens.weight" || entry.name == "model.embed_tokens.weight") return ModelFamily::llama;
  }
  return unexpected("{}: expected the weights of a gpt2, llama or glassformer model, found none of their token embeddings", file.name());
}

}  // namespace glassformer::io
