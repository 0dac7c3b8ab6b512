// lora inspect
#include <algorithm>
#include <cmath>

#include "cli/json_line.hpp"
#include "cli/lora.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/explain/change.hpp"
#include "glassformer/explain/lora.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/plot/chart.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer::cli {
namespace {

constexpr double kEnergy = 0.9;
constexpr Index kBars = 16;  // singular values that are drawn
constexpr Index kWidth = 100;

std::string percent(double share) {
  return share < 0.0001 && share > 0 ? fmt::format("{:.1e}%", 100 * share) : fmt::format("{:.2f}%", 100 * share);
}

// σ₁ … σ₁₆ over σ₁, a column each; one that is not zero is seen.
std::string bars(const Vector<double>& values) {
  static constexpr const char* kEighths[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string text;
  for (Index i = 0; i < std::min(kBars, values.size()); ++i) {
    const double share = values[0] > 0 ? values[i] / values[0] : 0;
    text += kEighths[share > 1e-6 ? std::max<Index>(1, static_cast<Index>(std::lround(8 * share))) : 0];
  }
  return text;
}

// "model      …", in lines that fit.
std::string labelled(std::string_view label, std::string_view text) {
  std::string out;
  for (const std::string& line : plot::wrap(text, kWidth - 11)) {
    out += fmt::format("{}{}\n", plot::pad_right(out.empty() ? label : "", 11), line);
  }
  return out;
}

std::string table_of(std::span<const MatrixChange> matrices) {
  const bool adapter = std::ranges::any_of(matrices, [](const MatrixChange& m) { return m.rank > 0; });
  std::string text = fmt::format("{}{:>14}{:>7}{}{:>8}{:>8}{:>10}   {}\n", plot::pad_right("matrix", 22), "shape", adapter ? "rank" : "",
                                 plot::pad_left("‖ΔW‖/‖W‖", 11), "eff.", "90% in", "largest", "singular values");
  for (const MatrixChange& m : matrices) {
    text += fmt::format("{}{:>14}{:>7}{:>11}{:>8.1f}{:>8}{:>10.4g}   {}\n", plot::pad_right(m.name, 22),
                        fmt::format("[{}, {}]", m.rows, m.inputs), m.rank > 0 ? fmt::format("{}", m.rank) : "", percent(m.ratio()),
                        effective_rank(m.singular_values), energy_rank(m.singular_values, kEnergy),
                        m.singular_values.size() > 0 ? m.singular_values[0] : 0.0, bars(m.singular_values));
  }
  const std::string note =
      "‖ΔW‖/‖W‖: the change beside the weight (Frobenius norms). eff.: the effective rank of ΔW, exp of the entropy of σ/Σσ over its "
      "singular values σ (Roy & "
      "Vetterli 2007): how many directions are used. 90% in: how many of the largest hold 90% of the energy Σσ². The bars are the 16 "
      "largest, over the largest.";
  text += "\n";
  for (const std::string& line : plot::wrap(note, kWidth - 4, "")) text += fmt::format("{}\n", line);
  return text;
}

std::string layers_of(std::span<const MatrixChange> matrices) {
  plot::Chart chart;
  chart.kind = plot::Chart::Kind::bars;
  chart.title = "How far each layer moved: ‖ΔW‖/‖W‖ over its matrices in the table, in %";
  chart.series = {{"", {}}};
  for (const LayerChange& layer : layer_changes(matrices)) {
    chart.names.push_back(layer.name);
    chart.series[0].y.push_back(100 * layer.ratio);
  }
  return plot::chart(chart, {.width = 80, .height = 14, .decimals = 3, .indent = ""});
}

void add_matrices(JsonLine& json, std::span<const MatrixChange> matrices) {
  for (const MatrixChange& m : matrices) {
    JsonLine line;
    line.add("name", std::string_view(m.name)).add("rows", m.rows).add("inputs", m.inputs);
    if (m.rank > 0) line.add("rank", m.rank).add("scale", m.scale);
    line.add("change_norm", m.change_norm()).add("weight_norm", m.weight_norm).add("ratio", m.ratio());
    line.add("effective_rank", effective_rank(m.singular_values)).add("energy_90_rank", energy_rank(m.singular_values, kEnergy));
    line.add("singular_values", m.singular_values);
    json.push("targets", std::move(line));
  }
  for (const LayerChange& layer : layer_changes(matrices))
    json.push("layers", JsonLine().add("name", std::string_view(layer.name)).add("ratio", layer.ratio));
}

// What is shown: the object for --json, and the text.
struct Report {
  JsonLine json;
  std::string text;
};

void notes(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) fmt::print(stderr, "note: {}\n", warning);
}

std::string kind_of(const LoraConfig& c) {
  return c.dora ? (c.rank_stabilized ? "DoRA, scaled as rsLoRA" : "DoRA") : c.rank_stabilized ? "rsLoRA" : "LoRA";
}

Report inspect_adapter(const ModelFiles& base, const Adapter<float>& adapter, const Exec& exec) {
  const LoraConfig& c = adapter.config;
  const Index parameters = adapter.arena.layout().parameters(), all = decoder_parameters(base.decoder);
  const double share = static_cast<double>(parameters) / static_cast<double>(all);
  const std::vector<MatrixChange> matrices = adapter_changes(base.decoder, adapter, exec);
  Report r;
  r.json.add("kind", c.dora ? "dora" : "lora").add("rank", c.rank).add("alpha", c.alpha).add("scale", c.scale()).add("dropout", c.dropout);
  r.json.add("rank_stabilized", c.rank_stabilized).add("parameters", parameters).add("share", share);
  add_matrices(r.json, matrices);
  const bool patterns = !c.rank_pattern.empty() || !c.alpha_pattern.empty();
  r.text = fmt::format("{}adapter    {} of rank {}, alpha {:g}, scale {:g}{}\ntrained    {} of {} parameters, {}\n\n",
                       labelled("model", base.description), kind_of(c), c.rank, c.alpha, c.scale(),
                       patterns ? "; others for some matrices" : "", grouped(parameters), grouped(all), percent(share));
  r.text += fmt::format("{}\n{}", table_of(matrices), layers_of(matrices));
  return r;
}

Report inspect_prompt(const ModelFiles& base, const Adapter<float>& adapter) {
  const Index parameters = adapter.arena.layout().parameters(), all = decoder_parameters(base.decoder);
  const double share = static_cast<double>(parameters) / static_cast<double>(all);
  const auto shown = [&](Token id) { return id < base.tokenizer.vocab_size() ? base.tokenizer.decode({{id}}) : std::string("?"); };
  Report r;
  r.json.add("kind", "soft-prompt").add("prompt_tokens", adapter.prompt_tokens()).add("parameters", parameters).add("share", share);
  r.text = fmt::format("{}adapter    a soft prompt of {} tokens\ntrained    {} of {} parameters, {}\n\n",
                       labelled("model", base.description), adapter.prompt_tokens(), grouped(parameters), grouped(all), percent(share));
  r.text += fmt::format("{:>5}{:>10}   {}\n", "row", "length", "nearest tokens, with their cosines");
  Index row = 0;
  for (const PromptRow& p : prompt_neighbours(base.decoder, adapter)) {
    JsonLine line;
    line.add("row", row).add("length_ratio", p.norm);
    std::string nearest;
    for (std::size_t i = 0; i < p.nearest.size(); ++i) {
      const std::string token = shown(p.nearest[i]);
      line.push("nearest",
                JsonLine().add("id", static_cast<Index>(p.nearest[i])).add("token", std::string_view(token)).add("cosine", p.cosines[i]));
      nearest += fmt::format("   {} {}", plot::pad_left(plot::fit(plot::visible(token), 18), 18), plot::number(p.cosines[i], 2));
    }
    r.text += fmt::format("{:>5}{:>10.2f}{}\n", row, p.norm, nearest);
    r.json.push("rows", std::move(line));
    ++row;
  }
  r.text +=
      "\nlength: of the row, over the mean of the vocabulary's embeddings. A cosine near 1 is a token that the model has\nread before; "
      "trained rows need not be near any.\n";
  return r;
}

Report inspect_tuned(const ModelFiles& base, const ModelFiles& tuned, const Exec& exec) {
  const ModelChange change = model_change(base.decoder, tuned.decoder, exec);
  const Index all = decoder_parameters(base.decoder);
  const double share = static_cast<double>(change.changed_parameters) / static_cast<double>(all);
  Report r;
  r.json.add("kind", "full").add("parameters", change.changed_parameters).add("share", share).add("vector_ratio", change.vector_ratio);
  add_matrices(r.json, change.matrices);
  r.text = fmt::format("{}{}changed    tensors with {} of {} parameters, {}; gains and biases by {}\n\n",
                       labelled("model", base.description), labelled("tuned", tuned.description), grouped(change.changed_parameters),
                       grouped(all), percent(share), percent(change.vector_ratio));
  r.text += fmt::format("{}\n{}", table_of(change.matrices), layers_of(change.matrices));
  return r;
}

}  // namespace

