// The steps of one draw as a story. Legend: V vocabulary, z logits, p probabilities.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "explain/teller.hpp"
#include "glassformer/explain/sampling.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

using plot::number;

constexpr Index kShown = 8;  // tokens that are written out

std::string probability(double p) { return p > 0 && p < 0.0005 ? fmt::format("{:.0e}", p) : number(p); }

enum Stage : Index { kSoftmax, kPenalty, kTemperature, kTopK, kTopP, kMinP };

class SamplingTeller : Teller {
 public:
  explicit SamplingTeller(const SamplingSteps& s) : s_(s) {}

  Story tell() {
    opening();
    softmax();
    penalty();
    temperature();
    top_k();
    top_p();
    min_p();
    all_stages();
    draw();
    data();
    return std::move(out_);
  }

 private:
  Index V() const { return static_cast<Index>(s_.tokens.size()); }
  const StageFigures& stage(Index i) const { return s_.stages[static_cast<std::size_t>(i)]; }
  std::string label(Token id) const { return plot::fit(plot::visible(s_.tokens[static_cast<std::size_t>(id)]), 14); }

  // The tokens that stage i left, the most probable after it first; at most so many.
  std::vector<Token> best(Index i, Index most = kShown) const {
    std::vector<Token> ids(s_.tokens.size());
    std::iota(ids.begin(), ids.end(), Token{0});
    std::erase_if(ids, [&](Token id) { return s_.probability(i, id) <= 0; });
    const auto n = std::min<std::ptrdiff_t>(most, static_cast<std::ptrdiff_t>(ids.size()));
    std::partial_sort(ids.begin(), ids.begin() + n, ids.end(), [&](Token a, Token b) {
      return s_.probability(i, a) != s_.probability(i, b) ? s_.probability(i, a) > s_.probability(i, b) : a < b;
    });
    ids.resize(static_cast<std::size_t>(n));
    return ids;
  }
  template <class F>
  std::vector<std::string> lines_of(const std::vector<Token>& ids, const F& text_of) const {
    Index width = 3;
    for (const Token id : ids) width = std::max(width, plot::display_width(label(id)));
    std::vector<std::string> all;
    for (const Token id : ids) all.push_back(fmt::format("{}  {}", plot::pad_right(label(id), width), text_of(id)));
    return all;
  }
  std::string of_all(Index count) const { return count > kShown ? fmt::format(" The {} most probable of {}:", kShown, count) : ""; }
  void bars(Index i) {
    plot::Chart c;
    c.kind = plot::Chart::Kind::bars;
    c.series.push_back({"probability", {}});
    for (const Token id : best(i)) {
      c.names.push_back(s_.tokens[static_cast<std::size_t>(id)]);
      c.series[0].y.push_back(s_.probability(i, id));
    }
    put(story::Chart{.key = "", .chart = std::move(c)});
  }

  void opening() {
    out_.component = "sampling";
    out_.title = fmt::format("Sampling, step by step: from {} logits to one token", V());
    out_.opening.push_back(s_.is_example ? "A tiny example, small enough to redo by hand." : fmt::format("Model: {}", s_.model));
    std::string text;
    for (const Token id : s_.text)
      text += fmt::format("{}{}", text.empty() || !s_.is_example ? "" : " ",
                          plot::visible(id < V() ? s_.tokens[static_cast<std::size_t>(id)] : "?", false));
    out_.opening.push_back(fmt::format("Which token comes after \"{}\"? The model gave each of its {} tokens a logit.", text, V()));
    out_.opening.insert(out_.opening.end(), s_.notes.begin(), s_.notes.end());
  }

  void softmax() {
    out_.section("Logits and softmax", "pᵢ = exp(zᵢ)/Σⱼ exp(zⱼ)");
    say("What the model says, before anybody chooses." + of_all(V()));
    story::Table t{.key = "", .columns = {"token", "id", "logit z", "p"}, .rows = {}};
    for (const Token id : best(kSoftmax)) t.rows.push_back({label(id), fmt::format("{}", id), s_.logits(id), s_.probability(kSoftmax, id)});
    put(std::move(t));
    bars(kSoftmax);
  }

