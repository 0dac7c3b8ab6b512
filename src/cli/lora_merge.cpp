// lora merge
#include <fmt/ranges.h>

#include <cmath>
#include <set>

#include "cli/json_line.hpp"
#include "cli/lora.hpp"
#include "cli/model_options.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/score/compare.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer::cli {
namespace {

Options declare() {
  Options o("lora merge", "Adds adapters to a model's weights: a plain model that computes the same.");
  o.path("model", "DIR", "the base model", required);
  declare_adapters(o);
  o.path("out", "DIR", "directory to write", required);
  o.flag("overwrite", "replace a model in DIR");
  o.choice(
      "into", {"f32", "q8_0", "q4_0", "int4", "nf4"},
      "type of the merged matrices; f32 unless given, but for a quantized base it must be said: f32 is what it computes with, another type "
      "rounds the sum, and what that costs is told");
  declare_text_source(o);
  o.common(kSeed | kThreads | kJson);
  o.example("glassformer lora merge --model model --adapter adapter --out merged");
  o.example(
      "glassformer lora merge --model model-nf4 --adapter qlora --into nf4 --corpus support --corpus-bytes 50K --seed 99 --out merged-nf4");
  return o;
}

void check_mergeable(const Options& o, const AdaptedModel& m) {
  for (const std::string& adapter : m.names) require_apart(o.text("out"), adapter);
  require_usage(!m.adapters.empty(), "expected --adapter DIR; see glassformer lora merge --help");
  for (std::size_t i = 0; i < m.adapters.size(); ++i) {
    const Adapter<float>& a = m.adapters[i].adapter;
    if (a.prompt_tokens() > 0)
      throw Failure(fmt::format(
          "{}: expected an adapter of the weights, found a soft prompt: it stands before the text and cannot be merged", m.names[i]));
    if (a.config.dora && m.adapters.size() > 1)
      throw Failure(fmt::format("{}: expected LoRA, found DoRA, whose change depends on the weights: merge it alone", m.names[i]));
  }
  if (const auto types = quantize_types(m.decoder); types && !o.given("into")) {
    throw Failure(fmt::format(
        "{}: expected a model in floating point, found one in {}; give --into f32 (larger, exact) or --into q8_0, q4_0, int4 or nf4 "
        "(the sum is rounded again, and what that costs is told)",
        o.text("model"), quantize_types_name(*types)));
  }
}

// How far rounding moved the matrices that the adapters change, and how far the adapters themselves had: ‖difference‖/‖W‖ over all of them.
struct Moved {
  double by_rounding = 0, by_adapters = 0;
};
Moved moved(const Decoder<float>& base, const Decoder<float>& merged, const Decoder<float>& rounded, const AdaptedModel& m) {
  std::set<std::string> names;
  for (const AdapterFiles& files : m.adapters) {
    for (const AdapterTarget& t : files.adapter.targets) names.insert(t.tensor());
  }
  const auto values = [](const Decoder<float>& d, const std::string& name) -> Matrix<float> {
    const auto at = d.quantized.find(name);
    if (at == d.quantized.end()) return *d.arena.view(name);
    Matrix<float> x(at->second->rows, at->second->cols);
    dequantize<float>(*at->second, 0, x);
    return x;
  };
  double rounding = 0, adapters = 0, size = 0;
  for (const std::string& name : names) {
    const auto w = *merged.arena.view(name);
    rounding += (values(rounded, name) - w).squaredNorm(), adapters += (values(base, name) - w).squaredNorm(), size += w.squaredNorm();
  }
  return {std::sqrt(rounding / size), std::sqrt(adapters / size)};
}

void require_finite(const Decoder<float>& merged, const AdaptedModel& m) {
  for (std::size_t i = 0; i < m.adapters.size(); ++i) {
    for (const AdapterTarget& t : m.adapters[i].adapter.targets) {
      if (!(*merged.arena.view(t.tensor())).allFinite())
        throw Failure(fmt::format("{}: expected a merged {} of finite numbers, found others", m.names[i], t.tensor()));
    }
  }
}

ModelComparison compared(const Options& o, const AdaptedModel& unmerged, const Decoder<float>& merged) {
  const ModelConfig& c = unmerged.decoder.config;
  const TextSource source = read_text_source(o, o.seed());
  const std::vector<Token> ids = tokens_to_score(unmerged.tokenizer, source, c);
  const ModelComparison found = compare_models(unmerged.decoder, merged, scoring_batches(ids, c.context, document_separator(c)), o.exec());
  fmt::print(
      stderr,
      "{}: perplexity {:.3f} unmerged, {:.3f} merged, ratio {:.5f}; mean KL {:.3g} nats; the first choice agrees at {:.2f}% of {} tokens\n",
      source.name, std::exp(found.base_loss_nats), std::exp(found.loss_nats), found.perplexity_ratio, found.mean_kl_nats,
      100 * found.top1_agreement, grouped(found.tokens));
  return found;
}

}  // namespace

int lora_merge_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  require_free(o.text("out"), o.is_set("overwrite"));
  require_apart(o.text("out"), o.text("model"));
  AdaptedModel unmerged = load_adapted_model(o);
  for (const std::string& warning : unmerged.warnings) fmt::print(stderr, "note: {}\n", warning);
  check_mergeable(o, unmerged);

  const std::string into = o.given("into") ? o.text("into") : "f32";
  Decoder<float> merged = dequantize_decoder(unmerged.decoder);  // a copy in floating point, nothing attached
  for (std::size_t i = 0; i < unmerged.adapters.size(); ++i) merge(merged, unmerged.adapters[i].adapter, o.exec(), unmerged.weights[i]);
  require_finite(merged, unmerged);
  JsonLine json;
  json.add("model", std::string_view(o.text("out"))).add("parameters", decoder_parameters(merged)).add("type", std::string_view(into));
  const bool rounds = into != "f32";
  if (rounds) {
    Decoder<float> rounded = quantize_decoder(merged, QuantizeTypes::all(checked(quantized_named(into))), o.exec());
    if (rounded.quantized.empty())
      throw Failure(fmt::format("{}: expected a matrix whose rows are a multiple of {}'s block, found none: nothing would be rounded",
                                o.text("model"), into));
    const Moved m = moved(unmerged.decoder, merged, rounded, unmerged);
    fmt::print(stderr, "rounding to {} moves the merged matrices by {:.2f}% of their size; the adapter had moved them by {:.2f}%\n", into,
               100 * m.by_rounding, 100 * m.by_adapters);
    json.add("relative_rmse", m.by_rounding).add("relative_change", m.by_adapters);
    merged = std::move(rounded);
  }
  if (o.given("data") || o.given("corpus")) {
    const ModelComparison c = compared(o, unmerged, merged);
    json.add("tokens", c.tokens)
        .add("perplexity_ratio", c.perplexity_ratio)
        .add("mean_kl_nats", c.mean_kl_nats)
        .add("top1_agreement", c.top1_agreement);
  } else if (rounds) {
    fmt::print(stderr, "note: what it costs on a text is told with --data FILE or --corpus stories|support\n");
  }
  checked(save_model(o.text("out"), merged, unmerged.tokenizer));
  fmt::print(stderr, "{} with {} in it: {}\n", o.text("model"), fmt::join(unmerged.names, " and "), o.text("out"));
  if (o.json()) json.add("bytes", decoder_bytes(merged)).print();
  return 0;
}

}  // namespace glassformer::cli
