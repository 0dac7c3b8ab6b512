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

// A model of random weights that writes and reads, and what is said of it: alone, and as a row of `bench all`.
struct BenchSubject {
  Decoder<float> model;
  std::string linear, embedding;   // formats, by their options
  Index in_f32 = 0;                // matrices that should be in few bits, but whose rows are no multiple of the block
  bool rounded = false;            // the activations, of some product
  bool rounded_in_blocks = false;  // of those of the blocks, not only of the head
  std::string formats() const;     // "q8_0"
  std::string title() const;       // "109,529,856 parameters in q8_0, activations in 8 bits"
  std::string short_title() const;  // "q8_0·int8"
};
BenchSubject bench_subject(Decoder<float>, const std::string& linear, const std::string& embedding, const Exec&);

// What a benchmark prints with --json, also as a part of `bench all`.
JsonLine bench_json(const TrainBench&);
JsonLine bench_json(const BenchSubject&, const InferenceOptions&, const DecodeBench&);
JsonLine bench_json(const BenchSubject&, const InferenceOptions&, const PrefillBench&);
void add_results(JsonLine&, const EncodeBench&);
// The limits of the machine, measured now: lines of a table, and keys.
std::string machine_table(int threads, JsonLine&);

// Of the benchmarks that a model of random weights is read with.
inline constexpr unsigned kInferenceOptions = kThreads | kKernels | kActivations | kJson;

int bench_all_command(Arguments);
int bench_decode_command(Arguments);
int bench_machine_command(Arguments);
int bench_matmul_command(Arguments);
int bench_memory_command(Arguments);
int bench_prefill_command(Arguments);
int bench_tokenizer_command(Arguments);
int bench_train_command(Arguments);

}  // namespace glassformer::cli