  void penalty() {
    const double theta = s_.options.repetition_penalty;
    out_.section("Repetition penalty", "z ← z/θ where z > 0, z·θ where not");
    if (theta == 1) return say("Off (θ = 1).");
    std::vector<Token> held = s_.text;
    std::sort(held.begin(), held.end(),
              [this](Token a, Token b) { return s_.logits(a) != s_.logits(b) ? s_.logits(a) > s_.logits(b) : a < b; });
    held.erase(std::unique(held.begin(), held.end()), held.end());
    say(fmt::format("θ = {:g}, once for each of the {} different tokens that the text already holds.{}", theta, held.size(),
                    static_cast<Index>(held.size()) > kShown ? fmt::format(" The {} with the largest logits:", kShown) : ""));
    if (static_cast<Index>(held.size()) > kShown) held.resize(kShown);
    put(story::Lines{lines_of(held, [&](Token id) {
      return fmt::format("{} {} {:g} = {}   p {} → {}", plot::pad_left(number(s_.logits(id)), 7), s_.logits(id) > 0 ? "/" : "·", theta,
                         plot::pad_left(number(s_.penalised(id)), 7), probability(s_.probability(kSoftmax, id)),
                         probability(s_.probability(kPenalty, id)));
    })});
  }

  void temperature() {
    const double tau = s_.options.temperature;
    out_.section("Temperature", tau == 0 ? "τ = 0: the largest z alone" : "pᵢ = exp(zᵢ/τ − max)/Σⱼ exp(zⱼ/τ − max)");
    if (tau == 0)
      return say(fmt::format("τ = 0 is greedy decoding: \"{}\" has the largest logit and is certain.", label(best(kTemperature, 1)[0])));
    say(fmt::format("τ = {:g}{} Taking off the largest z/τ, {}, changes no probability and keeps exp from overflowing.{}", tau,
                    tau < 1   ? ": below 1 the differences grow, and the best gain."
                    : tau > 1 ? ": above 1 the differences shrink, and the others gain."
                              : ": nothing changes.",
                    number(s_.maximum), of_all(V())));
    std::vector<std::string> all = lines_of(best(kTemperature), [&](Token id) {
      return fmt::format("{}/{:g} = {}  exp({}) = {}  /{} = {}", plot::pad_left(number(s_.penalised(id)), 6), tau,
                         plot::pad_left(number(s_.scaled(id)), 6), plot::pad_left(number(s_.scaled(id) - s_.maximum), 6),
                         probability(s_.exponentials(id)), number(s_.sum), probability(s_.probability(kTemperature, id)));
    });
    all.push_back(fmt::format("{} exponentials add up to {}", V(), number(s_.sum)));
    put(story::Lines{std::move(all)});
    bars(kTemperature);
  }

  // What fell out, in one sentence, and what is left.
  void leaves(Index i) {
    const StageFigures& f = stage(i);
    const double lost = std::max(0.0, 1 - f.kept_mass);
    say(f.out.empty() ? "None falls out."
                      : fmt::format("{} of {} tokens fall out, with {} of the probability; the others are divided by the {} that is left.",
                                    f.out.size(), stage(i - 1).tokens, number(lost), number(f.kept_mass)));
    bars(i);
  }
  bool greedy() {
    if (s_.options.temperature != 0) return false;
    say("Nothing to do: one token is left.");
    return true;
  }

  void top_k() {
    out_.section("Top-k", "the k most probable stay");
    if (s_.options.top_k == 0) return say("Off (k = 0).");
    if (greedy()) return;
    say(fmt::format("k = {}.", s_.options.top_k));
    std::vector<Token> out = stage(kTopK).out;
    if (static_cast<Index>(out.size()) > kShown / 2) out.resize(kShown / 2);
    Index place = stage(kTopK).tokens;
    put(story::Lines{lines_of(out, [&](Token id) {
      return fmt::format("p = {} falls out: number {} by probability", probability(s_.probability(kTemperature, id)), ++place);
    })});
    leaves(kTopK);
  }

  void top_p() {
    const double P = s_.options.top_p;
    out_.section("Top-p", "the smallest set whose Σp ≥ P stays");
    if (P >= 1) return say("Off (P = 1).");
    if (greedy()) return;
    say(fmt::format("P = {:g}: added up from the most probable on, until P is reached.{}", P, of_all(stage(kTopK).tokens)));
    double sum = 0;
    Index place = 0;
    put(story::Lines{lines_of(best(kTopK), [&](Token id) {
      const double before = sum, p = s_.probability(kTopK, id);
      sum += p;
      const bool stays = s_.probability(kTopP, id) > 0;
      const bool last = ++place == stage(kTopP).tokens;
      return fmt::format("p = {}   Σ = {}   {}", probability(p), number(sum),
                         !stays ? fmt::format("falls out: {} was there already", number(before))
                         : last ? fmt::format("≥ {:g}: the last to stay", P)
                                : fmt::format("< {:g}", P));
    })});
    leaves(kTopP);
  }

