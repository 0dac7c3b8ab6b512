#include "io/adapter_config.hpp"

#include <algorithm>
#include <set>

#include "glassformer/io/save.hpp"
#include "io/json_fields.hpp"

namespace glassformer::io {
namespace {

using Json = JsonFields::Json;

constexpr Index kMostRank = Index(1) << 20;
constexpr double kLeastAlpha = 1e-12, kMostAlpha = 1e12;

// A key of a pattern as a name, without the backslash before a dot; none for any other regular expression.
std::optional<std::string> plain_name(const std::string& key) {
  std::string name;
  for (std::size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '\\' && i + 1 < key.size() && key[i + 1] == '.') continue;
    const bool plain =
        std::isalnum(static_cast<unsigned char>(key[i])) || key[i] == '_' || key[i] == '.' || key[i] == '-' || (i == 0 && key[i] == '^');
    if (!plain) return std::nullopt;
    name += key[i];
  }
  return name;
}

// Calls set(name, value) for each entry whose key is a name, and other() for each regular expression.
template <class F, class G>
void read_pattern(JsonFields& f, const char* field, F&& set, G&& other) {
  const Json* pattern = f.find(field);
  if (!pattern) return;
  if (!pattern->is_object()) return f.fail(field, "an object of values by module");
  for (const auto& [key, value] : pattern->items()) {
    JsonFields inner(fmt::format("{}: {}", f.name(), field), *pattern);
    if (const auto name = plain_name(key)) {
      set(inner, key, *name);
    } else {
      other(key);
    }
    f.adopt(inner);
  }
}

void read_target_modules(JsonFields& f, AdapterConfig& c) {
  const Json* targets = f.find("target_modules");
  if (!targets) return;
  if (targets->is_string()) {
    c.all_linear = *targets == "all-linear";
    return;
  }
  bool words = targets->is_array() && !targets->empty();
  for (const Json& t : *targets) words = words && t.is_string();
  if (!words) return f.fail("target_modules", "a list of names, or one regular expression");
  for (const Json& t : *targets) c.target_modules.push_back(t.get<std::string>());
}

void read_lora(JsonFields& f, AdapterConfig& c) {
  c.lora.rank = f.whole("r", 1, kMostRank);
  c.lora.alpha = f.number_or("lora_alpha", kLeastAlpha, kMostAlpha, 8);
  c.lora.dropout = f.number_or("lora_dropout", 0, 1, 0);
  c.lora.rank_stabilized = f.truth_or("use_rslora", false);
  c.lora.dora = f.truth_or("use_dora", false);
  if (f.word("bias", "none") != "none") f.fail("bias", "\"none\"");
  for (const char* field : {"lora_bias", "use_qalora"}) {
    if (f.truth_or(field, false)) f.fail(field, "false");
  }
  for (const char* field : {"layer_replication", "trainable_token_indices", "target_parameters", "alora_invocation_tokens"}) {
    if (const Json* found = f.find(field); found && !found->empty()) f.fail(field, "none");
  }
  read_target_modules(f, c);
  for (const char* field : {"layers_to_transform", "exclude_modules"}) c.some_layers = c.some_layers || f.find(field);
  read_pattern(
      f, "rank_pattern",
      [&](JsonFields& p, const std::string& key, const std::string& name) {
        c.rank_pattern.emplace_back(name, p.whole(key.c_str(), 1, kMostRank));
      },
      [&](const std::string&) { c.rank_by_shape = true; });
  read_pattern(
      f, "alpha_pattern",
      [&](JsonFields& p, const std::string& key, const std::string& name) {
        c.alpha_pattern.emplace_back(name, p.number(key.c_str(), kLeastAlpha, kMostAlpha));
      },
      [&](const std::string&) { f.fail("alpha_pattern", "names of modules (a regular expression is not read)"); });
}

void read_prompt(JsonFields& f, AdapterConfig& c) {
  c.soft_prompt = true;
  c.prompt_tokens = f.whole("num_virtual_tokens", 1, kMostRank);
  if (f.find("token_dim")) c.token_dim = f.whole("token_dim", 1, kMostRank);
  if (f.whole_or("num_transformer_submodules", 1, kMostRank, 1) != 1) f.fail("num_transformer_submodules", "1");
}

template <class T>
T value_of(const std::vector<std::pair<std::string, T>>& pattern, const AdapterModule& m, T usual) {
  for (const auto& [key, value] : pattern) {
    if (means_module(key, m.name)) return value;
  }
  return usual;
}

// What most of the modules have.
template <class T, class F>
T most_frequent(const std::vector<AdapterModule>& modules, F&& value_in) {
  const auto count = [&](T value) { return std::ranges::count_if(modules, [&](const AdapterModule& m) { return value_in(m) == value; }); };
  T most = value_in(modules.front());
  for (const AdapterModule& m : modules) {
    if (count(value_in(m)) > count(most)) most = value_in(m);
  }
  return most;
}

template <class T, class F>
Json pattern_json(const std::vector<AdapterModule>& modules, T usual, F&& value_in) {
  std::vector<PatternItem<T>> items;
  for (const AdapterModule& m : modules) items.push_back({m.short_name, m.name, value_in(m)});
  Json json = Json::object();
  for (const auto& [key, value] : pattern_of<T>(items, usual)) json[key] = value;
  return json;
}

}  // namespace

