// How each symptom is measured. Legend: T tokens, V vocabulary.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "glassformer/learn/fault_rig.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer {
namespace {

constexpr Index kDraws = 2000;

Generation write(const Rig& rig, const std::string& prompt, bool cache, double temperature, std::uint64_t seed = 1) {
  GenerateOptions options = rig.writing;
  options.use_cache = cache, options.seed = seed, options.sampling.temperature = temperature;
  if (temperature > 0 && rig.drawing_trace) options.trace = rig.drawing_trace;
  return generate(rig.model, rig.tokenizer, prompt, options);
}

// A text that a model has no numbers for has no words either.
std::string written(const Rig& rig, bool cache = true, double temperature = 0) {
  try {
    return rig.prompt + write(rig, rig.prompt, cache, temperature).text;
  } catch (const std::invalid_argument& error) {
    return fmt::format("({})", error.what());
  }
}

void add_evaluation(const Rig& rig, Symptom& s) {
  const Loss loss = evaluate(rig, rig.val);
  s.readings.push_back({"loss on held-out text", loss.mean(), "nats"});
  s.readings.push_back({"right first choices", 100 * static_cast<double>(loss.correct) / static_cast<double>(loss.count), "%", 1});
}

double mean_of_last(const std::vector<StepReport>& steps, std::size_t n, double StepReport::*field) {
  const std::size_t count = std::min(n, steps.size());
  double sum = 0;
  for (std::size_t i = steps.size() - count; i < steps.size(); ++i) sum += steps[i].*field;
  return sum / static_cast<double>(count);
}

Symptom measure_training(Rig& rig) {
  Symptom s;
  const TrainingRun run = train(rig);
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const bool whole = run.stopped.empty(), any = !run.steps.empty();
  s.readings.push_back({"loss at the first step", any ? run.steps.front().loss_nats : nan, "nats"});
  s.readings.push_back({"loss, mean of the last 10 steps", whole ? mean_of_last(run.steps, 10, &StepReport::loss_nats) : nan, "nats"});
  s.readings.push_back({"gradient norm at the first step", any ? run.steps.front().gradient_norm : nan, ""});
  s.readings.push_back({"gradient norm, last 10 steps", whole ? mean_of_last(run.steps, 10, &StepReport::gradient_norm) : nan, ""});
  add_evaluation(rig, s);
  s.texts.emplace_back("after training it writes", written(rig));
  if (!whole) s.texts.emplace_back("training ended", run.stopped);
  return s;
}

Symptom measure_cache(const Rig& rig) {
  Symptom s;
  const Generation with = write(rig, rig.prompt, true, 0), without = write(rig, rig.prompt, false, 0);
  std::vector<Token> ids = without.prompt_ids;
  const Index prefill = static_cast<Index>(ids.size());
  ids.insert(ids.end(), without.ids.begin(), without.ids.end());
  ids.resize(std::min<std::size_t>(ids.size(), static_cast<std::size_t>(rig.model.config.context)));
  const Matrix<float> once = logits_at_once(rig, ids), steps = logits_by_cache(rig, ids, prefill);
  const Matrix<float> apart = (once - steps).cwiseAbs();
  const auto same = std::mismatch(with.text.begin(), with.text.end(), without.text.begin(), without.text.end()).first - with.text.begin();
  const bool equal = with.text == without.text;
  s.readings.push_back({"largest difference of logits, prompt", static_cast<double>(apart.topRows(prefill).maxCoeff()), "", 6});
  s.readings.push_back(
      {"the same, the tokens written after it", static_cast<double>(apart.bottomRows(apart.rows() - prefill).maxCoeff()), "", 6});
  s.readings.push_back({"bytes until the texts differ", equal ? static_cast<double>(without.text.size()) : static_cast<double>(same),
                        equal ? "(never)" : "", 0});
  add_evaluation(rig, s);
  s.texts.emplace_back("greedy, with the cache", rig.prompt + with.text);
  s.texts.emplace_back("greedy, without", rig.prompt + without.text);
  return s;
}

Symptom measure_adapter(Rig& rig) {
  require(rig.adapter != nullptr, "this symptom needs an adapter");
  Symptom s;
  const auto loss = [&] { return evaluate(rig, rig.other).mean(); };
  s.readings.push_back({"loss on the other text, no adapter", loss(), "nats"});
  attach(rig.model, *rig.adapter);
  if (rig.after_attach) rig.after_attach(rig.model);
  s.readings.push_back({"with the adapter attached", loss(), "nats"});
  const Arena<float> kept = merge(rig.model, *rig.adapter, rig.training.exec);
  s.readings.push_back({"with the adapter merged", loss(), "nats"});
  restore(rig.model, kept);
  return s;
}

Symptom measure_neighbours(const Rig& rig) {
  Symptom s;
  Rig alone = rig;
  alone.batch_documents = 1;
  const double together = evaluate(rig, rig.val).mean(), apart = evaluate(alone, rig.val).mean();
  s.readings.push_back({fmt::format("loss, {} documents a batch", rig.batch_documents), together, "nats"});
  s.readings.push_back({"loss of the same, one by one", apart, "nats"});
  s.readings.push_back({"difference", std::abs(together - apart), "nats", 6});
  return s;
}

// The documents of a text without their start tokens.
std::vector<std::string> texts_of(const Rig& rig, std::span<const Token> ids) {
  std::vector<std::string> all;
  const Token start = rig.model.config.bos;
  for (const Token t : ids) {
    if (t == start || all.empty()) all.emplace_back();
    if (t != start) all.back() += rig.tokenizer.token_bytes(t);
  }
  std::erase_if(all, [](const std::string& text) { return text.size() < 8; });
  return all;
}

Symptom measure_beginning(const Rig& rig) {
  Symptom s;
  double nats = 0, tokens = 0;
  for (const std::string& text : texts_of(rig, rig.val)) {
    const std::string prefix = text.substr(0, 1), rest = text.substr(1, 7);
    nats += continuation_nats(rig.model, rig.tokenizer, prefix, rest, rig.training.exec);
    tokens += static_cast<double>(rig.tokenizer.encode(rest).size());
  }
  s.readings.push_back({"loss of a text's letters 2 to 8", nats / tokens, "nats"});
  for (const char* prompt : {"m", "t"})
    s.texts.emplace_back(fmt::format("greedy after \"{}\"", prompt), prompt + write(rig, prompt, true, 0).text);
  return s;
}

// Draws of one token after a prompt whose continuation is open, against what the filters leave of the model's distribution.
Symptom measure_drawing(const Rig& rig) {
  Symptom s;
  const Generation begun = write(rig, "", true, 0);
  const Matrix<float> logits = logits_at_once(rig, begun.prompt_ids);
  const Distribution d = sampling_distribution({logits.row(logits.rows() - 1).data(), static_cast<std::size_t>(rig.tokenizer.vocab_size())},
                                               begun.prompt_ids, rig.writing.sampling);
  const auto best = std::max_element(d.probability.begin(), d.probability.end()) - d.probability.begin();
  GenerateOptions options = rig.writing;
  options.max_tokens = 1;
  if (rig.drawing_trace) options.trace = rig.drawing_trace;
  Index likeliest = 0, outside = 0;
  std::set<Token> different;
  for (Index i = 0; i < kDraws; ++i) {
    options.seed = static_cast<std::uint64_t>(i + 1);
    const Generation g = generate(rig.model, rig.tokenizer, "", options);
    const Token drawn = g.ids.empty() ? rig.model.config.eos : g.ids.front();
    likeliest += drawn == d.ids[static_cast<std::size_t>(best)];
    outside += std::find(d.ids.begin(), d.ids.end(), drawn) == d.ids.end();
    different.insert(drawn);
  }
  const auto share = [](Index n) { return 100 * static_cast<double>(n) / static_cast<double>(kDraws); };
  s.readings.push_back({"the likeliest first letter, by the filters", 100 * d.probability[static_cast<std::size_t>(best)], "%", 1});
  s.readings.push_back({fmt::format("how often it was drawn, of {}", kDraws), share(likeliest), "%", 1});
  s.readings.push_back({"letters drawn that the filters exclude", share(outside), "%", 1});
  s.readings.push_back({"different letters drawn", static_cast<double>(different.size()), "", 0});
  for (const std::uint64_t seed : {1, 2, 3}) {
    s.texts.emplace_back(fmt::format("sample {}", seed), write(rig, "", true, rig.writing.sampling.temperature, seed).text);
  }
  return s;
}

Symptom measure_repetition(const Rig& rig) {
  Symptom s;
  const double first = evaluate(rig, rig.val, 1).mean(), second = evaluate(rig, rig.val, 2).mean();
  s.readings.push_back({"loss on held-out text", first, "nats"});
  s.readings.push_back({"the same text, once more", second, "nats"});
  s.readings.push_back({"difference", std::abs(first - second), "nats", 6});
  return s;
}

}  // namespace

double Symptom::at(std::string_view name) const {
  std::string names;
  for (const ProbeReading& r : readings) {
    if (r.name == name) return r.value;
    names += (names.empty() ? "" : ", ") + r.name;
  }
  require(false, "symptom: expected a reading of {}, found {}", names, name);
  return 0;
}

Symptom measure(Rig& rig, Probe probe) {
  switch (probe) {
    case Probe::training:
      return measure_training(rig);
    case Probe::cache:
      return measure_cache(rig);
    case Probe::adapter:
      return measure_adapter(rig);
    case Probe::neighbours:
      return measure_neighbours(rig);
    case Probe::beginning:
      return measure_beginning(rig);
    case Probe::drawing:
      return measure_drawing(rig);
    case Probe::repetition:
      return measure_repetition(rig);
    case Probe::evaluation:
      break;
  }
  Symptom s;
  add_evaluation(rig, s);
  s.texts.emplace_back("greedy", written(rig));
  return s;
}

}  // namespace glassformer
