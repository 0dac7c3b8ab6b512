#include "glassformer/io/adapter_directory.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <set>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/io/save.hpp"
#include "io/json_fields.hpp"

namespace glassformer {
namespace {

namespace fs = std::filesystem;
using io::JsonFields;
using io::printable;
using Json = JsonFields::Json;

constexpr std::string_view kPrefix = "base_model.model.";

// A module of PEFT's on rows [begin, begin + rows) of one of our projections.
struct Module {
  std::string name;        // "transformer.h.0.attn.c_attn"
  std::string short_name;  // "c_attn"
  Index block = 0;
  std::string projection;  // attn.qkv, attn.out, mlp.up, mlp.down
  Index begin = 0, rows = 0, inputs = 0;
  std::string target;  // what an adapter of just this module is called in LoraConfig::targets
};

// All modules that a gpt2 or llama model offers to PEFT.
std::vector<Module> modules_of(const ModelConfig& c, ModelFamily family) {
  const Index C = c.width, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, F = c.hidden;
  std::vector<Module> modules;
  for (Index i = 0; i < c.layers; ++i) {
    if (family == ModelFamily::gpt2) {
      const std::string h = fmt::format("transformer.h.{}.", i);
      modules.push_back({h + "attn.c_attn", "c_attn", i, "attn.qkv", 0, q + 2 * kv, C, "attn.qkv"});
      modules.push_back({h + "attn.c_proj", "attn.c_proj", i, "attn.out", 0, C, q, "attn.out"});
      modules.push_back({h + "mlp.c_fc", "c_fc", i, "mlp.up", 0, F, C, "mlp.up"});
      modules.push_back({h + "mlp.c_proj", "mlp.c_proj", i, "mlp.down", 0, C, F, "mlp.down"});
    } else {
      const std::string l = fmt::format("model.layers.{}.", i);
      modules.push_back({l + "self_attn.q_proj", "q_proj", i, "attn.qkv", 0, q, C, "attn.q"});
      modules.push_back({l + "self_attn.k_proj", "k_proj", i, "attn.qkv", q, kv, C, "attn.k"});
      modules.push_back({l + "self_attn.v_proj", "v_proj", i, "attn.qkv", q + kv, kv, C, "attn.v"});
      modules.push_back({l + "self_attn.o_proj", "o_proj", i, "attn.out", 0, C, q, "attn.out"});
      modules.push_back({l + "mlp.gate_proj", "gate_proj", i, "mlp.up", 0, F, C, "mlp.gate"});
      modules.push_back({l + "mlp.up_proj", "up_proj", i, "mlp.up", F, F, C, "mlp.up"});
      modules.push_back({l + "mlp.down_proj", "down_proj", i, "mlp.down", 0, C, F, "mlp.down"});
    }
  }
  return modules;
}

// A target's name without its block: "attn.q".
std::string target_kind(const AdapterTarget& t) { return t.name.substr(fmt::format("blocks.{}.", t.block).size()); }

// The targets of an adapter as modules of a model that PEFT knows nothing of.
std::vector<Module> modules_of(const std::vector<AdapterTarget>& targets) {
  std::vector<Module> modules;
  for (const AdapterTarget& t : targets) {
    modules.push_back({t.name, target_kind(t), t.block, t.projection, t.row_begin, t.rows, t.inputs, target_kind(t)});
  }
  return modules;
}

// Rows that a module and a target have in common, of their projection; empty when rows ≤ 0.
struct Overlap {
  Index begin, rows;
};
Overlap overlap(const Module& m, const AdapterTarget& t) {
  if (m.block != t.block || m.projection != t.projection) return {0, 0};
  const Index begin = std::max(m.begin, t.row_begin);
  return {begin, std::min(m.begin + m.rows, t.row_begin + t.rows) - begin};
}

// The targets that share rows with a module, in order: the k-th of them has ranks [k·r, (k+1)·r) of the module's adapter.
std::vector<const AdapterTarget*> targets_in(const Module& m, const std::vector<AdapterTarget>& targets) {
  std::vector<const AdapterTarget*> in;
  for (const AdapterTarget& t : targets) {
    if (overlap(m, t).rows > 0) in.push_back(&t);
  }
  return in;
}

// How many targets share the most shared module: the file's rank is this times ours.
Index stacking(const std::vector<Module>& modules, const std::vector<AdapterTarget>& targets) {
  Index most = 1;
  for (const Module& m : modules) most = std::max(most, static_cast<Index>(targets_in(m, targets).size()));
  return most;
}

Json adapter_json(const Adapter<float>& adapter, ModelFamily family, const std::vector<Module>& used, Index rank,
                  const std::string& base_name) {
  const LoraConfig& c = adapter.config;
  // The scale stays: α/r, or α/√r, with the file's rank.
  const double grown = static_cast<double>(rank) / static_cast<double>(c.rank);
  std::set<std::string> names;
  for (const Module& m : used) names.insert(m.short_name);
  Json json;
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = base_name;
  json["r"] = rank;
  json["lora_alpha"] = c.alpha * (c.rank_stabilized ? std::sqrt(grown) : grown);
  json["lora_dropout"] = c.dropout;
  json["target_modules"] = names;
  json["bias"] = "none";
  json["fan_in_fan_out"] = family == ModelFamily::gpt2;
  json["use_rslora"] = c.rank_stabilized;
  json["use_dora"] = false;
  json["inference_mode"] = true;
  json["modules_to_save"] = nullptr;
  json["rank_pattern"] = Json::object();
  json["alpha_pattern"] = Json::object();
  json["glassformer_targets"] = c.targets;
  json["glassformer_rank"] = c.rank;
  json["glassformer_alpha"] = c.alpha;
  return json;
}

// The A [rank, I] and B [rows, rank] of a module, out of all targets on its rows.
std::pair<Matrix<float>, Matrix<float>> join(const Adapter<float>& adapter, const Module& m, Index rank) {
  Matrix<float> a = Matrix<float>::Zero(rank, m.inputs), b = Matrix<float>::Zero(m.rows, rank);
  Index at = 0;
  for (const AdapterTarget* t : targets_in(m, adapter.targets)) {
    const auto ta = adapter.arena.view(t->name + ".lora_A"), tb = adapter.arena.view(t->name + ".lora_B");
    const auto [begin, rows] = overlap(m, *t);
    a.middleRows(at, ta.rows) = *ta;
    b.block(begin - m.begin, at, rows, tb.cols) = (*tb).middleRows(begin - t->row_begin, rows);
    at += ta.rows;
  }
  return {std::move(a), std::move(b)};
}

// What adapter_config.json says.
struct Settings {
  LoraConfig lora;  // targets only where the file has glassformer_targets
  Index file_rank = 0;
  std::string base_model;
  bool ours = false;
};

Expected<Settings> read_settings(const fs::path& path) {
  const auto text = read_bytes(path, std::size_t(1) << 24);
  if (!text) return tl::unexpected(text.error());
  const Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object()) return unexpected("{}: expected a JSON object, found something else", path.string());
  JsonFields f(path.string(), json);
  Settings s;
  if (f.word("peft_type") != "LORA") f.fail("peft_type", "\"LORA\"");
  s.file_rank = f.whole("r", 1, Index(1) << 20);
  s.lora.rank = f.whole_or("glassformer_rank", 1, s.file_rank, s.file_rank);
  const double alpha = f.number_or("lora_alpha", 1e-12, 1e12, 8);
  s.lora.alpha = f.number_or("glassformer_alpha", 1e-12, 1e12, alpha);
  s.lora.dropout = f.number_or("lora_dropout", 0, 1, 0);
  s.lora.rank_stabilized = f.truth_or("use_rslora", false);
  s.base_model = f.word("base_model_name_or_path", "");
  if (f.truth_or("use_dora", false)) f.fail("use_dora", "false (DoRA is not read)");
  if (f.word("bias", "none") != "none") f.fail("bias", "\"none\"");
  for (const char* field : {"rank_pattern", "alpha_pattern"}) {
    if (const Json* pattern = f.find(field); pattern && !pattern->empty()) f.fail(field, "none (one rank and one α for all modules)");
  }
  s.lora.targets.clear();
  if (const Json* targets = f.find("glassformer_targets")) {
    for (const Json& t : *targets) {
      if (t.is_string()) s.lora.targets.push_back(t.get<std::string>());
    }
    s.ours = !s.lora.targets.empty();
    if (!s.ours) f.fail("glassformer_targets", "a list of names");
  }
  // The file's own rank and α are what other tools go by: ours must mean the same scale.
  LoraConfig theirs = s.lora;
  theirs.rank = s.file_rank, theirs.alpha = alpha;
  if (f.error().empty()) {
    const auto scale = [](const LoraConfig& c) {
      return c.alpha / (c.rank_stabilized ? std::sqrt(static_cast<double>(c.rank)) : static_cast<double>(c.rank));
    };
    if (std::abs(scale(s.lora) - scale(theirs)) > 1e-9 * scale(theirs)) s.ours = false;
  }
  if (!s.ours) s.lora.rank = s.file_rank, s.lora.alpha = alpha, s.lora.targets.clear();
  if (!f.error().empty()) return tl::unexpected(f.error());
  return s;
}

// "transformer.h.0.attn.c_attn" and "lora_A" out of "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"; the prefix of the
// language model may be missing, as in adapters of the model without its head.
std::pair<std::string, std::string> split_name(std::string_view name, ModelFamily family) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  for (const std::string_view part : {".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"}) {
    if (!name.ends_with(part)) continue;
    std::string module(name.substr(0, name.size() - part.size()));
    const std::string prefix = family == ModelFamily::gpt2 ? "transformer." : family == ModelFamily::llama ? "model." : "";
    if (!module.starts_with(prefix)) module = prefix + module;
    return {std::move(module), std::string(part.substr(1, 6))};
  }
  return {};
}

