#include "io/adapter_modules.hpp"

#include <algorithm>
#include <cmath>

#include "io/tensor_names.hpp"

namespace glassformer::io {
namespace {

// "c_attn"; "attn.c_proj" and "mlp.c_proj", which share the last part.
std::string short_name_of(const std::string& name) {
  std::size_t dot = name.rfind('.');
  if (dot != name.npos && name.substr(dot + 1) == "c_proj") dot = name.rfind('.', dot - 1);
  return dot == name.npos ? name : name.substr(dot + 1);
}

// Every target that the model can have, each on all layers.
std::vector<AdapterTarget> all_targets(const ModelConfig& config) {
  LoraConfig all;
  all.rank = 1, all.targets = adapter_target_names(config);
  return adapter_targets(config, all);
}

// The part of a target that lies in a module; none when rows ≤ 0.
ModulePart part_in(const AdapterModule& m, const AdapterTarget& t) {
  if (m.range.block != t.block || m.range.projection != t.projection) return {};
  const Index begin = std::max(m.range.row_begin, t.row_begin);
  const Index end = std::min(m.range.row_begin + m.range.rows, t.row_begin + t.rows);
  return {&t, begin - m.range.row_begin, begin - t.row_begin, end - begin, m.rank};
}

}  // namespace

std::vector<AdapterModule> adapter_modules(const ModelConfig& config, ModelFamily family) {
  const std::vector<AdapterTarget> targets = all_targets(config);
  std::vector<AdapterModule> modules;
  if (family == ModelFamily::glassformer) {  // a model that PEFT knows nothing of: our own names
    for (const AdapterTarget& t : targets) modules.push_back({t.name, t.kind(), t, t.projection == "embed", {}});
    return modules;
  }
  for (const TensorName& line : tensor_names(config, family)) {
    const auto same = std::ranges::find_if(
        targets, [&](const AdapterTarget& t) { return t.tensor() == line.ours && t.row_begin == line.row_begin && t.rows == line.rows; });
    if (same == targets.end()) continue;
    const std::string name = line.theirs.substr(0, line.theirs.size() - std::string_view(".weight").size());
    modules.push_back({name, short_name_of(name), *same, same->projection == "embed", {}});
  }
  if (config.tied) {
    const auto embed = std::ranges::find_if(modules, [](const AdapterModule& m) { return m.embedding; });
    modules.push_back({"lm_head", "lm_head", embed->range, false, {}});
  }
  return modules;
}

std::vector<AdapterModule> used_modules(const ModelConfig& config, ModelFamily family, const Adapter<float>& adapter) {
  const LoraConfig& lora = adapter.config;
  std::vector<AdapterModule> used, modules = adapter_modules(config, family);
  for (AdapterModule& m : modules) {
    for (const AdapterTarget& t : adapter.targets) {
      ModulePart part = part_in(m, t);
      if (part.rows <= 0 || (family == ModelFamily::glassformer && t.name != m.range.name)) continue;
      if (!m.parts.empty()) {
        const AdapterTarget& first = *m.parts[0].target;
        part.ratio = lora.scale(t.rank, t.alpha) / lora.scale(first.rank, first.alpha);
      }
      m.parts.push_back(part);
      m.rank += t.rank;
    }
    if (m.parts.empty()) continue;
    const AdapterTarget& first = *m.parts[0].target;
    const double grown = static_cast<double>(m.rank) / static_cast<double>(first.rank);
    m.alpha = first.alpha * (lora.rank_stabilized ? std::sqrt(grown) : grown);
    used.push_back(m);
  }
  const auto named = [](const std::vector<AdapterModule>& in, const std::string& name) {
    return std::ranges::count(in, name, &AdapterModule::short_name);
  };
  for (AdapterModule& m : used) m.target_name = named(used, m.short_name) == named(modules, m.short_name) ? m.short_name : m.name;
  return used;
}

bool means_module(std::string_view key, std::string_view name) {
  if (key.starts_with('^')) return name == key.substr(1);
  return name == key || (name.size() > key.size() && name.ends_with(key) && name[name.size() - key.size() - 1] == '.');
}

}  // namespace glassformer::io
