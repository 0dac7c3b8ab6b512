// Options that describe a model, shared by train, gradcheck and whoever builds one; and those that load one.
#pragma once
#include "cli/options.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"

namespace glassformer::cli {

// --layers, --heads, … under the heading "Model"; `standards` says what stands where an option is absent, for the help.
void declare_model_options(Options&, const std::string& standards);

// `base` with what was given put over it. A width or kind of MLP that was given makes the hidden width follow, unless that was given too.
ModelConfig model_options(const Options&, ModelConfig base);

// --rope-scaling, --rope-factor and --rope-original-context; what was given put over what there is.
void declare_rope_options(Options&);
RopeStretch rope_options(const Options&, RopeStretch);

// The model options that say what a model's weights are, of those that were given: a model that exists has its own.
std::vector<std::string> shape_options_given(const Options&);

// For a model that exists, read at another length: the options above and, unless the command has one, --context.
void declare_stretch(Options&, bool with_context);
// Does what they say, if anything. Without --rope-factor the factor is the context over the trained one. Throws UsageError when that is not
// above 1, std::invalid_argument as `stretched` does.
void stretch_model(const Options&, Decoder<float>&);

// --adapter DIR[=WEIGHT], which may be repeated.
void declare_adapters(Options&);
// A model with its adapters attached, in the order in which they were given.
struct AdaptedModel : ModelFiles {
  std::vector<AdapterFiles> adapters;
  std::vector<std::string> names;  // the directories, as they were given
  std::vector<double> weights;
};
// --model with each --adapter; a directory whose own name has '=' is taken as that. The warnings of all are in `warnings`. Throws
// UsageError for a weight that is no finite number, Failure for what cannot be loaded or does not go together (two soft prompts, a soft
// prompt with a weight).
AdaptedModel load_adapted_model(const Options&);

// Are activations rounded to 8 bits when this model runs?
bool rounds_activations(const Exec&, const Decoder<float>&);
// With --activations int8 and no matrix that takes them so, a note on standard error says that they are not; `name` is the model's.
bool rounds_activations(const Options&, const Decoder<float>&, const std::string& name);

// Throws Failure when `out` is there and holds something, unless that may be overwritten.
void require_free(const std::string& out, bool overwrite);
// The same of a file.
void require_new_file(const std::string& out, bool overwrite);
// Throws UsageError when saving to the directory `out` would replace what is read: `read` is that directory, or in it.
void require_apart(const std::string& out, const std::string& read);

}  // namespace glassformer::cli
