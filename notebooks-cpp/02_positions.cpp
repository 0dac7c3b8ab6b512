// %% [markdown]
// # 02 · Why positions, and which?
//
// Attention is a sum over a set: shuffle the tokens and each still finds the same partners. Where a token stands must be told to it. This
// notebook first shows that blindness, then trains one small model with each encoding, and then asks each of them about places that it has
// never seen.

// %%
#include <algorithm>
#include <cmath>
#include <numeric>

#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/statistics.hpp"
#include "glassformer/notebook/toy.hpp"
#include "program.hpp"

using namespace glassformer;

// %% [markdown]
// ## 1. Blind to order
// One layer, no positions, no mask. Permute the tokens: the outputs are permuted with them, and nothing else changes.
//
// Deeper layers under a causal mask are *not* blind even without positions: a token that sees three others is the fourth, and the first layer
// can leave a trace of that (Haviv et al. 2022). So the claim is about one layer without a mask.

// %%
void show_blindness(Notebook& nb) {
  story::Table table{"permuted", {"positions", "mask", "largest change of a token's logits"}, {}};
  double without = 0, with = INFINITY;
  for (const auto& [position, name] : choices<Position>()) {
    for (const bool causal : {false, true}) {
      ModelConfig config = resolved({.vocab = 30, .context = 16, .layers = 1, .heads = 4, .width = 32, .position = position, .causal = causal});
      config.init_std = config.embedding_std = 0.3;
      Decoder<double> model = make_decoder<double>(config);
      initialize(model, nb.seed());
      std::vector<Token> ids(12), shuffled(12);
      std::vector<std::size_t> order(12);
      for (std::size_t i = 0; i < 12; ++i) ids[i] = static_cast<Token>(random_below(RandomStream{nb.seed()}.at("ids"), i, 30)), order[i] = (5 * i + 3) % 12;
      for (std::size_t i = 0; i < 12; ++i) shuffled[i] = ids[order[i]];
      const Matrix<double> straight = decoder_read<double>(model, ids), mixed = decoder_read<double>(model, shuffled);
      double change = 0;
      for (std::size_t i = 0; i < 12; ++i)
        change = std::max(change, (mixed.row(static_cast<Index>(i)) - straight.row(static_cast<Index>(order[i]))).cwiseAbs().maxCoeff());
      if (position == Position::none && !causal) without = change;
      else with = std::min(with, change);
      table.rows.push_back({name, causal ? "causal" : "none", change < 1e-6 ? "below 1e-6" : "more than 1e-6"});
    }
  }
  nb.show(table, exactly);
  nb.claim("one layer without positions and mask: permuting the inputs permutes the outputs within 1e-6", without < 1e-6, fmt::format("{:.1e}", without));
  nb.claim("with any position encoding, or with the mask, it does not", with > 1e-3, fmt::format("at least {:.3f}", with));
}

// %% [markdown]
// ## 2. Distance only
// RoPE turns the pair i of a query at place m and of a key at place n by m·θᵢ and n·θᵢ. A product of two turned vectors depends on the
// difference of the angles alone: qₘ·kₙ = f(m − n). We take one query and one key and put them at many places.

// %%
void show_distance(Notebook& nb) {
  const Index D = 32;
  const RopeTable<float> table = rope_table<float>(600, D, 10000);
  Matrix<float> q(1, D), k(1, D);
  for (Index d = 0; d < D; ++d) {
    q(0, d) = static_cast<float>(random_normal(RandomStream{nb.seed()}.at("q"), static_cast<std::uint64_t>(d)));
    k(0, d) = static_cast<float>(random_normal(RandomStream{nb.seed()}.at("k"), static_cast<std::uint64_t>(d)));
  }
  const auto at = [&](const Matrix<float>& x, Index place) {
    Matrix<float> turned = x;
    const std::vector<Index> places = {place};
    rope_rotate<float>(table, places, 1, false, turned, nb.exec());
    return turned;
  };
  const auto score = [&](Index m, Index n) { return static_cast<double>(at(q, m).row(0).dot(at(k, n).row(0))) / std::sqrt(static_cast<double>(D)); };
  plot::Chart chart;
  chart.title = "q·k/√D of one query and one key", chart.x_label = "distance", chart.y_label = "score";
  chart.series = {{"key at place 0", {}}, {"key at place 500", {}}};
  double apart = 0, change = 0;
  for (Index distance = 0; distance <= 60; ++distance) {
    chart.x.push_back(static_cast<double>(distance));
    chart.series[0].y.push_back(score(distance, 0)), chart.series[1].y.push_back(score(500 + distance, 500));
    apart = std::max(apart, std::abs(chart.series[0].y.back() - chart.series[1].y.back()));
    change = std::max(change, std::abs(chart.series[0].y.back() - chart.series[0].y.front()));
  }
  nb.show(story::Chart{"distance", chart}, within(1e-3));
  nb.claim("RoPE's scores depend on the distance, and on it only, within 1e-5 of their range", change > 0.1 && apart < 1e-5 * std::max(1.0, change),
           fmt::format("differ by at most {:.1e} 500 places further, while distance changes them by {:.2f}", apart, change));
}