Index AdapterConfig::rank_of(const AdapterModule& m) const { return value_of(rank_pattern, m, lora.rank); }
double AdapterConfig::alpha_of(const AdapterModule& m) const { return value_of(alpha_pattern, m, lora.alpha); }

Expected<AdapterConfig> read_adapter_config(const std::filesystem::path& path) {
  const auto text = read_bytes(path, std::size_t(1) << 24);
  if (!text) return tl::unexpected(text.error());
  const Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object()) return unexpected("{}: expected a JSON object, found something else", path.string());
  JsonFields f(path.string(), json);
  AdapterConfig c;
  c.file = path.string();
  c.base_model = f.word("base_model_name_or_path", "");
  const std::string type = f.word("peft_type");
  if (type == "PROMPT_TUNING") {
    read_prompt(f, c);
  } else if (type == "LORA") {
    read_lora(f, c);
  } else {
    f.fail("peft_type", "\"LORA\" or \"PROMPT_TUNING\"");
  }
  if (!f.error().empty()) return tl::unexpected(f.error());
  return c;
}

std::string lora_config_json(const LoraConfig& c, ModelFamily family, const std::vector<AdapterModule>& used,
                             const std::string& base_name) {
  const auto rank = [](const AdapterModule& m) { return m.rank; };
  const auto alpha = [](const AdapterModule& m) { return m.alpha; };
  const auto usual_rank = most_frequent<Index>(used, rank);
  const auto usual_alpha = most_frequent<double>(used, alpha);
  std::set<std::string> targets;
  for (const AdapterModule& m : used) targets.insert(m.target_name);
  Json json;
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = base_name;
  json["r"] = usual_rank;
  json["lora_alpha"] = usual_alpha;
  json["lora_dropout"] = c.dropout;
  json["target_modules"] = targets;
  json["rank_pattern"] = pattern_json<Index>(used, usual_rank, rank);
  json["alpha_pattern"] = pattern_json<double>(used, usual_alpha, alpha);
  json["bias"] = "none";
  json["fan_in_fan_out"] = family == ModelFamily::gpt2;
  json["use_rslora"] = c.rank_stabilized;
  json["use_dora"] = c.dora;
  json["inference_mode"] = true;
  json["modules_to_save"] = nullptr;
  return json.dump(2) + "\n";
}

std::string prompt_config_json(const ModelConfig& base, Index tokens, const std::string& base_name) {
  Json json;
  json["peft_type"] = "PROMPT_TUNING";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = base_name;
  json["num_virtual_tokens"] = tokens;
  json["token_dim"] = base.width;
  json["num_transformer_submodules"] = 1;
  json["num_attention_heads"] = base.heads;
  json["num_layers"] = base.layers;
  json["prompt_tuning_init"] = "RANDOM";
  json["prompt_tuning_init_text"] = nullptr;
  json["tokenizer_name_or_path"] = nullptr;
  json["inference_mode"] = true;
  return json.dump(2) + "\n";
}

std::string own_config(const LoraConfig& c) {
  Json json;
  json["targets"] = c.targets;
  json["rank"] = c.rank;
  json["alpha"] = c.alpha;
  json["rank_pattern"] = c.rank_pattern;
  json["alpha_pattern"] = c.alpha_pattern;
  return json.dump();
}

Expected<LoraConfig> parse_own_config(std::string_view text, const LoraConfig& file) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return unexpected("expected a JSON object, found {}", printable(text));
  JsonFields f("", json);
  LoraConfig c = file;
  c.rank = f.whole("rank", 1, kMostRank);
  c.alpha = f.number("alpha", kLeastAlpha, kMostAlpha);
  try {
    c.targets = json.at("targets").get<std::vector<std::string>>();
    c.rank_pattern = json.at("rank_pattern").get<std::map<std::string, Index>>();
    c.alpha_pattern = json.at("alpha_pattern").get<std::map<std::string, double>>();
  } catch (const Json::exception&) {
    return unexpected("expected targets, rank_pattern and alpha_pattern, found {}", printable(text));
  }
  if (c.targets.empty()) return unexpected("expected targets, found none");
  if (!f.error().empty()) return tl::unexpected(f.error().substr(2));
  return c;
}

}  // namespace glassformer::io
