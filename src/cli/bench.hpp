// What the benchmarks share: the options of a model's shape, and one file each.
#pragma once
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "glassformer/model/config.hpp"

namespace glassformer::cli {

// --layers --heads --kv-heads --width --hidden --context --vocab --arch, with the defaults of `standard`.
void declare_shape(Options&, const ModelConfig& standard, const char* arch);
ModelConfig shape_of(const Options&);

int bench_decode_command(Arguments);
int bench_prefill_command(Arguments);
int bench_train_command(Arguments);

}  // namespace glassformer::cli
