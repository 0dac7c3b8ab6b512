// adapter_config.json, as PEFT has it.
#pragma once
#include <filesystem>
#include <optional>

#include "io/adapter_modules.hpp"

namespace glassformer::io {

struct AdapterConfig {
  std::string file;          // its name
  bool soft_prompt = false;  // PROMPT_TUNING, else LORA
  Index prompt_tokens = 0;   // of a soft prompt
  std::optional<Index> token_dim;
  std::string base_model;
  LoraConfig lora;  // r, lora_alpha, lora_dropout, use_rslora, use_dora
  // Which modules: names and ends of names; none: those that the file has tensors for (a regular expression is not evaluated).
  std::vector<std::string> target_modules;
  bool all_linear = false;   // target_modules "all-linear": every linear layer but the head
  bool some_layers = false;  // not all that are named: layers_to_transform, exclude_modules
  // In the file's order: the first that means a module has its value.
  std::vector<std::pair<std::string, Index>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  bool rank_by_shape = false;  // rank_pattern has regular expressions: the tensors' shapes say the ranks
  Index rank_of(const AdapterModule&) const;
  double alpha_of(const AdapterModule&) const;
};

// Errors: "FILE: field: expected …, found …", also for whatever changes what is computed and is not read.
Expected<AdapterConfig> read_adapter_config(const std::filesystem::path&);
std::string lora_config_json(const LoraConfig&, ModelFamily, const std::vector<AdapterModule>& used, const std::string& base_name);
std::string prompt_config_json(const ModelConfig&, Index tokens, const std::string& base_name);

// Our own names for what the file says in PEFT's (targets, ranks, alphas), which they do not always give back: a text in the metadata.
std::string own_config(const LoraConfig&);
// The same read; dropout, rsLoRA and DoRA as in `file`. Errors: what is wrong with the text.
Expected<LoraConfig> parse_own_config(std::string_view text, const LoraConfig& file);

}  // namespace glassformer::io
