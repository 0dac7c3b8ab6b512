// Legend: r rank, I inputs, O outputs, V vocabulary, C channels, P tokens of a soft prompt.
#include "io/adapter_reader.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "io/file.hpp"
#include "io/tensor_names.hpp"

namespace glassformer::io {
namespace {

using Tensors = std::map<std::pair<std::string, std::string>, const TensorEntry*>;  // by module and part: "lora_A.weight"

// What one adapter is read from.
struct Source {
  const AdapterConfig& config;
  const SafetensorsFile& file;
  const Decoder<float>& base;
  ModelFamily family = model_family(base.config);
  std::vector<AdapterModule> modules = adapter_modules(base.config, family);
  Tensors tensors = {};

  bool has(const AdapterModule& m) const {
    const auto at = tensors.lower_bound({m.name, ""});
    return at != tensors.end() && at->first.first == m.name;
  }
  // The prefix of the language model is missing in adapters of a model without its head.
  const AdapterModule* module_named(std::string_view name) const {
    for (const AdapterModule& m : modules) {
      if (name == m.name || m.name == fmt::format("transformer.{}", name) || m.name == fmt::format("model.{}", name)) return &m;
    }
    return nullptr;
  }
  std::string module_names() const {
    std::string names;
    std::set<std::string> seen;
    for (const AdapterModule& m : modules) {
      if (seen.insert(m.short_name).second) names += fmt::format("{}{}", names.empty() ? "" : ", ", m.short_name);
    }
    return names;
  }
};

// PEFT saves the embedding and the head along with their adapters. Copies of the model's say nothing; trained ones would.
bool same_numbers(const SafetensorsFile& file, const TensorEntry& entry, const ops::Weight<float>& weight) {
  if (weight.quantized || entry.shape != std::vector<Index>{weight.rows(), weight.cols()}) return false;
  std::vector<float> values(static_cast<std::size_t>(weight.size()));
  return file.read<float>(entry, values) && std::equal(values.begin(), values.end(), weight.dense.data);
}

// A tensor that is no part of LoRA: an error where the adapter would mean something else without it, otherwise a warning.
Expected<void> pass_over(const Source& s, const TensorEntry& entry, std::vector<std::string>& warnings) {
  std::string name = entry.name;
  if (name.starts_with(kAdapterPrefix)) name.erase(0, kAdapterPrefix.size());
  if (name.find("lora_") != name.npos) {
    return unexpected("{}: expected lora_A, lora_B, lora_embedding_A, lora_embedding_B and lora_magnitude_vector of modules, found {}",
                      s.file.name(), printable(entry.name));
  }
  if (const auto at = name.find(".base_layer."); at != name.npos) name.erase(at, std::string_view(".base_layer").size());
  name = canonical_name(name, s.family);
  const Decoder<float>& m = s.base;
  if (name == "lm_head.weight" && m.config.tied && same_numbers(s.file, entry, m.embed.weight)) return {};
  for (const TensorName& known : tensor_names(m.config, s.family)) {
    if (name != known.theirs && !(name == "lm_head.weight" && m.config.tied)) continue;
    if (known.ours == "embed.weight" && same_numbers(s.file, entry, m.embed.weight)) return {};
    if (known.ours == "unembed.weight" && same_numbers(s.file, entry, m.unembed.weight)) return {};
    return unexpected("{}: expected changes of low rank alone, found {}: a tensor of the model, trained as a whole", s.file.name(),
                      printable(entry.name));
  }
  warnings.push_back(fmt::format("{}: {} is no part of a LoRA adapter: passed over", s.file.name(), printable(entry.name)));
  return {};
}

Expected<void> find_tensors(Source& s, std::vector<std::string>& warnings) {
  for (const TensorEntry& entry : s.file.tensors()) {
    std::string_view name = entry.name, part;
    if (name.starts_with(kAdapterPrefix)) name.remove_prefix(kAdapterPrefix.size());
    for (const std::string_view p : {"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"}) {
      if (name.size() > p.size() + 1 && name.ends_with(p) && name[name.size() - p.size() - 1] == '.') part = p;
    }
    if (part.empty()) {
      if (auto passed = pass_over(s, entry, warnings); !passed) return passed;
      continue;
    }
    const AdapterModule* m = s.module_named(name.substr(0, name.size() - part.size() - 1));
    if (!m) {
      return unexpected("{}: expected modules of a {} model with {} layers ({}), found {}", s.file.name(), family_name(s.family),
                        s.base.config.layers, s.module_names(), printable(entry.name));
    }
    if (!s.tensors.emplace(std::pair(m->name, std::string(part)), &entry).second) {
      return unexpected("{}: expected {} once, found it with and without its prefix", s.file.name(), printable(entry.name));
    }
  }
  if (s.tensors.empty()) return unexpected("{}: expected the lora_A and lora_B of an adapter, found none", s.file.name());
  return {};
}

std::vector<Index> shape_of_a(const AdapterModule& m, Index rank) { return {rank, m.embedding ? m.range.rows : m.range.inputs}; }
std::vector<Index> shape_of_b(const AdapterModule& m, Index rank) { return {m.embedding ? m.range.inputs : m.range.rows, rank}; }

// The tensor, or what was expected.
Expected<const TensorEntry*> find_part(const Source& s, const AdapterModule& m, const std::string& part, std::span<const Index> shape) {
  const auto at = s.tensors.find({m.name, part});
  if (at == s.tensors.end()) {
    return unexpected("{}: expected a tensor {}{}.{} of shape {}, found none", s.file.name(), kAdapterPrefix, m.name, part,
                      shape_text(shape));
  }
  return s.file.expect(at->second->name, shape);
}

// Whether target_modules names modules that there are, and the file has all that it names; a tied embedding with its head or not at all.
Expected<void> check_modules(const Source& s) {
  const AdapterConfig& c = s.config;
  for (const std::string& name : c.target_modules) {
    if (std::ranges::none_of(s.modules, [&](const AdapterModule& m) { return means_module(name, m.name); })) {
      return unexpected("{}: target_modules: expected modules of a {} model ({}), found {}", c.file, family_name(s.family),
                        s.module_names(), printable(name));
    }
  }
  for (const AdapterModule& m : s.modules) {
    const bool named = std::ranges::any_of(c.target_modules, [&](const std::string& name) { return means_module(name, m.name); });
    if (s.has(m) || c.some_layers || !(named || (c.all_linear && m.range.block >= 0 && s.family != ModelFamily::glassformer))) continue;
    if (auto found = find_part(s, m, adapter_parts(m).a, shape_of_a(m, c.rank_of(m))); !found) return tl::unexpected(found.error());
  }
  if (s.base.config.tied && s.family != ModelFamily::glassformer) {
    const AdapterModule &embed = *std::ranges::find_if(s.modules, &AdapterModule::embedding), &head = s.modules.back();
    if (s.has(embed) != s.has(head)) {
      return unexpected(
          "{}: expected adapters of {} and {} alike (the model's embedding is its head too: one matrix), found one of {} alone",
          s.file.name(), embed.name, head.name, s.has(embed) ? embed.name : head.name);
    }
  }
  return {};
}

// Our configuration for what the file says in PEFT's terms.
Expected<LoraConfig> translated_config(const Source& s) {
  LoraConfig lora = s.config.lora;
  lora.targets.clear();
  std::vector<PatternItem<Index>> ranks;
  std::vector<PatternItem<double>> alphas;
  std::map<std::string, Index> found, all;  // modules by our kind of target
  for (const AdapterModule& m : s.modules) ++all[m.range.kind()], found[m.range.kind()] += s.has(m);
  for (const AdapterModule& m : s.modules) {
    if (!s.has(m)) continue;
    Index rank = s.config.rank_of(m);
    if (s.config.rank_by_shape) {
      const auto a = s.tensors.find({m.name, adapter_parts(m).a});
      if (a != s.tensors.end() && !a->second->shape.empty()) rank = a->second->shape[0];
    }
    const std::string kind = m.range.kind(), name = found[kind] == all[kind] ? kind : m.range.name;
    if (std::ranges::find(lora.targets, name) == lora.targets.end()) lora.targets.push_back(name);
    ranks.push_back({kind, m.range.name, rank});
    alphas.push_back({kind, m.range.name, s.config.alpha_of(m)});
  }
  for (const auto& [key, value] : pattern_of<Index>(ranks, lora.rank)) lora.rank_pattern.emplace(key, value);
  for (const auto& [key, value] : pattern_of<double>(alphas, lora.alpha)) lora.alpha_pattern.emplace(key, value);
  return lora;
}

// Our own configuration out of the metadata, as long as adapter_config.json, which other tools go by, means the same.
Expected<std::optional<LoraConfig>> own_config_of(const Source& s) {
  const auto text = s.file.metadata().find(kOwnConfig);
  if (text == s.file.metadata().end()) return std::nullopt;
  const auto own = parse_own_config(text->second, s.config.lora);
  if (!own) return unexpected("{}: {}: {}", s.file.name(), kOwnConfig, own.error());
  const Adapter<float> outline{*own, adapter_targets(s.base.config, *own), {}};
  for (const AdapterModule& m : used_modules(s.base.config, s.family, outline)) {
    if (s.config.rank_of(m) != m.rank || std::abs(s.config.alpha_of(m) - m.alpha) > 1e-9 * m.alpha) return std::nullopt;
  }
  return *own;
}

Expected<Matrix<double>> read_part(const Source& s, const AdapterModule& m, const std::string& part, std::span<const Index> shape) {
  const auto entry = find_part(s, m, part, shape);
  if (!entry) return tl::unexpected(entry.error());
  Matrix<double> values(shape.size() == 1 ? 1 : shape[0], shape.back());
  if (auto read = s.file.read<double>(**entry, {values.data(), static_cast<std::size_t>(values.size())}); !read)
    return tl::unexpected(read.error());
  if (!values.cast<float>().allFinite())
    return unexpected("{}: {}: expected numbers that F32 can hold, found a larger one", s.file.name(), (*entry)->name);
  return values;
}

// Puts numbers where they belong, which is NaN until then. False when others are there already, from another module.
bool put(MatrixRef<float> to, const Matrix<double>& values) {
  const Matrix<float> x = values.cast<float>();
  if (to.hasNaN()) to = x;
  return (to.array() == x.array()).all();
}

// Reads one module's tensors and hands each target its part.
Expected<void> read_module(const Source& s, const AdapterModule& m, const Adapter<float>& adapter) {
  const AdapterParts names = adapter_parts(m);
  auto a = read_part(s, m, names.a, shape_of_a(m, m.rank));
  if (!a) return tl::unexpected(a.error());
  auto b = read_part(s, m, names.b, shape_of_b(m, m.rank));
  if (!b) return tl::unexpected(b.error());
  if (m.embedding) {  // theirs are our Bᵀ [r, V] and Aᵀ [C, r]
    const Matrix<double> ours = b->transpose();
    *b = Matrix<double>(a->transpose()), *a = ours;
  }
  Matrix<double> magnitude;
  if (adapter.config.dora) {
    auto read = read_part(s, m, names.magnitude, std::vector<Index>{m.range.rows});
    if (!read) return tl::unexpected(read.error());
    magnitude = std::move(*read);
  }
  for (const ModulePart& p : m.parts) {
    const AdapterTarget& t = *p.target;
    const auto ta = adapter.arena.view(t.name + ".lora_A"), tb = adapter.arena.view(t.name + ".lora_B"),
               tm = adapter.arena.view(t.name + ".magnitude");
    bool same = put(*ta, a->middleRows(p.rank_begin, t.rank)) &&
                put((*tb).middleRows(p.target_row, p.rows), b->block(p.module_row, p.rank_begin, p.rows, t.rank) / p.ratio);
    if (tm) same = same && put((*tm).middleCols(p.target_row, p.rows), magnitude.middleCols(p.module_row, p.rows));
    if (!same) {
      return unexpected(
          "{}: {}: expected the same numbers as in the modules before it (its adapter is that of one matrix here, {}), found others",
          s.file.name(), m.name, t.name);
    }
  }
  return {};
}

Expected<Adapter<float>> read_lora(Source s, std::vector<std::string>& warnings) {
  if (auto found = find_tensors(s, warnings); !found) return tl::unexpected(found.error());
  if (auto checked = check_modules(s); !checked) return tl::unexpected(checked.error());
  Adapter<float> adapter;
  try {
    const auto own = own_config_of(s);
    if (!own) return tl::unexpected(own.error());
    const auto lora = *own ? Expected<LoraConfig>(**own) : translated_config(s);
    adapter = make_adapter<float>(s.base.config, *lora, 0);
  } catch (const std::invalid_argument& error) {
    return unexpected("{}: {}", s.config.file, error.what());
  }
  for (const TensorInfo& info : adapter.arena.layout().tensors())
    (*adapter.arena.view(info)).setConstant(std::numeric_limits<float>::quiet_NaN());
  const std::vector<AdapterModule> used = used_modules(s.base.config, s.family, adapter);
  for (const AdapterModule& m : used) {
    if (auto read = read_module(s, m, adapter); !read) return tl::unexpected(read.error());
  }
  const std::size_t expected = used.size() * (adapter.config.dora ? 3 : 2);
  if (expected != s.tensors.size()) {
    const auto m = s.tensors.size() < expected ? s.tensors.end() : std::ranges::find_if(s.tensors, [&](const auto& tensor) {
      return !adapter.config.dora && tensor.first.second == "lora_magnitude_vector";
    });
    if (m != s.tensors.end())
      return unexpected("{}: use_dora: expected true, as {} has {}, found false", s.config.file, s.file.name(), m->second->name);
    return unexpected("{}: expected {} tensors for the modules of {}, found {}", s.file.name(), expected, s.config.file, s.tensors.size());
  }
  return adapter;
}

Expected<Adapter<float>> read_soft_prompt(const Source& s) {
  const Index C = s.base.config.width;
  if (s.config.token_dim && *s.config.token_dim != C) {
    return unexpected("{}: token_dim: expected {}, the model's width, found {}", s.config.file, C, *s.config.token_dim);
  }
  const auto entry = s.file.expect(kPromptTensor, std::vector<Index>{s.config.prompt_tokens, C});
  if (!entry) return tl::unexpected(entry.error());
  if (s.file.tensors().size() != 1)
    return unexpected("{}: expected {} alone, found {} tensors", s.file.name(), kPromptTensor, s.file.tensors().size());
  try {
    Adapter<float> adapter = make_soft_prompt(s.base, s.config.prompt_tokens, 0);
    const MatrixView<float> prompt = adapter.arena.view("prompt.weight");  // [P, C]
    if (auto read = s.file.read<float>(**entry, {prompt.data, static_cast<std::size_t>(prompt.size())}); !read)
      return tl::unexpected(read.error());
    return adapter;
  } catch (const std::invalid_argument& error) {
    return unexpected("{}: {}", s.config.file, error.what());
  }
}

}  // namespace

AdapterParts adapter_parts(const AdapterModule& m) {
  return m.embedding ? AdapterParts{"lora_embedding_A", "lora_embedding_B"} : AdapterParts{"lora_A.weight", "lora_B.weight"};
}

Expected<Adapter<float>> read_adapter(const AdapterConfig& config, const SafetensorsFile& file, const Decoder<float>& base,
                                      std::vector<std::string>& warnings) {
  const Source source{config, file, base};
  return config.soft_prompt ? read_soft_prompt(source) : read_lora(source, warnings);
}

}  // namespace glassformer::io
