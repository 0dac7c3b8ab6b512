// %% [markdown]
// # 11 · What limits the context?
//
// A model is trained on texts of some length, here 64 tokens, and then shown a longer one, here 256. No weight forbids it. What breaks, and
// what mends it? Two things are needed from a long context, and they break apart:
//
// - the **text** near by goes on as ever: is the next character still predicted well at place 200?
// - something said **long ago** is asked for: is it still found?
//
// The usual loss is an average over mostly near-by matters, so it flatters whoever forgets. So both are scored apart.

// %%
#include <algorithm>
#include <cmath>

#include "glassformer/core/random.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/model/stretch.hpp"
#include "glassformer/notebook/statistics.hpp"
#include "glassformer/notebook/toy.hpp"
#include "program.hpp"

using namespace glassformer;

constexpr Index kTrained = 64, kLong = 256, kNotes = 8;
constexpr double kFactor = static_cast<double>(kLong) / kTrained;  // s

// %% [markdown]
// ## 1. What stretching does to the angles
// RoPE turns pair i of a query and a key by θᵢ = b^(−2i/D) a place. Within the trained 64 places fast pairs go round many times, slow ones
// never get far: beyond place 64 *they* meet angles that the model has not seen. Four ways to make a text of s = 4 times the length
// look like a trained one; s is the length wanted over the length trained:
//
// | | θ′ᵢ | idea |
// |---|---|---|
// | linear | θᵢ/s | position interpolation (Chen et al. 2023): place 200 is read as place 50; but neighbours are now a quarter of a place apart |
// | ntk | (b·s^(D/(D−2)))^(−2i/D) | another base: the slowest pair as linear, the fastest unchanged |
// | yarn | (1−γ)·θᵢ/s + γ·θᵢ | γ from 0 for pairs that turn once in the trained length to 1 for those that turn 32 times; q and k 0.1·ln s + 1 longer (Peng et al. 2023) |
// | yarn-pairs | the same | the ramp of γ runs over the pairs' numbers i, as in the authors' code and in Hugging Face's |
//
// YaRN's paper lets γ rise with the turns, its code with i. In a context of thousands this is a detail. In 64 places no pair turns 32 times, so the
// paper's ramp slows even the fastest, and the code's does not.

// %%
void show_angles(Notebook& nb) {
  const Index D = 16;
  const std::vector<double> theta = rope_frequencies(D, 10000);
  std::vector<std::vector<double>> scaled;
  story::Table table{"angles", {"pair", "turns in 64 places"}, {}, 3};
  for (const auto& [scaling, name] : choices<RopeScaling>()) {
    if (scaling == RopeScaling::none) continue;
    table.columns.emplace_back(name);
    scaled.push_back(rope_frequencies(D, 10000, {scaling, kFactor, kTrained}));
  }
  double ntk_error = 0;
  for (std::size_t i = 0; i < theta.size(); ++i) {
    table.rows.push_back({fmt::format("{}", i), static_cast<double>(kTrained) * theta[i] / (2 * std::acos(-1.0))});
    for (const auto& s : scaled) table.rows.back().emplace_back(s[i] / theta[i]);
    const double by_hand = std::pow(kFactor, -static_cast<double>(i) / (static_cast<double>(D) / 2 - 1));  // s^(−i/(D/2 − 1))
    ntk_error = std::max(ntk_error, std::abs(scaled[1][i] / theta[i] / by_hand - 1));
  }
  nb.show(story::Paragraph{"How much slower each pair turns, θ′ᵢ/θᵢ, at a head width of 16:"}, exactly);
  nb.show(table, exactly);
  nb.claim("NTK slows pair i by s^(i/(D/2 − 1)): nothing at the first, s at the last", ntk_error < 1e-12,
           fmt::format("within {:.0e}", std::max(ntk_error, 1e-16)));
}

// %% [markdown]
// ## 2. A text with something to remember
// The generated tales, by characters, with asides. Somewhere in the first 16 places stands one of eight *notes*, a token that occurs nowhere else. Later, one
// time in sixteen, comes a *question*, and the right answer is the note. Answers are targets only; they are not put into the text, so the note
// is the one place where the answer stands, however far back. Guessing among eight costs ln 8 = 2.08 nats.
//
// The asides are easy on purpose: a note is found by what it is, not by where it stands. Whether the *distance* breaks even that is the question.

