// Options that change a model for an experiment: shared by sample, eval and explain.
#pragma once
#include "cli/options.hpp"
#include "glassformer/explain/what_if.hpp"

namespace glassformer::cli {

// --ablate, --scale, --no-mask, --softmax-temperature, and with `patches` also --patch, --patch-from, --patch-token.
void declare_what_if(Options&, bool patches = true);
// Throws UsageError for what cannot be read.
WhatIf what_if(const Options&, bool patches = true);

}  // namespace glassformer::cli
