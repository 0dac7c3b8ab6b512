// sample: text from a model.
#include <fmt/ranges.h>

#include <cmath>

#include "cli/explain.hpp"
#include "cli/json_line.hpp"
#include "cli/model_options.hpp"
#include "cli/options.hpp"
#include "cli/sampling_options.hpp"
#include "cli/terminal.hpp"
#include "cli/what_if.hpp"
#include "glassformer/sample/generate.hpp"

namespace glassformer::cli {
namespace {

Options declare() {
  Options o("sample", "Writes text with a model, token by token, to standard output.");
  o.path("model", "DIR", "model directory, or a llama2.c .bin file", required);
  declare_adapters(o);
  o.list("mix", "W,W,…", "how much of each adapter, in place of its weight: of all prompts, or of each its own");
  o.list("prompt", "TEXT", "text to continue; empty: from the start token; several are continued together");
  o.integer("max-tokens", 200, 1, "tokens to write, at most");
  o.list("stop", "TEXT", "end before this text");
  declare_sampling(o);
  o.group("Drafting");
  o.path("draft", "DIR", "a smaller model with the same tokenizer: it drafts tokens, which the model then checks in one pass");
  o.integer("draft-tokens", 4, 1, "tokens to draft before each pass, at most");
  o.flag("draft-speedup",
         "also write it without the draft, and tell how much faster drafting was; the text is then printed when it is done");
  o.group("Memory");
  o.flag("no-cache", "read everything again for each token, without the KV cache: the same text, more slowly");
  o.choice("kv-cache", {"f32", "int8"}, "numbers of the KV cache: in 32 bits, or in 8 with one scale a token and head", "f32");
  o.choice("past-context", {"slide", "stop"}, "when the context is full: forget the oldest, or end", "slide");
  declare_stretch(o, true);
  declare_what_if(o);
  o.common(kSeed | kThreads | kKernels | kActivations | kJson);
  o.example("glassformer sample --model model --prompt \"Once upon a time\" --temperature 0.7 --top-k 40");
  o.example("glassformer sample --model model --prompt \"Once upon a time\" --ablate 1.3");
  o.example("glassformer sample --model model --prompt \"Once upon a time\" --context 1024 --rope-scaling ntk");
  o.example("glassformer sample --model model --draft DIR --draft-tokens 6 --draft-speedup --prompt \"Once upon a time\"");
  o.example("glassformer sample --model model --adapter adapter --prompt \"Customer:\" --mix 0 --mix 0.5 --mix 1");
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
  require_usage(o.given("draft") || !(o.given("draft-tokens") || o.is_set("draft-speedup")),
                "expected --draft DIR beside --draft-tokens and --draft-speedup");
  require_usage(g.use_cache || !o.given("draft"), "--draft: expected no --no-cache: a draft that is not taken is cut off the cache");
  g.draft_tokens = o.integer("draft-tokens");
  return g;
}

// The model that drafts, or none. Its tokens must be the model's: it reads and writes ids.
std::optional<ModelFiles> load_draft(const Options& o, const Tokenizer& tokenizer) {
  if (!o.given("draft")) return std::nullopt;
  ModelFiles draft = checked(load_model(o.text("draft")));
  const auto expect = [&](bool same, const std::string& found) {
    if (!same)
      throw Failure(fmt::format("{}: expected a model with the tokenizer of {}, found {}", o.text("draft"), o.text("model"), found));
  };
  const Index tokens = tokenizer.vocab_size();
  expect(draft.tokenizer.vocab_size() == tokens, fmt::format("one of {} tokens in place of {}", draft.tokenizer.vocab_size(), tokens));
  for (Token t = 0; t < static_cast<Token>(tokens); ++t)
    expect(draft.tokenizer.token_bytes(t) == tokenizer.token_bytes(t), fmt::format("one whose token {} is another", t));
  return draft;
}

// What is to be written: each prompt with its row of the mix, which has no columns when none was given.
struct Requests {
  std::vector<std::string> prompts;
  Matrix<float> mix;
};
Requests requests(const Options& o, Index adapters) {
  Requests r{o.texts("prompt"), {}};
  if (r.prompts.empty()) r.prompts.emplace_back();
  const std::vector<std::string> mixes = o.texts("mix");
  if (mixes.empty()) return r;
  require_usage(adapters > 0, "--mix: expected --adapter beside it, found none");
  require_usage(mixes.size() == 1 || r.prompts.size() == 1 || mixes.size() == r.prompts.size(),
                "--mix: expected one, or one for each of the {} prompts, found {}", r.prompts.size(), mixes.size());
  r.prompts.resize(std::max(mixes.size(), r.prompts.size()), r.prompts.front());
  r.mix.resize(static_cast<Index>(r.prompts.size()), adapters);
  for (Index s = 0; s < r.mix.rows(); ++s) {
    const std::string& text = mixes[mixes.size() == 1 ? 0 : static_cast<std::size_t>(s)];
    std::size_t begin = 0;
    Index found = 0;
    for (; begin <= text.size(); ++found) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      const auto weight = number<double>(std::string_view(text).substr(begin, end - begin));
      require_usage(weight && std::isfinite(static_cast<float>(*weight)),
                    "--mix: expected finite numbers with commas between them, found {}", text);
      if (found < adapters) r.mix(s, found) = static_cast<float>(*weight);
      begin = end + 1;
    }
    require_usage(found == adapters, "--mix: expected a number for each of {} adapters, found {}", adapters, text);
  }
  return r;
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

void tell_generation(const Generation& g, const GenerateOptions& options) {
  for (const std::string& note : g.notes) fmt::print(stderr, "note: {}\n", note);
  fmt::print(stderr, "{} tokens ({}), {} tokens/s, prompt of {} read in {:.1f} ms{}\n", g.ids.size(),
             g.stopped_by == "length" ? "as many as asked" : "ended by " + g.stopped_by, grouped(static_cast<long long>(g.tokens_per_s())),
             g.prompt_ids.size(), g.prefill_ms,
             !options.use_cache                      ? ", without the cache"
             : options.cache_kind == CacheKind::int8 ? ", cached in 8 bits"
                                                     : "");
  if (options.draft)
    fmt::print(stderr, "{} of {} drafted tokens accepted ({:.1f}%), {} passes of the model\n", g.accepted, g.drafted,
               100 * g.acceptance_rate(), g.decode_steps);
}

JsonLine json_of(const std::string& prompt, const Generation& g, const GenerateOptions& options) {
  JsonLine json;
  json.add("prompt", std::string_view(prompt))
      .add("text", std::string_view(valid_utf8(g.text)))
      .add("ids", std::span<const Token>(g.ids))
      .add("prompt_tokens", static_cast<Index>(g.prompt_ids.size()))
      .add("stopped_by", std::string_view(g.stopped_by))
      .add("tokens_per_s", g.tokens_per_s())
      .add("prefill_ms", g.prefill_ms);
  if (options.draft)
    json.add("drafted", g.drafted).add("accepted", g.accepted).add("acceptance_rate", g.acceptance_rate()).add("passes", g.decode_steps);
  return json;
}

// Of all texts together, which are as fast as the slowest.
double tokens_per_s(std::span<const Generation> all) {
  double tokens = 0, ms = 0;
  for (const Generation& g : all) tokens += static_cast<double>(g.decode_steps + g.accepted), ms = std::max(ms, g.decode_ms);
  return ms > 0 ? tokens / ms * 1e3 : 0;
}

// Where asked for: the same texts without the draft, unseen. How much faster they were with it.
void tell_speedup(const Options& o, const ModelFiles& files, const std::vector<std::string>& prompts, GenerateOptions options, double with,
                  JsonLine& json) {
  if (!o.is_set("draft-speedup")) return;
  options.draft = nullptr, options.on_text = {};
  const double without = tokens_per_s(generate_batch(files.decoder, files.tokenizer, prompts, options)),
               speedup = without > 0 ? with / without : 0;
  fmt::print(stderr, "without the draft {} tokens/s: drafting is {:.2f} times as fast\n", grouped(static_cast<long long>(without)),
             speedup);
  json.add("plain_tokens_per_s", without).add("speedup", speedup);
}

// As it is drawn, or where drafting is timed when it is done: the text without the draft is not printed either.
void write_one(const Options& o, const ModelFiles& files, const std::string& prompt, GenerateOptions options) {
  const bool at_once = o.is_set("draft-speedup");
  if (!o.json()) print_output(prompt);
  if (!o.json() && !at_once) {
    options.on_text = [](std::string_view piece) {
      print_output(piece);
      flush_output();
    };
  }
  const Generation g = generate(files.decoder, files.tokenizer, prompt, options);
  if (!o.json()) print_output(at_once ? valid_utf8(g.text) + "\n" : "\n"), flush_output();
  tell_generation(g, options);
  JsonLine json = json_of(prompt, g, options);
  tell_speedup(o, files, {prompt}, options, g.tokens_per_s(), json);
  if (o.json()) json.print();
}

// One after the other, when all are done: they are drawn together.
void write_several(const Options& o, const ModelFiles& files, const std::vector<std::string>& prompts, const GenerateOptions& options) {
  const std::vector<Generation> all = generate_batch(files.decoder, files.tokenizer, prompts, options);
  JsonLine json;
  for (std::size_t s = 0; s < all.size(); ++s) {
    const std::string title =
        fmt::format("{} of {}{}", s + 1, all.size(),
                    options.mix.size() > 0 ? fmt::format(", mix {:g}", fmt::join(options.mix.row(static_cast<Index>(s)), ",")) : "");
    if (!o.json()) print_output(fmt::format("--- {}\n{}{}\n", title, prompts[s], valid_utf8(all[s].text)));
    fmt::print(stderr, "{}: ", title);
    tell_generation(all[s], options);
    JsonLine sample = json_of(prompts[s], all[s], options);
    if (options.mix.size() > 0) sample.add("mix", Vector<double>(options.mix.row(static_cast<Index>(s)).cast<double>()));
    json.push("samples", std::move(sample));
  }
  json.add("tokens_per_s", tokens_per_s(all));
  tell_speedup(o, files, prompts, options, tokens_per_s(all), json);
  if (o.json()) json.print();
}

}  // namespace

int sample_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  GenerateOptions options = generate_options(o);
  const WhatIf what = what_if(o);
  Requests wanted = requests(o, static_cast<Index>(o.texts("adapter").size()));
  require_usage(what.empty() || (wanted.prompts.size() == 1 && wanted.mix.size() == 0), "expected one --prompt and no --mix for a what-if");
  require_usage(what.empty() || !o.given("draft"), "expected no --draft for a what-if");
  options.mix = std::move(wanted.mix);
  AdaptedModel files = load_adapted_model(o);
  stretch_model(o, files.decoder);
  const std::optional<ModelFiles> draft = load_draft(o, files.tokenizer);
  if (draft) files.warnings.insert(files.warnings.end(), draft->warnings.begin(), draft->warnings.end());
  for (const std::string& warning : files.warnings) fmt::print(stderr, "note: {}\n", warning);
  rounds_activations(o, files.decoder, o.text("model"));
  if (draft) rounds_activations(o, draft->decoder, o.text("draft"));
  if (!what.empty()) {
    print_story(o, what_if_story(files.decoder, files.tokenizer, wanted.prompts.front(), what, options));
    return 0;
  }
  fmt::print(stderr, "{}\n", files.description);
  if (draft) {
    fmt::print(stderr, "draft: {}\n", draft->description);
    options.draft = &draft->decoder;
  }
  tell_loss(files.metadata);
  for (const std::string& prompt : wanted.prompts)
    (void)files.tokenizer.encode(prompt);  // throws before anything is printed when the tokenizer lacks a character
  if (wanted.prompts.size() == 1) {
    write_one(o, files, wanted.prompts.front(), options);
  } else {
    write_several(o, files, wanted.prompts, options);
  }
  return 0;
}

}  // namespace glassformer::cli