// %%
struct Page {
  std::vector<Token> inputs, targets;
  std::vector<Index> distance;  // of a question from its note; 0: text
  Index note = 0;               // its place
};

struct Asides {
  std::span<const Token> text;
  Token first_note, question;

  Page page(Index length, const RandomStream& stream) const {
    std::uint64_t drawn = 0;
    const auto draw = [&](Index below) { return static_cast<Index>(random_below(stream, drawn++, static_cast<std::uint64_t>(below))); };
    auto next = static_cast<std::size_t>(draw(static_cast<Index>(text.size()) - length - 1));
    Page p;
    p.note = draw(kTrained / 4);
    const auto note = static_cast<Token>(first_note + draw(kNotes));
    for (Index t = 0; t < length; ++t) {
      const bool asks = t > p.note && draw(16) == 0;
      p.inputs.push_back(t == p.note ? note : asks ? question : text[next++]);
      p.targets.push_back(asks ? note : text[next]);
      p.distance.push_back(asks ? t - p.note : 0);
    }
    return p;
  }
  BatchSource batches(Index count, Index length, std::uint64_t seed) const {
    return [*this, count, length, stream = RandomStream{seed}.at("pages")](Index step, Index) {
      Batch b;
      b.starts = {0};
      for (Index i = 0; i < count; ++i) {
        const Page p = page(length, stream.at(static_cast<std::uint64_t>(step * count + i)));
        b.inputs.insert(b.inputs.end(), p.inputs.begin(), p.inputs.end());
        b.targets.insert(b.targets.end(), p.targets.begin(), p.targets.end());
        b.starts.push_back(static_cast<Index>(b.inputs.size()));
      }
      return b;
    };
  }
};

// %% [markdown]
// What a model loses on pages of 256 tokens: on text at places 32–63 (inside the trained length) and 128–255 (beyond it), and on questions whose note
// lies at most 63 places back (near) or more (far). Each figure is a mean of pages, with its standard error.

// %%
constexpr Index kPages = 64, kBin = 16;

// Σ and count, of each of many.
struct Bins {
  std::vector<double> sums, counts;
  explicit Bins(Index n) : sums(static_cast<std::size_t>(n)), counts(sums.size()) {}
  void add(Index i, double x) { sums[static_cast<std::size_t>(i)] += x, counts[static_cast<std::size_t>(i)] += 1; }
  double mean(Index begin, Index end) const {
    double sum = 0, count = 0;
    for (Index i = begin; i < end; ++i) sum += sums[static_cast<std::size_t>(i)], count += counts[static_cast<std::size_t>(i)];
    return count == 0 ? NAN : sum / count;
  }
};

struct Losses {
  Mean inside, beyond, near, far;
  Bins places{kLong}, distances{kLong};  // of text at each place; of questions at each distance
};

// What `read` says about each token of the pages: page → losses.
Losses read_pages(const Asides& asides, std::uint64_t seed, Index pages, const std::function<std::vector<double>(const Page&)>& read) {
  Losses all;
  std::vector<double> inside, beyond, near, far;
  for (Index i = 0; i < pages; ++i) {
    const Page page = asides.page(kLong, RandomStream{seed}.at("read").at(static_cast<std::uint64_t>(i)));
    const std::vector<double> losses = read(page);
    Bins text(kLong), asked(kLong);
    for (Index t = 0; t < kLong; ++t) {
      const Index distance = page.distance[static_cast<std::size_t>(t)];
      const double loss = losses[static_cast<std::size_t>(t)];
      if (distance == 0)
        text.add(t, loss), all.places.add(t, loss);
      else
        asked.add(distance, loss), all.distances.add(distance, loss);
    }
    inside.push_back(text.mean(kTrained / 2, kTrained)), beyond.push_back(text.mean(2 * kTrained, kLong));
    if (const double m = asked.mean(0, kTrained); !std::isnan(m)) near.push_back(m);
    if (const double m = asked.mean(kTrained, kLong); !std::isnan(m)) far.push_back(m);
  }
  all.inside = mean_with_error(inside), all.beyond = mean_with_error(beyond), all.near = mean_with_error(near),
  all.far = mean_with_error(far);
  return all;
}

