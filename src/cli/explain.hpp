// What the explain commands share. Each component has a file explain_NAME.cpp with `int explain_NAME_command(Arguments)`, declared below,
// and a row in the table of explain.cpp.
#pragma once
#include <memory>
#include <optional>

#include "cli/command.hpp"
#include "cli/model_options.hpp"
#include "cli/what_if.hpp"
#include "glassformer/plot/heat_map.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer::cli {

plot::Colour colour_of_output();  // of standard output, as the terminal says

// --model and --prompt, which belong together, and --adapter.
void declare_model_and_prompt(Options&, const std::string& prompt_help = "what the model reads");

// A model, perhaps changed by the options of what_if.hpp, and what the change did to the prompt. It stays where it is.
struct ModelToExplain : AdaptedModel {
  explicit ModelToExplain(AdaptedModel files) : AdaptedModel(std::move(files)) {}
  std::unique_ptr<Intervention> intervention;
  Story change;  // its opening says what was changed, its sections what came of that
};
// The model that `option` names, its warnings told. One that is quantized comes in floating point, with a note: who explains reads the weights
// themselves.
ModelFiles load_to_explain(const Options&, const char* option = "model");
// --model, loaded so, with each --adapter attached; null when none was given. `as_stored`: a quantized model stays so, and a soft prompt is not
// refused. `patches`: nothing, without what-if options; else as they were declared.
// Throws UsageError when one of --model and --prompt is given alone, or an example is to be changed.
std::unique_ptr<ModelToExplain> model_to_explain(const Options&, std::optional<bool> patches = {}, bool as_stored = false);
// The story, with what a change of the model did, and with --json also its object on the last line.
void print_story(const Options&, Story, const ModelToExplain* = nullptr);

// One file each.
int explain_attention_command(Arguments);
int explain_backward_command(Arguments);
int explain_block_command(Arguments);
int explain_cache_command(Arguments);
int explain_lens_command(Arguments);
int explain_attribution_command(Arguments);
int explain_lora_command(Arguments);
int explain_quantize_command(Arguments);
int explain_sampling_command(Arguments);
int explain_tokenizer_command(Arguments);
int explain_position_command(Arguments);

}  // namespace glassformer::cli