using Tensors = std::map<std::pair<std::string, std::string>, const TensorEntry*>;  // (module, lora_A or lora_B)

Expected<Tensors> lora_tensors(const SafetensorsFile& file, ModelFamily family, std::vector<std::string>& warnings) {
  Tensors tensors;
  for (const TensorEntry& entry : file.tensors()) {
    auto [module, part] = split_name(entry.name, family);
    if (module.empty() && part.empty()) {
      warnings.push_back(fmt::format("{}: {} is no part of a LoRA adapter: passed over", file.name(), printable(entry.name)));
      continue;
    }
    if (part == "lora_m") return unexpected("{}: expected LoRA, found DoRA ({})", file.name(), printable(entry.name));
    if (!tensors.emplace(std::pair(std::move(module), std::move(part)), &entry).second) {
      return unexpected("{}: expected {} once, found it with and without its prefix", file.name(), printable(entry.name));
    }
  }
  if (tensors.empty()) return unexpected("{}: expected the lora_A and lora_B of an adapter, found none", file.name());
  return tensors;
}

// The kinds of targets that the file's tensors are for; an error names a module that the model has not.
Expected<std::vector<std::string>> targets_of(const SafetensorsFile& file, const Tensors& tensors, const ModelConfig& base,
                                              ModelFamily family) {
  std::vector<std::string> names;
  std::map<std::string, std::string> targets;  // by module
  if (family == ModelFamily::glassformer) {
    names = adapter_target_names(base);
    for (Index i = 0; i < base.layers; ++i) {
      for (const std::string& name : names) targets[fmt::format("blocks.{}.{}", i, name)] = name;
    }
  } else {
    for (const Module& m : modules_of(base, family)) {
      targets[m.name] = m.target;
      if (m.block == 0) names.push_back(m.target);
    }
  }
  std::set<std::string> found;
  for (const auto& [key, entry] : tensors) {
    const auto target = targets.find(key.first);
    if (target == targets.end()) {
      return unexpected("{}: expected modules of a {} model with {} layers, found {}", file.name(), family_name(family), base.layers,
                        printable(entry->name));
    }
    found.insert(target->second);
  }
  std::erase_if(names, [&](const std::string& name) { return !found.contains(name); });
  return names;
}