// %% [markdown]
// ## 3. Five encodings, trained alike
// The same text, the same steps, the same random numbers. Then each reads windows four times as long as those it was trained on. Learned
// positions cannot: there are no rows for places that were never trained.
//
// How much each loses depends on the text. ALiBi was seen to lose at most 0.03 nats on tinyshakespeare; on these generated tales it loses some
// 0.05. So what is claimed here compares the encodings on one text, and each figure comes with its standard error over the windows read.
//
// One trap: a model that looks only at its neighbours is flat beyond its length, whatever it is told about places. Is ALiBi flat because it
// extrapolates or because it is short-sighted? So RoPE and ALiBi are also read with a sliding window of 32 tokens: *that* is mere recency.

// %%
constexpr Index kContext = 64, kLong = 256;

// What one model loses inside its trained length and beyond, per window: the same text, cut to the trained length and to four times as much.
struct Losses {
  Mean inside, beyond, extra;   // mean loss at places 32 … 63 of short windows, 128 … 255 of long ones, and the second less the first
  std::vector<double> places;   // mean loss at each place of the long windows
};

struct Trained {
  std::string name;
  ToyRun run;
  Losses losses;
};

// Each window is read alone, so that its own losses are known.
Losses read_beyond(const Decoder<float>& model, std::span<const Token> ids, const Exec& exec) {
  constexpr Index kWindows = 40;
  const bool goes_beyond = model.config.position != Position::learned;
  std::vector<double> inside, beyond, extra;
  Losses all;
  all.places.assign(goes_beyond ? kLong : 0, 0.0);
  for (Index w = 0; w < kWindows; ++w) {
    const auto window = ids.subspan(static_cast<std::size_t>((static_cast<Index>(ids.size()) - kLong - 1) * w / (kWindows - 1)));
    const auto near = loss_by_place(model, window.first(kLong + 1), kContext, kLong / kContext, exec);  // this window in four short ones
    inside.push_back(mean_of(near, kContext / 2, kContext));
    if (!goes_beyond) continue;
    const auto far = loss_by_place(model, window.first(kLong + 1), kLong, 1, exec);
    for (Index t = 0; t < kLong; ++t) all.places[static_cast<std::size_t>(t)] += far[static_cast<std::size_t>(t)] / kWindows;
    beyond.push_back(mean_of(far, 2 * kContext, kLong)), extra.push_back(beyond.back() - inside.back());
  }
  all.inside = mean_with_error(inside);
  all.beyond = goes_beyond ? mean_with_error(beyond) : Mean{NAN, NAN};
  all.extra = goes_beyond ? mean_with_error(extra) : Mean{NAN, NAN};
  return all;
}

std::vector<Trained> train_each(Notebook& nb, const ToyText& text) {
  std::vector<Trained> all;
  std::vector<NamedLosses> curves;
  for (const auto& [position, name] : choices<Position>()) {
    ModelConfig config{.context = kContext, .layers = 2, .heads = 4, .width = 64, .position = position, .embedding_std = 0.5};
    config.init_std = 0.125;
    ToyRun run = train_toy(nb, name, config, {.steps = 600, .batch = 16, .rate = 4e-3, .min_rate = 4e-4, .seed = nb.seed()}, text);
    curves.push_back({name, run.losses});
    Losses losses = read_beyond(run.model, text.val, nb.exec());
    all.push_back({name, std::move(run), std::move(losses)});
  }
  nb.show(loss_chart("training", "While they learn", curves), kind_only);
  return all;
}

