// What the benchmarks share: the options of a model's shape, and one file each.
#pragma once
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "glassformer/bench/inference.hpp"
#include "glassformer/bench/tokenizer.hpp"
#include "glassformer/bench/train.hpp"

namespace glassformer::cli {

// --layers --heads --kv-heads --width --hidden --context --vocab --arch, with the defaults of `standard`.
void declare_shape(Options&, const ModelConfig& standard, const char* arch);
ModelConfig shape_of(const Options&);
// The 110M Llama whose figures are known for llama.cpp and llama2.c.
ModelConfig llama_110m();

// Where the time goes, as lines of a table, and as the key "operations" (name, ms, share).
std::string operations_table(const std::vector<OperationTime>&);
void add_operations(JsonLine&, const std::vector<OperationTime>&);

// Which kernels compute: a line of a table, and the key "instruction_set".
std::string kernels_line();
void add_kernels(JsonLine&);

// The numbers of a benchmark as keys.
void add_results(JsonLine&, const TrainBench&);
void add_results(JsonLine&, const DecodeBench&);
void add_results(JsonLine&, const PrefillBench&);
void add_results(JsonLine&, const EncodeBench&);
// The limits of the machine, measured now: lines of a table, and keys.
std::string machine_table(int threads, JsonLine&);

// Of the benchmarks that a model of random weights is read with.
inline constexpr unsigned kInferenceOptions = kThreads | kKernels | kActivations | kJson;
const char* activations_name(bool rounded);  // "int8", "exact": the key "activations"

int bench_all_command(Arguments);
int bench_decode_command(Arguments);
int bench_machine_command(Arguments);
int bench_matmul_command(Arguments);
int bench_memory_command(Arguments);
int bench_prefill_command(Arguments);
int bench_tokenizer_command(Arguments);
int bench_train_command(Arguments);

}  // namespace glassformer::cli
