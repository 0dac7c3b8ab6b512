// The modules of a model as PEFT names them, and how our adapter's targets lie in them.
// Legend: r rank, I inputs, O outputs, V vocabulary, C channels. A [r, I], B [O, r].
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/model/adapter.hpp"

namespace glassformer::io {

// What one of our targets has in a module: some rows of its B, and ranks of the module's adapter, [rank_begin, rank_begin + its rank).
struct ModulePart {
  const AdapterTarget* target = nullptr;
  Index module_row = 0, target_row = 0, rows = 0, rank_begin = 0;
  double ratio = 1;  // the target's scale over the module's: B is multiplied by it in the file
};

struct AdapterModule {
  std::string name;        // "transformer.h.0.attn.c_attn"
  std::string short_name;  // what is its name in every layer: "c_attn"
  AdapterTarget range;     // our target that is just this module
  bool embedding = false;  // looked up: the file has lora_embedding_A [r, V] and lora_embedding_B [C, r], our Bᵀ and Aᵀ
  // Of one adapter:
  std::vector<ModulePart> parts;
  Index rank = 0;           // of all parts
  double alpha = 0;         // such that the scale is the first part's
  std::string target_name;  // in target_modules: the short name, or its own where the adapter is not for all modules of that name
};

// All modules of the model that PEFT can adapt. A tied embedding is two of them, one matrix of ours: what is looked up, and the head.
std::vector<AdapterModule> adapter_modules(const ModelConfig&, ModelFamily);
// Those that the adapter is for, with its parts of them. Several targets on a module are stacked, a target on several is cut by rows.
// `adapter` must outlive them.
std::vector<AdapterModule> used_modules(const ModelConfig&, ModelFamily, const Adapter<float>& adapter);

// Whether PEFT takes `name` for a module that `key` means: the whole name or its end, from a dot on; after ^ the whole name alone.
bool means_module(std::string_view key, std::string_view name);

// A value for each module, as a pattern: by its short name where all modules of that name have the same, else by its own; none where it
// is `usual`. `items`: (short name, name, value).
template <class T>
struct PatternItem {
  std::string short_name, name;
  T value;
};
template <class T>
std::vector<std::pair<std::string, T>> pattern_of(const std::vector<PatternItem<T>>& items, T usual) {
  std::vector<std::pair<std::string, T>> pattern;
  for (const PatternItem<T>& item : items) {
    bool alike = true, known = false;
    for (const PatternItem<T>& other : items) alike = alike && (other.short_name != item.short_name || other.value == item.value);
    for (const auto& [key, value] : pattern) known = known || key == item.short_name;
    if (item.value != usual && !(alike && known)) pattern.emplace_back(alike ? item.short_name : item.name, item.value);
  }
  return pattern;
}

}  // namespace glassformer::io