// The control: a model that sees 32 tokens at most.
Losses read_windowed(Trained& t, const ToyText& text, const Exec& exec) {
  const auto see = [&t](Index window) {
    for (auto& block : t.run.model.blocks) block.attention.config.core.window = window;
  };
  see(kContext / 2);
  Losses losses = read_beyond(t.run.model, text.val, exec);
  see(0);
  return losses;
}

std::string shown(const Mean& m) { return fmt::format("{:+.3f} ± {:.3f}", m.mean, m.standard_error); }

void show_encodings(Notebook& nb) {
  const ToyText text = toy_text(CorpusKind::stories, 400'000, nb.seed());
  std::vector<Trained> all = train_each(nb, text);
  const auto by_name = [&](std::string_view name) -> Trained& { return *std::ranges::find(all, name, &Trained::name); };
  const Losses windowed_rope = read_windowed(by_name("rope"), text, nb.exec()), windowed_alibi = read_windowed(by_name("alibi"), text, nb.exec());

  story::Table table{"losses", {"positions", "inside (32–63)", "beyond (128–255)", "difference", "± standard error"}, {}};
  const auto row = [&table](const std::string& name, const Losses& l) {
    table.rows.push_back({name, l.inside.mean, l.beyond.mean, l.extra.mean, l.extra.standard_error});
  };
  plot::Chart chart;
  chart.title = "Loss by place: trained on 64 tokens", chart.x_label = "place", chart.y_label = "nats per character";
  for (Index i = 0; i < kLong / 8; ++i) chart.x.push_back(static_cast<double>(8 * i + 4));
  for (const Trained& t : all) {
    row(t.name, t.losses);
    if (t.losses.places.empty()) continue;
    plot::Series s{t.name, {}};
    for (Index i = 0; i < kLong / 8; ++i) s.y.push_back(mean_of(t.losses.places, 8 * i, 8 * i + 8));
    chart.series.push_back(std::move(s));
  }
  row("rope, window 32", windowed_rope), row("alibi, window 32", windowed_alibi);
  nb.show(table, kind_only);
  nb.show(story::Chart{"places", chart}, kind_only);

  const double none = by_name("none").losses.inside.mean;
  std::string inside;
  bool worst = true;
  for (const Trained& t : all) {
    inside += fmt::format("{}{} {:.3f}", inside.empty() ? "" : ", ", t.name, t.losses.inside.mean);
    worst = worst && (t.name == "none" || t.losses.inside.mean < none);
  }
  nb.claim("inside the trained length the model without positions is the worst", worst, inside + " nats");
  const Mean alibi = by_name("alibi").losses.extra, sinusoidal = by_name("sinusoidal").losses.extra, rope = by_name("rope").losses.extra;
  nb.claim("beyond it sinusoidal and RoPE lose at least ten times what ALiBi loses", std::min(sinusoidal.mean, rope.mean) > 10 * std::abs(alibi.mean),
           fmt::format("sinusoidal {}, rope {}, alibi {} nats", shown(sinusoidal), shown(rope), shown(alibi)));
  nb.claim("RoPE that sees 32 tokens only loses less than 0.1 nats beyond: a flat curve alone proves nothing", std::abs(windowed_rope.extra.mean) < 0.1,
           fmt::format("{} nats, and ALiBi with the same window {}", shown(windowed_rope.extra), shown(windowed_alibi.extra)));
}

// %% [markdown]
// ## What to say
// *Attention alone is a set operation, so order must be put in: added to the embedding (sinusoidal, learned), turned into queries and keys
// (RoPE), or taken off the scores by distance (ALiBi). What matters in practice is what happens beyond the trained length: a learned table
// ends, sinusoidal and RoPE meet angles that they have never seen, a penalty by distance stays itself — but then so does a plain window.
// ALiBi's flat curve is not proof that it uses the far context: RoPE is flat too once it sees 32 tokens only.*
//
// See it step by step: `glassformer explain position`.

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    show_blindness(nb);
    show_distance(nb);
    show_encodings(nb);
  });
}
