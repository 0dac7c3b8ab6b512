// The sites of a decoder (docs/trace.md), for whoever lets a user name one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/config.hpp"

namespace glassformer {

// All that fire in a forward pass of this configuration, in the order in which they do.
std::vector<std::string> decoder_sites(const ModelConfig&);

// Throws std::invalid_argument naming the valid sites when there is none of this name: a layer that does not exist, a part that the model
// does not have, a misspelling.
void require_site(const ModelConfig&, std::string_view name);

}  // namespace glassformer