Losses read_whole(const Decoder<float>& model, const Asides& asides, const Notebook& nb) {
  return read_pages(asides, nb.seed(), kPages, [&](const Page& page) {
    const Index starts[] = {0, kLong};
    Workspace workspace;
    Pass<float> pass;
    pass.exec = nb.exec(), pass.starts = starts, pass.workspace = &workspace;
    std::vector<double> losses(kLong);
    decoder_loss<float>(model, pass, page.inputs, page.targets, nullptr, nullptr, 1.0F, losses);
    return losses;
  });
}

// %%
struct Named {
  std::string name;
  Losses losses;
};

// One table for all: with their errors, rounded to what they mean.
story::Table loss_table(std::string key, const std::vector<Named>& all) {
  story::Table t{std::move(key), {"model", "text, inside", "text, beyond", "± s.e.", "asked, near", "asked, far", "± s.e."}, {}, 2};
  for (const Named& n : all) {
    const Losses& l = n.losses;
    t.rows.push_back({n.name, l.inside.mean, l.beyond.mean, l.beyond.standard_error, l.near.mean, l.far.mean, l.far.standard_error});
  }
  return t;
}

story::Chart by_bin(std::string key, const std::string& title, const std::string& x, const std::vector<Named>& all, Bins Losses::*bins) {
  plot::Chart chart;
  chart.title = title, chart.x_label = x, chart.y_label = "nats";
  for (Index i = 0; i < kLong / kBin; ++i) chart.x.push_back(static_cast<double>(kBin * i + kBin / 2));
  for (const Named& n : all) {
    plot::Series s{n.name, {}};
    for (Index i = 0; i < kLong / kBin; ++i) s.y.push_back((n.losses.*bins).mean(kBin * i, kBin * (i + 1)));
    chart.series.push_back(std::move(s));
  }
  return {std::move(key), std::move(chart)};
}

const Losses& losses_of(const std::vector<Named>& all, std::string_view name) { return std::ranges::find(all, name, &Named::name)->losses; }

Decoder<float> with_window(Decoder<float> model, Index window) {  // the same weights
  for (auto& block : model.blocks) block.attention.config.core.window = window;
  return model;
}

// %% [markdown]
// ## 3. Beyond the trained length, without a step of training
// One model, two layers, trained on 64 tokens. The same weights read 256, with each scaling, and with a sliding window: each token then sees
// the last 64 only.

// %%
std::string shown(const Mean& m) { return fmt::format("{:.2f} ± {:.2f}", m.mean, m.standard_error); }

std::vector<Named> show_untrained(Notebook& nb, const Decoder<float>& model, const Asides& val) {
  std::vector<Named> all;
  for (const auto& [scaling, name] : choices<RopeScaling>()) {
    const RopeStretch stretch{scaling, scaling == RopeScaling::none ? 1 : kFactor, 0};
    all.push_back({scaling == RopeScaling::none ? "unchanged" : name, read_whole(stretched(model, kLong, stretch), val, nb)});
  }
  all.push_back({"window 64", read_whole(with_window(model, kTrained), val, nb)});
  nb.show(loss_table("untrained", all), kind_only);
  nb.show(by_bin("places", "Text: loss by place", "place", all, &Losses::places), kind_only);
  nb.show(by_bin("distances", "Questions: loss by distance of the note", "places since the note", all, &Losses::distances), kind_only);

  const Losses &unchanged = losses_of(all, "unchanged"), &linear = losses_of(all, "linear"), &ntk = losses_of(all, "ntk"),
               &window = losses_of(all, "window 64");
  const double jump = unchanged.beyond.mean - unchanged.inside.mean;
  nb.claim("unchanged, the loss on text beyond the trained length jumps by more than 0.5 nats", jump > 0.5,
           fmt::format("{} inside, {} beyond", shown(unchanged.inside), shown(unchanged.beyond)));
  nb.claim("and a question about a note further back than the trained length costs more than 1 nat, a near one less than 0.1",
           unchanged.far.mean > 1 && unchanged.near.mean < 0.1,
           fmt::format("{} far, {} near", shown(unchanged.far), shown(unchanged.near)));
  nb.claim("NTK alone removes more than half of the jump on text", unchanged.beyond.mean - ntk.beyond.mean > jump / 2,
           fmt::format("{} beyond: {:.0f}% of it", shown(ntk.beyond), 100 * (unchanged.beyond.mean - ntk.beyond.mean) / jump));
  nb.claim("plain interpolation, untrained, breaks the text even inside, by more than 1 nat",
           linear.inside.mean - unchanged.inside.mean > 1, fmt::format("{} inside, {} beyond", shown(linear.inside), shown(linear.beyond)));
  nb.claim("yet it finds the note at any distance: far questions within 0.1 nats", linear.far.mean < 0.1, shown(linear.far) + " nats");
  nb.claim("the window's text is flat: beyond within 0.1 nats of inside", std::abs(window.beyond.mean - window.inside.mean) < 0.1,
           fmt::format("{} inside, {} beyond", shown(window.inside), shown(window.beyond)));
  nb.claim("and what left the window is lost: far questions are answered worse than by guessing", window.far.mean > std::log(kNotes),
           shown(window.far) + " nats");
  return all;
}

