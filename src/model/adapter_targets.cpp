// Which matrices an adapter may sit on, and with what rank.
#include "glassformer/model/adapter.hpp"

#include <algorithm>
#include <cmath>

namespace glassformer {
namespace {

// A range of a projection's rows that an adapter may sit on.
struct Range {
  const char* name;        // as the user says it
  const char* projection;  // whose rows
  Index begin, rows, inputs;
  bool in_block = true;
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
  all.push_back({"embed", "embed", 0, c.vocab, c.width, false});
  if (!c.tied) all.push_back({"unembed", "unembed", 0, c.vocab, c.width, false});
  return all;
}

std::string names_of(const std::vector<Range>& valid) {
  std::string names;
  for (const Range& range : valid) names += fmt::format("{}{}", names.empty() ? "" : ", ", range.name);
  return names;
}

// "attn.q" for the whole model, or "blocks.0.attn.q" for one layer.
bool means(const std::string& name, Index block, const Range& range) {
  if (name == range.name) return true;
  return range.in_block && name == fmt::format("blocks.{}.{}", block, range.name);
}

template <class T> T pattern_value(const std::map<std::string, T>& pattern, const AdapterTarget& t, T otherwise) {
  for (const std::string& key : {t.name, t.kind()}) {
    if (const auto at = pattern.find(key); at != pattern.end()) return at->second;
  }
  return otherwise;
}

template <class T> void require_patterns_used(const char* what, const std::map<std::string, T>& pattern, const std::vector<AdapterTarget>& targets) {
  for (const auto& [key, value] : pattern) {
    const bool used = std::ranges::any_of(targets, [&key = key](const AdapterTarget& t) { return key == t.name || key == t.kind(); });
    require(used, "LoRA: {}: expected one of the targets, found {}", what, key);
  }
}

AdapterTarget target_of(const Range& r, Index block, const LoraConfig& lora) {
  AdapterTarget t;
  t.block = r.in_block ? block : -1;
  t.name = r.in_block ? fmt::format("blocks.{}.{}", block, r.name) : r.name;
  t.projection = r.projection, t.row_begin = r.begin, t.rows = r.rows, t.inputs = r.inputs;
  t.rank = pattern_value(lora.rank_pattern, t, lora.rank);
  t.alpha = pattern_value(lora.alpha_pattern, t, lora.alpha);
  require(t.rank > 0, "LoRA: expected a positive rank, found {}", t.rank);
  require(t.rank <= std::min(t.rows, t.inputs), "LoRA: rank {} is above that of {} [{}, {}]", t.rank, r.name, t.rows, t.inputs);
  require(t.alpha > 0 && std::isfinite(t.alpha), "LoRA: expected a positive alpha, found {}", t.alpha);
  require(!lora.dora || r.in_block, "LoRA: expected linear layers under DoRA, found {}", r.name);
  return t;
}

// DoRA sets the length of a row, which can be done once.
void require_rows_apart(const std::vector<AdapterTarget>& targets) {
  for (auto t = targets.begin(); t != targets.end(); ++t) {
    for (auto u = targets.begin(); u != t; ++u) {
      const bool apart = t->tensor() != u->tensor() || t->row_begin >= u->row_begin + u->rows || u->row_begin >= t->row_begin + t->rows;
      require(apart, "LoRA: expected each row in one target under DoRA, found rows of both {} and {}", u->name, t->name);
    }
  }
}

}  // namespace

std::vector<AdapterTarget> adapter_targets(const ModelConfig& c, const LoraConfig& lora) {
  require(lora.rank > 0, "LoRA: expected a positive rank, found {}", lora.rank);
  require(lora.alpha > 0 && std::isfinite(lora.alpha), "LoRA: expected a positive alpha, found {}", lora.alpha);
  require(lora.dropout >= 0 && lora.dropout < 1, "LoRA: expected a dropout of at least 0 and below 1, found {}", lora.dropout);
  const std::vector<Range> valid = ranges(c);
  for (const std::string& name : lora.targets) {
    bool known = false;
    for (Index block = 0; block < c.layers && !known; ++block) {
      known = std::ranges::any_of(valid, [&](const Range& r) { return means(name, block, r); });
    }
    require(known, "LoRA: expected targets of {}, found {}", names_of(valid), name);
  }
  std::vector<AdapterTarget> targets;
  const auto add = [&](Index block, bool in_block) {
    for (const std::string& name : lora.targets) {
      for (const Range& r : valid) {
        if (r.in_block == in_block && means(name, block, r)) targets.push_back(target_of(r, block, lora));
      }
    }
  };
  for (Index block = 0; block < c.layers; ++block) add(block, true);
  add(0, false);
  require_patterns_used("rank pattern", lora.rank_pattern, targets);
  require_patterns_used("alpha pattern", lora.alpha_pattern, targets);
  if (lora.dora) require_rows_apart(targets);
  return targets;
}

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

}  // namespace glassformer