// Reads one module's A and B and hands each target its part.
Expected<void> read_module(const SafetensorsFile& file, const Tensors& tensors, const Module& m, Index rank,
                           const Adapter<float>& adapter) {
  const auto find = [&](const char* part, Index rows, Index cols) -> Expected<Matrix<float>> {
    const auto it = tensors.find({m.name, part});
    const std::vector<Index> shape{rows, cols};
    if (it == tensors.end())
      return unexpected("{}: expected a tensor {}{}.{}.weight of shape {}, found none", file.name(), kPrefix, m.name, part,
                        shape_text(shape));
    if (auto right = file.expect(it->second->name, shape); !right) return tl::unexpected(right.error());
    Matrix<float> values(rows, cols);
    if (auto read = file.read<float>(*it->second, {values.data(), static_cast<std::size_t>(values.size())}); !read)
      return tl::unexpected(read.error());
    return values;
  };
  const auto a = find("lora_A", rank, m.inputs), b = find("lora_B", m.rows, rank);
  if (!a || !b) return tl::unexpected(a ? b.error() : a.error());
  Index at = 0;
  for (const AdapterTarget* t : targets_in(m, adapter.targets)) {
    const auto ta = adapter.arena.view(t->name + ".lora_A"), tb = adapter.arena.view(t->name + ".lora_B");
    const auto [begin, rows] = overlap(m, *t);
    *ta = a->middleRows(at, ta.rows);
    (*tb).middleRows(begin - t->row_begin, rows) = b->block(begin - m.begin, at, rows, tb.cols);
    at += ta.rows;
  }
  return {};
}