// %% [markdown]
// The window forgets for good. Through two layers a token can hear of what stands up to 2·63 places back; beyond that another note in its place changes no
// logit by a single bit.

// %%
// The last place whose logits change when the note is another.
Index last_changed(const Decoder<float>& model, const Asides& asides, const Page& page) {
  std::vector<Token> other = page.inputs;
  Token& note = other[static_cast<std::size_t>(page.note)];
  note = note == asides.first_note ? asides.first_note + 1 : asides.first_note;
  const Matrix<float> a = decoder_read<float>(model, page.inputs), b = decoder_read<float>(model, other);
  Index t = kLong - 1;
  while (t >= 0 && a.row(t) == b.row(t)) --t;
  return t - page.note;
}

void show_forgetting(Notebook& nb, const Decoder<float>& model, const Asides& val) {
  Index reach = 0, whole = kLong;
  for (std::uint64_t i = 0; i < 8; ++i) {
    const Page page = val.page(kLong, RandomStream{nb.seed()}.at("forget").at(i));
    reach = std::max(reach, last_changed(with_window(model, kTrained), val, page));
    whole = std::min(whole, last_changed(model, val, page) + page.note);
  }
  const Index most = model.config.layers * (kTrained - 1);
  nb.claim(
      "through a window of 64 and two layers no logit more than 126 places after the note depends on it; without the window the last one "
      "does",
      reach > 0 && reach <= most && whole == kLong - 1,
      fmt::format("the last that changed stood {} places after it, without the window at place {}", reach, whole));
}

// %% [markdown]
// ## 4. Sinks
// A window as a cache that slides: the oldest token is dropped, and places are those in the cache, so none beyond 64 is ever used. With *sinks* the
// first four tokens stay (Xiao et al. 2023), because large models rest their attention on them. Does this small one need them? Reported, not
// claimed. Two things to know when reading the table: the sinks take four of the 64 places, so a note 61 to 63 places back is gone as well; and a
// note that happens to be one of the first four tokens *is* a sink, and stays.

// %%
Losses read_sliding(const Decoder<float>& model, const Asides& asides, Index sinks, const Notebook& nb) {
  return read_pages(asides, nb.seed(), 16, [&](const Page& page) {
    KvCache<float> cache = make_cache(model, 1, kTrained, true, sinks);
    std::vector<double> losses;
    for (std::size_t t = 0; t < page.inputs.size(); ++t) {
      const Matrix<float> logits = decoder_read<float>(model, std::span(page.inputs).subspan(t, 1), {.cache = &cache});
      const double most = logits.maxCoeff();
      losses.push_back(most + std::log((logits.row(0).cast<double>().array() - most).exp().sum()) - logits(0, page.targets[t]));
    }
    return losses;
  });
}

void show_sinks(Notebook& nb, const Decoder<float>& model, const Asides& val) {
  const std::vector<Named> all = {{"no sinks", read_sliding(model, val, 0, nb)}, {"4 sinks", read_sliding(model, val, 4, nb)}};
  nb.show(loss_table("sinks", all), kind_only);
}

