// What the benchmarks share: the options of a model's shape, and one file each.
#pragma once
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "glassformer/bench/operations.hpp"
#include "glassformer/model/config.hpp"

namespace glassformer::cli {

// --layers --heads --kv-heads --width --hidden --context --vocab --arch, with the defaults of `standard`.
void declare_shape(Options&, const ModelConfig& standard, const char* arch);
ModelConfig shape_of(const Options&);

// Where the time goes, as lines of a table, and as the key "operations" (name, ms, share).
std::string operations_table(const std::vector<OperationTime>&);
void add_operations(JsonLine&, const std::vector<OperationTime>&);

int bench_decode_command(Arguments);
int bench_prefill_command(Arguments);
int bench_train_command(Arguments);

}  // namespace glassformer::cli