  void min_p() {
    const double m = s_.options.min_p;
    out_.section("Min-p", "those with p ≥ m·max p stay");
    if (m <= 0) return say("Off (m = 0).");
    if (greedy()) return;
    const double most = s_.probability.row(kTopP).maxCoeff();
    say(fmt::format("m = {:g}, so the limit is {:g}·{} = {}.{}", m, m, number(most), number(m * most), of_all(stage(kTopP).tokens)));
    put(story::Lines{lines_of(best(kTopP), [&](Token id) {
      const bool stays = s_.probability(kMinP, id) > 0;
      return fmt::format("p = {} {} {}{}", probability(s_.probability(kTopP, id)), stays ? "≥" : "<", number(m * most),
                         stays ? "" : ": falls out");
    })});
    leaves(kMinP);
  }

  void all_stages() {
    out_.section("All stages", "H = −Σ p·ln p");
    say("Kept mass: how much of the probability before the stage belonged to the tokens that stay.");
    story::Table t{.key = "stages", .columns = {"after", "tokens", "kept mass", "entropy, nats", "largest p"}, .rows = {}};
    for (Index i = 0; i < s_.probability.rows(); ++i) {
      const StageFigures& f = stage(i);
      t.rows.push_back({f.name, fmt::format("{}", f.tokens), f.kept_mass, f.entropy_nats, s_.probability.row(i).maxCoeff()});
    }
    put(std::move(t));
  }

  void draw() {
    out_.section("The draw", "the stretch of [0, 1) that holds u");
    const auto n = static_cast<Index>(s_.kept.size());
    const Index at = std::find(s_.kept.begin(), s_.kept.end(), s_.drawn) - s_.kept.begin();
    const Index first = std::clamp<Index>(at - kShown / 2, 0, std::max<Index>(0, n - kShown)), last = std::min(n, first + kShown);
    say(fmt::format(
        "In the order of ids each token has a stretch as long as its probability. u = {} is number 0 of the stream of seed {}.{}",
        number(s_.uniform, 6), s_.seed, n > kShown ? fmt::format(" Around it, {} of {} stretches:", last - first, n) : ""));
    const int decimals = n > 20 ? 6 : 3;
    const std::vector<Token> ids(s_.kept.begin() + first, s_.kept.begin() + last);
    Index i = first;
    put(story::Lines{lines_of(ids, [&](Token id) {
      const double from = i == 0 ? 0 : s_.cumulated(i - 1), to = s_.cumulated(i);
      ++i;
      return fmt::format("id {:>5}  {} … {}{}", id, number(from, decimals), number(to, decimals),
                         id == s_.drawn ? fmt::format("  ← u = {}", number(s_.uniform, decimals)) : "");
    })});
    out_.closing.push_back(
        fmt::format("Drawn: \"{}\" (id {}).", plot::visible(s_.tokens[static_cast<std::size_t>(s_.drawn)], false), s_.drawn));
    out_.closing.push_back(
        fmt::format("Each distribution is the engine's own. Worked out again here, it differs by {:.1e} at most.", s_.deviation));
  }

  void data() {
    add("model", s_.model), add("example", s_.is_example), add("tokens", s_.tokens), add("text", s_.text);
    add("temperature", s_.options.temperature), add("top_k", s_.options.top_k), add("top_p", s_.options.top_p);
    add("min_p", s_.options.min_p), add("repetition_penalty", s_.options.repetition_penalty), add("seed", static_cast<Index>(s_.seed));
    add("logits", s_.logits), add("penalised", s_.penalised);
    if (s_.scaled.size() != 0)
      add("scaled", s_.scaled), add("exponentials", s_.exponentials), add("maximum", s_.maximum), add("sum", s_.sum);
    add("probability", s_.probability);
    const auto n = static_cast<Index>(s_.stages.size());
    Vector<double> mass(n), entropy(n), tokens(n);
    std::vector<std::string> names;
    for (Index i = 0; i < n; ++i) {
      mass(i) = stage(i).kept_mass, entropy(i) = stage(i).entropy_nats, tokens(i) = static_cast<double>(stage(i).tokens);
      names.push_back(stage(i).name);
    }
    add("stage_names", names), add("stage_tokens", tokens), add("kept_mass", mass), add("entropy_nats", entropy);
    add("kept", s_.kept), add("cumulated", s_.cumulated), add("uniform", s_.uniform), add("drawn", static_cast<Index>(s_.drawn));
    add("drawn_text", s_.tokens[static_cast<std::size_t>(s_.drawn)]), add("deviation", s_.deviation);
  }

  const SamplingSteps& s_;
};

}  // namespace

Story sampling_story(const SamplingSteps& s) { return SamplingTeller(s).tell(); }

}  // namespace glassformer
