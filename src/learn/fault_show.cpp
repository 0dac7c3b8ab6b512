// What a session shows of its engine.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "glassformer/explain/gradient_check.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/plot/text.hpp"
#include "learn/fault_state.hpp"

namespace glassformer {
namespace {

using plot::number;

double rms_of(const Matrix<float>& x) {  // of what is finite: a masked score is −∞
  double sum = 0, count = 0;
  for (Index i = 0; i < x.size(); ++i) {
    const double value = static_cast<double>(x.data()[i]);
    if (!std::isinf(value)) sum += value * value, count += 1;
  }
  return count > 0 ? std::sqrt(sum / count) : 0;
}

std::map<std::string, double> rms_of(const Album& album) {
  std::map<std::string, std::pair<double, double>> sums;
  for (const auto& [site, value] : album.values()) {
    const double rms = rms_of(value);
    sums[site.name].first += rms * rms, sums[site.name].second += 1;
  }
  std::map<std::string, double> all;
  for (const auto& [name, sum] : sums) all[name] = std::sqrt(sum.first / sum.second);
  return all;
}

// Four significant digits: values of a pass span many sizes.
std::string shown(double x) { return std::isfinite(x) ? fmt::format("{:.4g}", x) : number(x); }

}  // namespace

void FaultSession::State::keep_log() {
  const Arena<float> weights = rig.model.arena.clone();
  if (fault.probe == Probe::training) log.run = glassformer::train(rig);
  log.symptom = measure(rig, fault.probe);
  evaluate(rig, rig.val, 0, &log.by_place);
  log.rms[0] = rms_of(look_at(rig, fault.probe, false, 0).album);
  log.rms[1] = rms_of(look_at(rig, fault.probe, true, 0).album);
  restore(rig.model, weights);
}

std::string FaultSession::State::tell_symptom() const {
  std::string all = wrapped(fault.symptom) + "\n" + fmt::format("{:<48}{:>14}{:>16}\n", "", "healthy", "this engine");
  for (std::size_t i = 0; i < symptom.readings.size(); ++i) {
    const ProbeReading &good = log.symptom.readings[i], &bad = symptom.readings[i];
    const std::string name = bad.name + (bad.unit.empty() ? "" : ", " + bad.unit);
    all += "  " + plot::pad_right(plot::fit(name, 46), 46) + plot::pad_left(number(good.value, good.decimals), 14) +
           plot::pad_left(number(bad.value, bad.decimals), 16) + "\n";
  }
  all += fmt::format("  {:<46}{:>14.3f}\n", fmt::format("for scale: a blind guess, ln {}", rig.model.config.vocab),
                     std::log(static_cast<double>(rig.model.config.vocab)));
  if (rig.source_nats > 0) all += fmt::format("  {:<46}{:>14.3f}\n", "and the source's entropy: none does better", rig.source_nats);
  if (!symptom.texts.empty()) all += "\n";
  for (std::size_t i = 0; i < symptom.texts.size(); ++i) {
    all += "  " + symptom.texts[i].first + "\n";
    if (i < log.symptom.texts.size()) all += labelled("    healthy:      ", log.symptom.texts[i].second);
    all += labelled("    this engine:  ", symptom.texts[i].second);
  }
  return all;
}

std::string FaultSession::State::sites() {
  const Look seen = look();
  const auto rms = rms_of(seen.album);
  const auto& before = log.rms[decode ? 1 : 0];
  std::string all = wrapped(
      decode
          ? "One held-out document, its first half in one pass and the rest token by token through the cache. Root mean square of all "
            "values, "
            "here and in a healthy engine's log:"
          : fmt::format("Two documents{}, forward and backward, in the order in which sites fire. Root mean square of all values, here and "
                        "in a healthy engine's log:",
                        fault.probe == Probe::training ? " and fresh weights, as in the first step of training" : ""));
  for (const std::string& name : seen.album.names()) {
    const Matrix<float>* value = seen.album.by_head(name) ? seen.album.find(name, 0, 0) : seen.album.find(name);
    const auto logged = before.find(name);
    all += fmt::format("  {:<32} {:<20}{:>11} {:>11}\n", name,
                       fmt::format("[{}, {}]{}", value->rows(), value->cols(), seen.album.by_head(name) ? " a head" : ""),
                       shown(rms.at(name)), logged == before.end() ? "" : shown(logged->second));
  }
  return all;
}

std::string FaultSession::State::trace(const std::vector<std::string>& words) {
  if (words.size() < 2) return "trace: expected a site, as in: trace blocks.0.attn.pattern 5 (sites lists them)\n";
  const Look seen = look();
  const auto& names = seen.album.names();
  if (std::ranges::find(names, words[1]) == names.end()) {
    const Index L = rig.model.config.layers;
    if (words[1].starts_with("blocks.")) {
      const auto layer = whole_number(std::string_view(words[1]).substr(7, words[1].find('.', 7) - 7));
      if (!layer || *layer < 0 || *layer >= L) return fmt::format("trace: expected a layer from 0 to {}, found {}\n", L - 1, shown(words[1]));
    }
    std::string valid;
    for (const std::string& n : names) {
      if (!n.ends_with(".grad") && (!n.starts_with("blocks.") || n.starts_with("blocks.0."))) valid += (valid.empty() ? "" : ", ") + n;
    }
    return wrapped(
        fmt::format("trace: expected a site of {}, the same of layers up to {}, or a gradient of those that sites lists, found {}", valid,
                    L - 1, shown(words[1])));
  }
  const bool by_head = seen.album.by_head(words[1]);
  Site site{words[1], by_head ? 0 : -1, by_head ? 0 : -1};
  if (words.size() > 3) {
    const auto head = whole_number(words[3]);
    if (!by_head) return fmt::format("trace: {} has no heads apart: expected SITE [ROW]\n", words[1]);
    if (!head || *head < 0 || *head >= rig.model.config.heads)
      return fmt::format("trace: expected a head from 0 to {}, found {}\n", rig.model.config.heads - 1, shown(words[3]));
    site.head = *head;
  }
  const Matrix<float>& value = *seen.album.find(site.name, site.sequence, site.head);
  std::optional<Index> row;
  if (words.size() > 2) {
    row = whole_number(words[2]);
    if (!row || *row < 0 || *row >= value.rows())
      return fmt::format("trace: expected a row from 0 to {}, found {}\n", value.rows() - 1, shown(words[2]));
  }
  return values(seen, site, value, row);
}

std::string FaultSession::State::values(const Look& seen, const Site& site, const Matrix<float>& x, std::optional<Index> row) const {
  std::string all = fmt::format("{} [{}, {}]{}\n", site.name, x.rows(), x.cols(),
                                site.head < 0 ? "" : fmt::format(", document 0, head {} of {}", site.head, rig.model.config.heads));
  double sum = 0, count = 0, least = INFINITY, most = -INFINITY;
  for (Index i = 0; i < x.size(); ++i) {
    const double v = static_cast<double>(x.data()[i]);
    if (std::isinf(v)) continue;
    sum += v, count += 1, least = std::min(least, v), most = std::max(most, v);
  }
  all += fmt::format("  mean {}, root mean square {}, from {} to {}\n", shown(sum / count), shown(rms_of(x)), shown(least), shown(most));
  if (const auto theory = seen.laws.find(site); theory != seen.laws.end()) {
    for (const Law& law : theory->second) {
      all += "  theory: " + plot::pad_right(plot::fit(law.sentence, 52), 52) + fmt::format(" off by {}\n", shown(law.deviation));
    }
  }
  const auto label = [&](Index n) {
    return n < static_cast<Index>(seen.batch.inputs.size()) ? token(seen.batch.inputs[static_cast<std::size_t>(n)]) : "";
  };
  if (row) {
    const double row_sum = static_cast<double>(x.row(*row).sum());
    all += fmt::format("  row {} ({}), sum {}:\n", *row, label(*row), shown(row_sum));
    for (Index c = 0; c < x.cols(); c += 7) {
      all += fmt::format("  {:>4}", c);
      for (Index i = c; i < std::min(c + 7, x.cols()); ++i) all += plot::pad_left(shown(static_cast<double>(x(*row, i))), 10);
      all += "\n";
    }
    return all;
  }
  plot::TableOptions options;
  options.width = width, options.max_rows = 10, options.label_width = 8, options.indent = "  ";
  for (Index n = 0; n < x.rows(); ++n) options.row_labels.push_back(fmt::format("{} {}", n, label(n)));
  return all + plot::number_table(x.cast<double>(), options);
}

std::string FaultSession::State::evaluation() const {
  std::vector<double> by_place;
  const Loss loss = evaluate(rig, rig.val, static_cast<std::uint64_t>(looks), &by_place);
  std::string all = fmt::format("  loss {} nats a token, perplexity {}, {} of {} first choices right\n", number(loss.mean()),
                                number(std::exp(loss.mean()), 2), loss.correct, loss.count);
  if (fault.probe == Probe::training) all += "  (with the weights that a run ended with)\n";
  all += fmt::format("  {:<14}{:>12}{:>18}\n", "by place", "here", "a healthy engine");
  for (const auto& [from, to] :
       std::vector<std::pair<std::size_t, std::size_t>>{{0, 1}, {1, 2}, {2, 3}, {3, 8}, {8, 16}, {16, 32}, {32, 64}, {64, 100000}}) {
    const auto mean = [&](const std::vector<double>& x) {
      const std::size_t end = std::min(to, x.size());
      return end <= from ? NAN
                         : std::accumulate(x.begin() + static_cast<Index>(from), x.begin() + static_cast<Index>(end), 0.0) /
                               static_cast<double>(end - from);
    };
    if (from >= std::max(by_place.size(), log.by_place.size())) break;
    const std::string place = to == from + 1 ? fmt::format("{}", from)
                              : to > 1000    ? fmt::format("{} and later", from)
                                             : fmt::format("{} to {}", from, to - 1);
    all += fmt::format("  {:<14}{:>12}{:>18}\n", place, number(mean(by_place)), number(mean(log.by_place)));
  }
  return all;
}

std::string FaultSession::State::training() {
  if (!rig.fresh) return "train: a model from elsewhere has no weights to start from\n";
  const Arena<float> weights = rig.model.arena.clone();
  const TrainingRun run = glassformer::train(rig);
  if (fault.probe != Probe::training) restore(rig.model, weights);
  const bool logged = !log.run.steps.empty();
  std::string all =
      fmt::format("  {:>5}{:>10}{:>16}{:>10}{}\n", "step", "loss", "gradient norm", "rate", logged ? "     healthy: loss, norm" : "");
  for (std::size_t s = 1; s <= run.steps.size(); s = s < 3 ? s + 1 : s < 100 ? s * 2 : s + 1000000) {
    const std::size_t at = s * 2 > run.steps.size() ? run.steps.size() : s;  // the last line is the last step
    const StepReport& r = run.steps[at - 1];
    all += fmt::format("  {:>5}{:>10.3f}{:>16}{:>10}", r.step, r.loss_nats, shown(r.gradient_norm), shown(r.rate));
    if (logged) all += fmt::format("{:>14.3f}{:>10}", log.run.steps[at - 1].loss_nats, shown(log.run.steps[at - 1].gradient_norm));
    all += "\n";
    if (at == run.steps.size()) break;
  }
  if (!run.stopped.empty()) all += wrapped(run.stopped, "  ");
  return all;
}

std::string FaultSession::State::gradients() const {
  GradientCheckOptions options;
  options.config = rig.model.config;
  ModelConfig& c = options.config;
  c.vocab = 11, c.context = 8, c.layers = std::min<Index>(c.layers, 2), c.width = 8, c.head_dim = 4, c.hidden = c.hidden > 0 ? 12 : 0,
  c.dropout = 0;
  c.bos = c.eos = -1, c.prepend_bos = false;
  options.entries = 12;
  const auto mistake = backward_mistake(fault, c);
  options.trace = mistake.get();
  std::string all = wrapped(fmt::format(
      "A model of {} layers and width {} with this engine's choices, random weights, in double; up to {} entries of each tensor:", c.layers,
      c.width, options.entries));
  all += fmt::format("  {:<32}{:>14}{:>14}{:>11}\n", "tensor", "|analytic|", "|numeric|", "error");
  const std::vector<TensorCheck> checks = check_gradients(options);
  Index failed = 0;
  for (const TensorCheck& check : checks) {
    const bool bad = check.error > kGradientTolerance;
    failed += bad;
    all += fmt::format("  {:<32}{:>14}{:>14}{:>11.1e}  {}\n", check.name, shown(check.analytic_norm), shown(check.numeric_norm),
                       check.error, bad ? "FAIL" : "pass");
  }
  return all + (failed == 0
                    ? "  PASS: the backward pass is the derivative of the forward pass.\n"
                    : fmt::format("  FAIL: {} of {} tensors are off by more than {:.0e}.\n", failed, checks.size(), kGradientTolerance));
}

std::string FaultSession::State::sample(std::string prompt) const {
  if (prompt.empty()) prompt = rig.prompt;
  std::string all;
  try {
    const auto show = [&](const std::string& name, bool cache, double temperature) {
      GenerateOptions options = rig.writing;
      options.use_cache = cache, options.sampling.temperature = temperature;
      if (temperature > 0 && rig.drawing_trace) options.trace = rig.drawing_trace;
      all += "  " + name + "\n" + wrapped(plot::visible(prompt + generate(rig.model, rig.tokenizer, prompt, options).text, false), "    ");
    };
    show("greedy, with the cache", true, 0);
    show("greedy, without", false, 0);
    show(fmt::format("drawn: temperature {}, top-p {}", rig.writing.sampling.temperature, rig.writing.sampling.top_p), true,
         rig.writing.sampling.temperature);
  } catch (const std::invalid_argument& error) {
    all += wrapped(error.what(), "  ");
  }
  return all;
}

std::string FaultSession::State::data() {
  const Look seen = look();
  const Batch& b = seen.batch;
  std::string starts;
  for (const Index s : b.starts) starts += (starts.empty() ? "" : ", ") + std::to_string(s);
  std::string all = fmt::format("  {} tokens in {} sequence{}, which start at: {}\n", b.inputs.size(), b.sequences(),
                                b.sequences() == 1 ? "" : "s", starts);
  for (Index s = 0; s < b.sequences(); ++s) {
    std::string read = "  read   ", asked_for = "  asked  ";
    for (Index n = b.starts[static_cast<std::size_t>(s)]; n < b.starts[static_cast<std::size_t>(s) + 1]; ++n) {
      const std::string in = token(b.inputs[static_cast<std::size_t>(n)]), out = token(b.targets[static_cast<std::size_t>(n)]);
      const Index wide = std::max(plot::display_width(in), plot::display_width(out));
      if (plot::display_width(read) + wide > width - 1) break;
      read += plot::pad_right(in, wide), asked_for += plot::pad_right(out, wide);
    }
    all += read + "\n" + asked_for + "\n";
  }
  return all + "  ↵ is the start token of this model, ␣ a space, · a target that is not scored.\n";
}

std::string FaultSession::State::settings() const {
  const ModelConfig& c = rig.model.config;
  const TrainOptions& t = rig.training;
  const SamplingOptions& o = rig.writing.sampling;
  std::string all = fmt::format("  model     {} layers, width {}, {} heads of {}, key-value heads {}, hidden {}\n", c.layers, c.width,
                                c.heads, c.head_dim, c.kv_heads, c.hidden);
  all +=
      fmt::format("            {}, {} ({}, ε {:g}), head {}, {}, dropout {:g}\n", choice_name(c.position), choice_name(c.norm),
                  choice_name(c.placement), c.norm_epsilon, c.tied ? "tied" : "of its own", c.causal ? "causal" : "not causal", c.dropout);
  all += fmt::format("            vocabulary {}, context {}, start token {}\n", c.vocab, c.context,
                     c.prepend_bos ? "before every text" : "none");
  if (rig.adapter) all += fmt::format("  adapter   rank {}, α {}\n", rig.adapter->config.rank, rig.adapter->config.alpha);
  if (rig.fresh)
    all += fmt::format("  training  {} steps of {} texts, rate {:g} to {:g}, warm-up {}, clip {:g}\n", t.steps, t.batch, t.rate, t.min_rate,
                       t.warmup, t.clip);
  return all + fmt::format("  sampling  temperature {}, top-p {}\n", o.temperature, o.top_p);
}

}  // namespace glassformer
