// bench decode, bench prefill: a model of random weights writes, and reads.
#include <filesystem>

#include "cli/bench.hpp"
#include "cli/model_options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/gguf.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/quantize/block.hpp"

namespace glassformer::cli {
namespace {

// What writing and reading have in common.
void declare_inference(Options& o, Index tokens, const char* tokens_help) {
  declare_shape(o, llama_110m(), "llama");
  o.choice("type", {"f32", "q8_0", "q4_0", "int4", "nf4"}, "format of the weights", "f32");
  o.choice("embedding-type", {"f32", "q8_0", "q4_0", "int4", "nf4"},
           "format of the token embedding and the head; that of --type unless given");
  o.integer("tokens", tokens, 1, tokens_help);
  o.integer("repeats", 4, 1, "times to do it; the fastest counts");
}
InferenceOptions inference_options(const Options& o) {
  require_usage(o.integer("tokens") <= o.integer("context"), "--tokens: expected at most --context {}, found {}", o.integer("context"),
                o.integer("tokens"));
  return {.tokens = o.integer("tokens"), .repeats = o.integer("repeats"), .exec = o.exec()};
}

std::optional<QuantizedType> type_named(const std::string& name) {
  return name == "f32" ? std::nullopt : std::optional(checked(quantized_named(name)));
}

constexpr Index kIds = 257;  // of the tokenizer that goes with random weights: bytes and an end, no words

BenchSubject make_subject(const Options& o) {
  const std::string linear = o.text("type"), embedding = o.given("embedding-type") ? o.text("embedding-type") : linear;
  const QuantizeTypes types{type_named(linear), type_named(embedding)};
  const bool quantized = types.linear || types.embedding;
  BenchSubject s = bench_subject(random_model(shape_of(o), quantized ? std::optional(types) : std::nullopt, o.exec()), linear, embedding, o.exec());
  if (quantized)
    require_usage(!s.model.quantized.empty(), "--{}: expected a width that is a multiple of the format's block, found {}",
                  types.linear ? fmt::format("type {}", linear) : fmt::format("embedding-type {}", embedding), s.model.config.width);
  rounds_activations(o, s.model, "this model");
  return s;
}

JsonLine json_of(const BenchSubject& s, const Exec& exec) {
  JsonLine json;
  json.add("parameters", decoder_parameters(s.model))
      .add("type", std::string_view(s.linear))
      .add("embedding_type", std::string_view(s.embedding))
      .add("matrices_in_f32", s.in_f32)
      .add("threads", static_cast<Index>(exec.threads))
      .add("activations", s.rounded ? "int8" : "exact");
  return json;
}

}  // namespace

BenchSubject bench_subject(Decoder<float> model, const std::string& linear, const std::string& embedding, const Exec& exec) {
  BenchSubject s{std::move(model), linear, embedding};
  const QuantizeTypes types{type_named(linear), type_named(embedding)};
  for (const TensorInfo& info : s.model.arena.layout().tensors()) s.in_f32 += wanted_type(info, types).has_value();
  s.rounded = rounds_activations(exec, s.model);
  s.rounded_in_blocks = s.rounded && types.linear && takes_int8_activations(*types.linear);
  return s;
}

std::string BenchSubject::formats() const {
  return linear == embedding ? linear : quantize_types_name({type_named(linear), type_named(embedding)});
}

std::string BenchSubject::title() const {
  return fmt::format("{} parameters in {}{}{}", grouped(decoder_parameters(model)), formats(),
                     in_f32 > 0 ? fmt::format(" (but {} of its matrices, whose rows are no multiple of the block, in f32)", in_f32) : "",
                     rounded_in_blocks ? ", activations in 8 bits" : rounded ? ", the head's activations in 8 bits" : "");
}

std::string BenchSubject::short_title() const { return fmt::format("{}{}", formats(), rounded_in_blocks ? "·int8" : ""); }

JsonLine bench_json(const BenchSubject& subject, const InferenceOptions& options, const DecodeBench& b) {
  JsonLine json = json_of(subject, options.exec);
  json.add("batch", options.batch)
      .add("tokens", options.tokens)
      .add("tokens_per_s", b.tokens_per_s)
      .add("median_tokens_per_s", b.median_tokens_per_s)
      .add("step_ms", b.step_ms)
      .add("weight_bytes", b.weight_bytes)
      .add("step_bytes", b.step_bytes)
      .add("read_gb_per_s", b.read_gb_per_s)
      .add("memory_gb_per_s", b.memory_gb_per_s)
      .add("share_of_memory_limit", b.share_of_memory_limit);
  add_operations(json, b.operations);
  add_kernels(json);
  return json;
}

JsonLine bench_json(const BenchSubject& subject, const InferenceOptions& options, const PrefillBench& b) {
  JsonLine json = json_of(subject, options.exec);
  json.add("tokens", options.tokens)
      .add("tokens_per_s", b.tokens_per_s)
      .add("median_tokens_per_s", b.median_tokens_per_s)
      .add("prefill_ms", b.ms)
      .add("gflops_per_s", b.gflops_per_s)
      .add("fma_peak_gflops_per_s", b.fma_peak_gflops_per_s)
      .add("share_of_fma_peak", b.share_of_fma_peak());
  add_operations(json, b.operations);
  add_kernels(json);
  return json;
}

int bench_decode_command(Arguments arguments) {
  Options o("bench decode",
            "Times decoding by a model of random weights: greedy, from an empty KV cache, one pass a token. Each token reads every weight "
            "once, so the limit "
            "is the memory's, which is measured between the repeats.");
  declare_inference(o, 200, "tokens of each sequence");
  o.integer("batch", 1, 1, "sequences at once, each with its own cache");
  o.path("write-gguf", "FILE", "also write the model that is timed, for llama.cpp: --arch llama in f32, q8_0 or q4_0");
  o.flag("overwrite", "replace the file of --write-gguf");
  o.common(kInferenceOptions);
  o.example("glassformer bench decode --type q8_0 --batch 8");
  if (!o.parse(arguments)) return 0;
  InferenceOptions options = inference_options(o);
  options.batch = o.integer("batch");
  require_usage(!o.given("write-gguf") || o.integer("vocab") >= kIds, "--write-gguf: expected --vocab {} at least, found {}", kIds,
                o.integer("vocab"));
  if (o.given("write-gguf")) {
    const std::filesystem::path file = o.text("write-gguf");
    require_usage(file.extension() == ".gguf", "--write-gguf: expected a file that ends in .gguf, found {}", file.string());
    require_new_file(file.string(), o.is_set("overwrite"));
  }
  const BenchSubject subject = make_subject(o);
  if (o.given("write-gguf")) checked(save_gguf(o.text("write-gguf"), subject.model, train_bpe("", {.vocab_size = kIds})));
  const DecodeBench b = bench_decode(subject.model, options);
  print_output(
      fmt::format("{}, {} sequence{} of {} tokens, {} threads\n"
                  "tokens              {:>12.1f} a second (median of {}: {:.1f})\n"
                  "step                {:>12.3f} ms\n"
                  "read in a step      {:>12} bytes, weights and cache\n"
                  "reads               {:>12.1f} GB/s\n"
                  "memory limit        {:>12.1f} GB/s\n"
                  "share of the limit  {:>12.1f} %\n"
                  "{}",
                  subject.title(), options.batch, options.batch > 1 ? "s" : "", options.tokens, options.exec.threads, b.tokens_per_s,
                  options.repeats, b.median_tokens_per_s, b.step_ms, grouped(b.step_bytes), b.read_gb_per_s, b.memory_gb_per_s,
                  100 * b.share_of_memory_limit, kernels_line()));
  print_output(operations_table(b.operations));
  if (o.json()) bench_json(subject, options, b).print();
  return 0;
}

int bench_prefill_command(Arguments arguments) {
  Options o("bench prefill",
            "Times reading a prompt by a model of random weights: one pass over all of it, and the logits of its last token.");
  declare_inference(o, 256, "tokens of the prompt");
  o.common(kInferenceOptions);
  o.example("glassformer bench prefill --type q4_0");
  if (!o.parse(arguments)) return 0;
  const InferenceOptions options = inference_options(o);
  const BenchSubject subject = make_subject(o);
  const PrefillBench b = bench_prefill(subject.model, options);
  print_output(fmt::format(
      "{}, a prompt of {} tokens, {} threads\n"
      "tokens              {:>12.1f} a second (median of {}: {:.1f})\n"
      "prompt              {:>12.2f} ms\n"
      "arithmetic          {:>12.1f} GFLOP/s\n"
      "multiply-add peak   {:>12.1f} GFLOP/s in float\n"
      "share of the peak   {:>12.1f} %{}\n"
      "{}",
      subject.title(), options.tokens, options.exec.threads, b.tokens_per_s, options.repeats, b.median_tokens_per_s, b.ms, b.gflops_per_s,
      b.fma_peak_gflops_per_s, 100 * b.share_of_fma_peak(),
      subject.rounded_in_blocks ? ": of float's, though most products are in whole numbers, which have a higher one" : "", kernels_line()));
  print_output(operations_table(b.operations));
  if (o.json()) bench_json(subject, options, b).print();
  return 0;
}

}  // namespace glassformer::cli
