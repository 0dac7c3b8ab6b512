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
// RoPE turns the pair $i$ of a query at place $m$ and of a key at place $n$ by $m\theta_i$ and $n\theta_i$. A product of two turned vectors
// depends on the difference of the angles alone: $q_m \cdot k_n = f(m - n)$. We take one query and one key and put them at many places.

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
  nb.claim("RoPE's scores depend on the distance only, within 1e-5 of their range", apart < 1e-5 * std::max(1.0, change),
           fmt::format("differ by at most {:.1e} 500 places further, while distance changes them by {:.2f}", apart, change));
}

// %% [markdown]
// ## 3. Five encodings, trained alike
// The same text, the same steps, the same random numbers. Then each reads windows four times as long as those it was trained on. Learned
// positions cannot: there are no rows for places that were never trained.
//
// On tinyshakespeare ALiBi was seen to lose at most 0.03 nats beyond; on these generated tales, where the answer often stands further back than
// the trained length, it loses some 0.05.
//
// One trap: a model that looks only at its neighbours is flat beyond its length, whatever it is told about places. Is ALiBi flat because it
// extrapolates or because it is short-sighted? So RoPE is also read with a sliding window of 32 tokens: *that* is mere recency.

// %%
constexpr Index kContext = 64, kLong = 256;

struct Trained {
  std::string name;
  ToyRun run;
  double inside = 0, beyond = 0;      // mean loss at places 32 … 63, and at 128 … 255
  std::vector<double> places;         // of each place of the long window
};

void show_encodings(Notebook& nb) {
  const ToyText text = toy_text(CorpusKind::stories, 400'000, nb.seed());
  std::vector<Trained> all;
  const auto read = [&](const Decoder<float>& model, Index length) { return loss_by_place(model, text.val, length, 24'000 / length, nb.exec()); };
  for (const auto& [position, name] : choices<Position>()) {
    ModelConfig config{.context = kContext, .layers = 2, .heads = 4, .width = 64, .position = position, .embedding_std = 0.5};
    config.init_std = 0.125;
    Trained t{name, train_toy(nb, name, config, {.steps = 800, .batch = 16, .rate = 2e-3, .seed = nb.seed()}, text)};
    t.inside = mean_of(read(t.run.model, kContext), kContext / 2, kContext);
    if (position == Position::learned) {
      t.beyond = NAN;
    } else {
      t.places = read(t.run.model, kLong);
      t.beyond = mean_of(t.places, 128, kLong);
    }
    all.push_back(std::move(t));
  }
  const auto by_name = [&](std::string_view name) -> Trained& { return *std::ranges::find(all, name, &Trained::name); };

  // The control: RoPE that sees 32 tokens at most.
  Decoder<float>& rope = by_name("rope").run.model;
  for (auto& block : rope.blocks) block.attention.config.core.window = kContext / 2;
  const std::vector<double> windowed = read(rope, kLong);
  for (auto& block : rope.blocks) block.attention.config.core.window = 0;

  std::vector<NamedLosses> losses;
  story::Table table{"losses", {"positions", "inside (32–63)", "beyond (128–255)", "difference"}, {}};
  plot::Chart chart;
  chart.title = "Loss by place: trained on 64 tokens", chart.x_label = "place", chart.y_label = "nats per character";
  const auto smooth = [](const std::vector<double>& y, Index i) { return mean_of(y, 8 * i, 8 * i + 8); };
  for (Index i = 0; i < kLong / 8; ++i) chart.x.push_back(static_cast<double>(8 * i + 4));
  for (const Trained& t : all) {
    losses.push_back({t.name, t.run.losses});
    table.rows.push_back({t.name, t.inside, t.beyond, t.beyond - t.inside});
    if (t.places.empty()) continue;
    plot::Series s{t.name, {}};
    for (Index i = 0; i < kLong / 8; ++i) s.y.push_back(smooth(t.places, i));
    chart.series.push_back(std::move(s));
  }
  table.rows.push_back({"rope, window 32", mean_of(windowed, 32, kContext), mean_of(windowed, 128, kLong), mean_of(windowed, 128, kLong) - mean_of(windowed, 32, kContext)});
  nb.show(loss_chart("training", "While they learn", losses), kind_only);
  nb.show(table, kind_only);
  nb.show(story::Chart{"places", chart}, kind_only);

  const Trained &none = by_name("none"), &alibi = by_name("alibi"), &sinusoidal = by_name("sinusoidal"), &r = by_name("rope");
  const bool worst = std::ranges::all_of(all, [&](const Trained& t) { return t.name == "none" || t.inside < none.inside; });
  nb.claim("inside the trained length the model without positions is the worst", worst,
           fmt::format("none {:.3f}, learned {:.3f}, sinusoidal {:.3f}, rope {:.3f}, alibi {:.3f} nats", none.inside, by_name("learned").inside,
                       sinusoidal.inside, r.inside, alibi.inside));
  nb.claim("beyond it ALiBi loses less than 0.1 nats", alibi.beyond - alibi.inside < 0.1, fmt::format("{:+.3f}", alibi.beyond - alibi.inside));
  nb.claim("sinusoidal and RoPE lose more than 0.5", sinusoidal.beyond - sinusoidal.inside > 0.5 && r.beyond - r.inside > 0.5,
           fmt::format("sinusoidal {:+.3f}, rope {:+.3f}", sinusoidal.beyond - sinusoidal.inside, r.beyond - r.inside));
}

// %% [markdown]
// ## What to say
// *Attention alone is a set operation, so order must be put in: added to the embedding (sinusoidal, learned), turned into queries and keys
// (RoPE), or taken off the scores by distance (ALiBi). What matters in practice is what happens beyond the trained length: a learned table
// ends, sinusoidal and RoPE meet angles that they have never seen, a penalty by distance stays itself — but then so does a plain window.
// ALiBi's flat curve is not proof that it uses the far context; here the window of 32 tells how much of it is mere recency.*
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
