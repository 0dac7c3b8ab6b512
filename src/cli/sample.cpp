// sample: text from a model.
#include "cli/explain.hpp"
#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/options.hpp"
#include "cli/sampling_options.hpp"
#include "cli/terminal.hpp"
#include "cli/what_if.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/sample/generate.hpp"

namespace glassformer::cli {
namespace {

Options declare() {
  Options o("sample", "Writes text with a model, token by token, to standard output.");
  o.path("model", "DIR", "model directory, or a llama2.c .bin file", required);
  o.path("adapter", "DIR", "LoRA adapter to put on it");
  o.text("prompt", "TEXT", "text to continue; empty: from the start token");
  o.integer("max-tokens", 200, 1, "tokens to write, at most");
  o.list("stop", "TEXT", "end before this text");
  declare_sampling(o);
  o.group("Memory");
  o.flag("no-cache", "read everything again for each token, without the KV cache: the same text, more slowly");
  o.choice("kv-cache", {"f32", "int8"}, "numbers of the KV cache: in 32 bits, or in 8 with one scale a token and head", "f32");
  o.choice("past-context", {"slide", "stop"}, "when the context is full: forget the oldest, or end", "slide");
  declare_stretch(o, true);
  declare_what_if(o);
  o.common(kSeed | kThreads | kKernels | kJson);
  o.example("glassformer sample --model model --prompt \"Once upon a time\" --temperature 0.7 --top-k 40");
  o.example("glassformer sample --model model --prompt \"Once upon a time\" --ablate 1.3");
  o.example("glassformer sample --model model --prompt \"Once upon a time\" --context 1024 --rope-scaling ntk");
  return o;
}

GenerateOptions generate_options(const Options& o) {
  GenerateOptions g;
  g.sampling = sampling_options(o);
  g.max_tokens = o.integer("max-tokens");
  g.stop = o.texts("stop");
  for (const std::string& s : g.stop) require_usage(!s.empty(), "--stop: expected a text, found an empty one");
  g.seed = o.seed();
  g.use_cache = !o.is_set("no-cache");
  require_usage(g.use_cache || !o.given("kv-cache"), "--kv-cache: expected no --no-cache: then there is no cache");
  g.cache_kind = o.text("kv-cache") == "int8" ? CacheKind::int8 : CacheKind::floating;
  g.past_context = o.text("past-context") == "stop" ? PastContext::stop : PastContext::slide;
  g.exec = o.exec();
  return g;
}

// Is this text as good as it gets? What the model reached when it was saved.
void tell_loss(const Metadata& metadata) {
  const auto get = [&](const char* key) {
    const auto at = metadata.find(key);
    return at == metadata.end() ? std::string() : at->second;
  };
  const std::string loss = get("glassformer.val_loss_nats");
  if (loss.empty()) return;
  fmt::print(stderr, "validation loss when saved, at step {}: {} nats per token, {} bits per byte", get("glassformer.step"), loss,
             get("glassformer.val_bits_per_byte"));
  if (const std::string source = get("glassformer.source_bits_per_byte"); !source.empty())
    fmt::print(stderr, " (its source has {})", source);
  fmt::print(stderr, "\n");
}

}  // namespace

int sample_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  GenerateOptions options = generate_options(o);
  const WhatIf what = what_if(o);
  ModelFiles files = checked(load_model(o.text("model")));
  std::optional<AdapterFiles> adapter;
  if (o.given("adapter")) {
    adapter = checked(load_adapter(o.text("adapter"), files.decoder));
    attach(files.decoder, adapter->adapter);
    files.warnings.insert(files.warnings.end(), adapter->warnings.begin(), adapter->warnings.end());
  }
  stretch_model(o, files.decoder);
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  if (!what.empty()) {
    print_story(o, what_if_story(files.decoder, files.tokenizer, o.text("prompt"), what, options));
    return 0;
  }
  fmt::print(stderr, "{}\n", files.description);
  tell_loss(files.metadata);

  const std::string prompt = o.text("prompt");
  (void)files.tokenizer.encode(prompt);  // throws before anything is printed when the tokenizer lacks a character of it
  if (!o.json()) {
    print_output(prompt);
    options.on_text = [](std::string_view piece) {
      print_output(piece);
      flush_output();
    };
  }
  const Generation g = generate(files.decoder, files.tokenizer, prompt, options);
  if (!o.json()) print_output("\n"), flush_output();
  for (const std::string& note : g.notes) fmt::print(stderr, "note: {}\n", note);
  fmt::print(stderr, "{} tokens ({}), {} tokens/s, prompt of {} read in {:.1f} ms{}\n", g.ids.size(),
             g.stopped_by == "length" ? "as many as asked" : "ended by " + g.stopped_by, grouped(static_cast<long long>(g.tokens_per_s())),
             g.prompt_ids.size(), g.prefill_ms, !options.use_cache                          ? ", without the cache"
             : options.cache_kind == CacheKind::int8 ? ", cached in 8 bits"
                                                     : "");
  if (o.json()) {
    JsonLine()
        .add("prompt", std::string_view(prompt))
        .add("text", std::string_view(valid_utf8(g.text)))
        .add("ids", std::span<const Token>(g.ids))
        .add("prompt_tokens", static_cast<Index>(g.prompt_ids.size()))
        .add("stopped_by", std::string_view(g.stopped_by))
        .add("tokens_per_s", g.tokens_per_s())
        .add("prefill_ms", g.prefill_ms)
        .print();
  }
  return 0;
}

}  // namespace glassformer::cli