int lora_inspect_command(Arguments arguments) {
  Options o("lora inspect", "Shows what training changed: how far each matrix and layer moved, and in how many directions.");
  o.path("model", "DIR", "the base model", required);
  o.path("adapter", "DIR", "its adapter, or a soft prompt");
  o.path("tuned", "DIR", "instead of --adapter: the model after training it as a whole");
  o.common(kThreads | kJson);
  o.example("glassformer lora inspect --model model --adapter adapter");
  o.example("glassformer lora train --model model --corpus support --method full --out adapted");
  o.example("glassformer lora inspect --model model --tuned adapted");
  if (!o.parse(arguments)) return 0;
  require_usage(o.given("adapter") != o.given("tuned"), "expected either --adapter DIR or --tuned DIR, found {}",
                o.given("adapter") ? "both" : "none");
  const ModelFiles base = checked(load_model(o.text("model")));
  notes(base.warnings);
  Report report;
  if (o.given("adapter")) {
    const AdapterFiles files = checked(load_adapter(o.text("adapter"), base.decoder));
    notes(files.warnings);
    report = files.adapter.prompt_tokens() > 0 ? inspect_prompt(base, files.adapter) : inspect_adapter(base, files.adapter, o.exec());
  } else {
    const ModelFiles tuned = checked(load_model(o.text("tuned")));
    notes(tuned.warnings);
    report = inspect_tuned(base, tuned, o.exec());
  }
  if (o.json()) {
    report.json.print();
  } else {
    print_output(report.text);
  }
  return 0;
}

}  // namespace glassformer::cli
