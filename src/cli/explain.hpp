// What the explain commands share. Each component has a file explain_NAME.cpp with `int explain_NAME_command(Arguments)`, declared below,
// and a row in the table of explain.cpp.
#pragma once
#include "cli/command.hpp"
#include "cli/options.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/plot/heat_map.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer::cli {

plot::Colour colour_of_output();  // of standard output, as the terminal says

// --model and --prompt, which belong together. `model_help` says what stands in when there is none.
void declare_model_and_prompt(Options&, const std::string& prompt_help = "what the model reads");
// The model, its warnings already told; nothing when none was given. Throws UsageError when one of the two is given alone.
std::optional<ModelFiles> model_to_explain(const Options&);
// The story, and with --json also its object on the last line.
void print_story(const Options&, const Story&);

// One file each.
int explain_attention_command(Arguments);
int explain_backward_command(Arguments);
int explain_block_command(Arguments);
int explain_cache_command(Arguments);
int explain_lens_command(Arguments);
int explain_attribution_command(Arguments);
int explain_lora_command(Arguments);
int explain_sampling_command(Arguments);
int explain_tokenizer_command(Arguments);
int explain_position_command(Arguments);

}  // namespace glassformer::cli