Expected<AdapterFiles> load(const fs::path& dir, const ModelConfig& base) {
  const fs::path config_path = dir / "adapter_config.json";
  auto settings = read_settings(config_path);
  if (!settings) return tl::unexpected(settings.error());
  const auto file = SafetensorsFile::open(dir / "adapter_model.safetensors");
  if (!file) return tl::unexpected(file.error());
  const ModelFamily family = model_family(base);
  AdapterFiles files;
  files.base_model = settings->base_model;
  files.metadata = file->metadata();
  const auto tensors = lora_tensors(*file, family, files.warnings);
  if (!tensors) return tl::unexpected(tensors.error());
  const auto targets = targets_of(*file, *tensors, base, family);
  if (!targets) return tl::unexpected(targets.error());
  if (!settings->ours) settings->lora.targets = *targets;
  try {
    files.adapter = make_adapter<float>(base, settings->lora, 0);
  } catch (const std::invalid_argument& error) {
    return unexpected("{}: {}", config_path.string(), error.what());
  }
  const std::vector<Module> modules = family == ModelFamily::glassformer ? modules_of(files.adapter.targets) : modules_of(base, family);
  if (stacking(modules, files.adapter.targets) * settings->lora.rank != settings->file_rank) {
    return unexpected("{}: expected r = {} for the targets that it names, found {}", config_path.string(),
                      stacking(modules, files.adapter.targets) * settings->lora.rank, settings->file_rank);
  }
  std::size_t used = 0;
  for (const Module& m : modules) {
    if (targets_in(m, files.adapter.targets).empty()) continue;
    if (auto read = read_module(*file, *tensors, m, settings->file_rank, files.adapter); !read) return tl::unexpected(read.error());
    used += 2;
  }
  if (used != tensors->size())
    return unexpected("{}: expected {} tensors for the targets of {}, found {}", file->name(), used, config_path.string(), tensors->size());
  return files;
}

}  // namespace

Expected<AdapterFiles> load_adapter(const fs::path& dir, const Decoder<float>& base) {
  try {
    return load(dir, base.config);
  } catch (const std::bad_alloc&) {
    return unexpected("{}: expected an adapter that fits in memory, found a larger one", dir.string());
  }
}

std::vector<FileToSave> adapter_files(const Adapter<float>& adapter, const Decoder<float>& decoder, const std::string& base_name, const Metadata& extra) {
  const ModelConfig& base = decoder.config;
  const ModelFamily family = model_family(base);
  std::vector<Module> modules = family == ModelFamily::glassformer ? modules_of(adapter.targets) : modules_of(base, family);
  std::erase_if(modules, [&](const Module& m) { return targets_in(m, adapter.targets).empty(); });
  const Index rank = adapter.config.rank * stacking(modules, adapter.targets);
  std::string json = adapter_json(adapter, family, modules, rank, base_name).dump(2) + "\n";
  Metadata metadata = extra;
  metadata.emplace("format", "pt");
  const auto write_weights = [&adapter, modules, rank, metadata](const fs::path& path) {
    std::vector<Matrix<float>> values;
    std::vector<NamedTensor> tensors;
    for (const Module& m : modules) {
      auto [a, b] = join(adapter, m, rank);
      values.push_back(std::move(a)), values.push_back(std::move(b));
      const auto name = std::string(kPrefix) + m.name;
      tensors.push_back(
          {name + ".lora_A.weight", Dtype::F32, {rank, m.inputs}, static_cast<const float*>(values[values.size() - 2].data()), false});
      tensors.push_back({name + ".lora_B.weight", Dtype::F32, {m.rows, rank}, static_cast<const float*>(values.back().data()), false});
    }
    return write_safetensors(path, tensors, metadata);
  };
  return {{"adapter_config.json", [json = std::move(json)](const fs::path& path) { return write_bytes(path, json); }},
          {"adapter_model.safetensors", write_weights}};
}

Expected<void> save_adapter(const fs::path& dir, const Adapter<float>& adapter, const Decoder<float>& base, const std::string& base_name) {
  return save_directory(dir, adapter_files(adapter, base, base_name));
}

}  // namespace glassformer