// %% [markdown]
// ## 5. A hundred steps at the longer length
// From the same weights, 100 steps of four pages of 256 tokens: an eighth of the tokens that the training took.

// %%
void show_trained(Notebook& nb, const Decoder<float>& model, const Asides& train, const Asides& val, const std::vector<Named>& before) {
  std::vector<Named> all;
  for (const auto& [scaling, name] : choices<RopeScaling>()) {
    Decoder<float> longer = stretched(convert_decoder<float>(model), kLong, {scaling, scaling == RopeScaling::none ? 1 : kFactor, 0});
    const std::string called = scaling == RopeScaling::none ? "unchanged" : name;
    train_more(nb, called + " at 256", longer, {.steps = 100, .batch = 4, .rate = 1e-3, .min_rate = 1e-4, .warmup = 10, .seed = nb.seed()},
               train.batches(4, kLong, nb.seed() + 1));
    all.push_back({called, read_whole(longer, val, nb)});
    if (scaling == RopeScaling::none) all.push_back({"window 64", read_whole(with_window(longer, kTrained), val, nb)});
  }
  nb.show(loss_table("trained", all), kind_only);
  const Losses& unchanged = losses_of(before, "unchanged");
  std::string measured;
  bool mended = true, found = true;
  for (const Named& n : before) {
    const std::string& name = n.name;
    if (name == "window 64") continue;
    const double lost = losses_of(before, name).beyond.mean - unchanged.inside.mean,
                 left = losses_of(all, name).beyond.mean - unchanged.inside.mean;
    mended = mended && left < 0.2 * lost, found = found && losses_of(all, name).far.mean < 0.2;
    measured += fmt::format("{}{} {:+.2f} → {:+.2f}", measured.empty() ? "" : ", ", name, lost, left);
  }
  nb.claim("100 steps at 256 leave at most a fifth of what was lost on text, with or without a scaling", mended, measured + " nats");
  nb.claim("and every one of them then finds the far note within 0.2 nats", found,
           fmt::format("unchanged {}, linear {}", shown(losses_of(all, "unchanged").far), shown(losses_of(all, "linear").far)));
}

// %% [markdown]
// By its loss on text the window is as good as any of them, before and after. Only the questions tell it from a model that uses its context.
//
// ## What to say
// *The weights fit any length; the positions do not. RoPE's slow pairs reach angles that training never showed, and attention goes wrong on near
// and far matters alike. Interpolation brings every angle back into the trained range, so what was said long ago is found at once, but
// neighbours come too close, and the text breaks until a few steps have repaired it. NTK-aware scaling and YaRN spare the fast pairs, which tell neighbours apart: without
// training they keep most of the text. A hundred steps at the longer length mend all of them, also the model that was not scaled. What a scaling buys
// is a start from which little is lost, not a different end. A sliding window costs nothing on the near text and forgets the rest for good; a mean loss does not
// show that, so score what lies far back. And memory and time set the other limit: the cache grows with the length, attention's work with its square
// (notebook 07).*
//
// See it on a model: `glassformer explain position --rope-scaling yarn --rope-factor 4`, `glassformer eval --context 256 --rope-scaling ntk`.

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    show_angles(nb);
    const ToyText text = toy_text(CorpusKind::stories, 400'000, nb.seed());
    const Token first = static_cast<Token>(text.tokenizer.vocab_size());
    const Asides train{text.train, first, static_cast<Token>(first + kNotes)}, val{text.val, train.first_note, train.question};
    ModelConfig config{.vocab = train.question + 1, .context = kTrained, .layers = 2, .heads = 4, .width = 64, .position = Position::rope};
    config.embedding_std = 0.5, config.init_std = 0.125;
    const ToyRun run = train_toy(nb, "64 tokens", config, {.steps = 800, .batch = 16, .rate = 4e-3, .min_rate = 4e-4, .seed = nb.seed()},
                                 train.batches(16, kTrained, nb.seed()));
    const std::vector<Named> untrained = show_untrained(nb, run.model, val);
    show_forgetting(nb, run.model, val);
    show_sinks(nb, run.model, val);
    show_trained(nb, run.model, train, val, untrained);
  });
}
