// The commands of `glassformer lora`, each in its file.
#pragma once
#include "cli/command.hpp"

namespace glassformer::cli {

int lora_train_command(Arguments);
int lora_merge_command(Arguments);
int lora_inspect_command(Arguments);

}  // namespace glassformer::cli
