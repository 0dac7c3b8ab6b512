// lora train | merge | inspect
#include "cli/lora.hpp"

namespace glassformer::cli {

int lora_command(Arguments arguments) {
  static constexpr Command kCommands[] = {{"train", "learns an adapter from a text", lora_train_command},
                                          {"merge", "adds an adapter to its model's weights", lora_merge_command},
                                          {"inspect", "what an adapter changes", lora_inspect_command}};
  return dispatch("glassformer lora", "Adapts a model by a low-rank change: few parameters, the model itself untouched.", kCommands,
                  arguments);
}

}  // namespace glassformer::cli
