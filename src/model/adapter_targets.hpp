// Which matrices an adapter may sit on, and with what rank.
#pragma once
#include "glassformer/model/adapter.hpp"

namespace glassformer {

// The targets of a configuration, block by block in the order of LoraConfig::targets, then the embedding and the head. `config` is
// resolved, targets are not empty. Throws as make_adapter does.
std::vector<AdapterTarget> adapter_targets(const ModelConfig& config, const LoraConfig&);

}  // namespace glassformer
