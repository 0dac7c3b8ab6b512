// Options that describe a model, shared by train, gradcheck and whoever builds one.
#pragma once
#include "cli/options.hpp"
#include "glassformer/model/config.hpp"

namespace glassformer::cli {

// --layers, --heads, … under the heading "Model"; `standards` says what stands where an option is absent, for the help.
void declare_model_options(Options&, const std::string& standards);

// `base` with what was given put over it. A width or kind of MLP that was given makes the hidden width follow, unless that was given too.
ModelConfig model_options(const Options&, ModelConfig base);

// --rope-scaling, --rope-factor and --rope-original-context; what was given put over what there is.
void declare_rope_options(Options&);
RopeStretch rope_options(const Options&, RopeStretch);

}  // namespace glassformer::cli
