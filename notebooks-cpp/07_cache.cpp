// %% [markdown]
// # 07 · What does a KV cache change?
//
// A decoder writes one token, then reads the whole text again to write the next. But in a causal model the keys and values of what stands
// there already cannot change: no later token is seen by them. So they are kept. This notebook asks four things.
//
// 1. Is the result the same?
// 2. What is saved, in operations and in milliseconds?
// 3. What does it cost, in bytes?
// 4. What happens when the cache is full, and why must the first token stay?

// %%
#include <chrono>
#include <cmath>
#include <filesystem>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/statistics.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/ops/count.hpp"
#include "glassformer/sample/prompt.hpp"
#include "program.hpp"

using namespace glassformer;

// A decoder of random weights, large enough in spread that attention is not flat.
Decoder<float> random_model(ModelConfig config, std::uint64_t seed) {
  config.init_std = config.embedding_std = 1 / std::sqrt(static_cast<double>(config.width));
  Decoder<float> model = make_decoder<float>(resolved(config));
  initialize(model, seed);
  return model;
}

std::vector<Token> random_tokens(Index count, Index vocab, std::uint64_t seed) {
  std::vector<Token> ids;
  for (Index i = 0; i < count; ++i)
    ids.push_back(static_cast<Token>(
        random_below(RandomStream{seed}.at("tokens"), static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocab))));
  return ids;
}

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// %% [markdown]
// ## 1. The same logits
// The cached pass multiplies one row, the uncached one many, so the kernels differ and the last bits may. More than that must not.

// %%
void show_agreement(Notebook& nb) {
  story::Table table{"agreement", {"positions", "largest |logit|", "largest difference"}, {}, 1};
  double worst = 0;
  for (const auto& [position, name] : choices<Position>()) {
    const Decoder<float> model =
        random_model({.vocab = 50, .context = 96, .layers = 2, .heads = 4, .kv_heads = 2, .width = 64, .position = position}, nb.seed());
    const std::vector<Token> ids = random_tokens(96, 50, nb.seed());
    const Matrix<float> uncached = decoder_read<float>(model, ids);
    KvCache<float> cache = make_cache(model, 1);
    double difference = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const Matrix<float> cached = decoder_read<float>(model, std::span(ids).subspan(t, 1), {.cache = &cache});
      difference = std::max(difference, static_cast<double>((cached.row(0) - uncached.row(static_cast<Index>(t))).cwiseAbs().maxCoeff()));
    }
    worst = std::max(worst, difference);
    table.rows.push_back(
        {name, static_cast<double>(uncached.cwiseAbs().maxCoeff()), difference < 1e-5 ? "below 1e-5" : fmt::format("{:.1e}", difference)});
  }
  nb.show(table, within(0.2));
  nb.claim("cached and uncached logits differ by less than 1e-5, for every position encoding", worst < 1e-5,
           fmt::format("at most {:.1e}", worst));
}

// %% [markdown]
// ## 2. What is saved
// We let the kernels count what they do (`ops::CountOperations`) while the model reads n tokens, one more at a time: the multiply-adds of the
// linear layers, and the pairs of a query and a key that it may see.
//
// | | rows through the linear layers | pairs, per layer and head |
// |---|---|---|
// | with cache | n | Σ t = n(n+1)/2 |
// | without | Σ t = n(n+1)/2 | Σ t(t+1)/2 = n(n+1)(n+2)/6 |
//
// A row costs each weight of the model's matrices one multiply-add, and the output head as many as its table has numbers.

// %%
// Multiply-adds of a row: the layers' matrices and the output head.
Index weights_of(const ModelConfig& c) {
  const Index attention = (2 * c.heads + 2 * c.kv_heads) * c.head_dim * c.width, mlp = (c.mlp == Mlp::swiglu ? 3 : 2) * c.hidden * c.width;
  return c.layers * (attention + mlp) + c.vocab * c.width;
}

// What the kernels did while the text was read.
ops::OperationCount counted(const std::function<void()>& work) {
  const ops::CountOperations counting;
  work();
  return counting.count();
}

void show_operations(Notebook& nb) {
  const Decoder<float> model =
      random_model({.vocab = 50, .context = 256, .layers = 1, .heads = 2, .width = 32, .position = Position::rope}, nb.seed());
  const Index row = weights_of(model.config), heads = model.config.layers * model.config.heads;
  story::Table table{"operations", {"tokens", "rows cached", "rows uncached", "pairs cached", "pairs uncached"}, {}, 0};
  std::string wrong, seen;  // the first that differs, and the last
  for (const Index n : {16, 32, 64, 128, 256}) {
    const std::vector<Token> ids = random_tokens(n, 50, nb.seed());
    KvCache<float> cache = make_cache(model, 1);
    const ops::OperationCount cached = counted([&] {
      for (std::size_t t = 0; t < ids.size(); ++t) decoder_read<float>(model, std::span(ids).subspan(t, 1), {.cache = &cache});
    });
    const ops::OperationCount uncached = counted([&] {
      for (std::size_t t = 1; t <= ids.size(); ++t) decoder_read<float>(model, std::span(ids).first(t));
    });
    const double rows[] = {static_cast<double>(cached.linear) / static_cast<double>(row), static_cast<double>(uncached.linear) / static_cast<double>(row)};
    table.rows.push_back({static_cast<double>(n), rows[0], rows[1], static_cast<double>(cached.pairs / heads), static_cast<double>(uncached.pairs / heads)});
    seen = fmt::format("{} tokens: {} and {} rows, {} and {} pairs a head", n, rows[0], rows[1], cached.pairs / heads, uncached.pairs / heads);
    const bool exact = cached.linear == row * n && uncached.linear == row * n * (n + 1) / 2 && cached.pairs == heads * n * (n + 1) / 2 &&
                       uncached.pairs == heads * n * (n + 1) * (n + 2) / 6;
    if (!exact && wrong.empty()) wrong = seen;
  }
  nb.show(table, exactly);
  nb.claim("rows grow with n instead of n(n+1)/2, pairs with n(n+1)/2 instead of n(n+1)(n+2)/6, exactly", wrong.empty(), wrong.empty() ? seen : wrong);
}

// %% [markdown]
// And the clock. The time of one more token stays nearly flat with the cache as long as T is much less than 6C, because until there the linear
// layers, about 12C² multiply-adds a token, outweigh attention's 2TC. Without the cache every token costs the whole text.

// %%
void show_times(Notebook& nb) {
  const Decoder<float> model =
      random_model({.vocab = 256, .context = 512, .layers = 4, .heads = 4, .width = 128, .position = Position::rope}, nb.seed());
  const std::vector<Token> ids = random_tokens(512, 256, nb.seed());
  plot::Chart chart;
  chart.title = "Time of one more token", chart.x_label = "tokens read", chart.y_label = "ms", chart.y_log = true;
  chart.series = {{"with cache", {}}, {"without", {}}};
  for (const Index T : {32, 64, 128, 256, 384, 512}) {
    KvCache<float> cache = make_cache(model, 1);
    const Reading<float> reading{.exec = nb.exec(), .cache = &cache};
    decoder_read<float>(model, std::span(ids).first(static_cast<std::size_t>(T - 1)), reading);
    double cached = INFINITY, uncached = INFINITY;  // the best of a few: others use this machine too
    for (int repeat = 0; repeat < 7; ++repeat) {
      cached = std::min(
          cached, milliseconds([&] { decoder_read<float>(model, std::span(ids).subspan(static_cast<std::size_t>(T - 1), 1), reading); }));
      cache.truncate(0, T - 1);
      uncached = std::min(uncached, milliseconds([&] {
                            decoder_read<float>(model, std::span(ids).first(static_cast<std::size_t>(T)), {.exec = nb.exec()});
                          }));
    }
    chart.x.push_back(static_cast<double>(T));
    chart.series[0].y.push_back(cached), chart.series[1].y.push_back(uncached);
  }
  const double ratio = chart.series[1].y.back() / chart.series[0].y.back();
  nb.show(story::Chart{"times", chart}, kind_only);
  nb.claim("at the longest context a cached token takes at most a third of the time", ratio > 3,
           fmt::format("{:.0f} times as fast at 512 tokens", ratio));
}

// %% [markdown]
// ## 3. What it costs
// Two numbers, a key and a value, for each layer, token, key-value head and channel of a head:
//
// bytes = 2·L·T·G·D·b
//
// with G key-value heads and b bytes a number, 4 in this engine. We ask the cache itself. Grouped heads divide it: that is what they are for.

// %%
void show_bytes(Notebook& nb) {
  story::Table table{"bytes", {"query heads", "key-value heads", "bytes of the cache", "by the formula", "a token"}, {}, 0};
  std::string wrong, most;  // the first that differs, and the largest
  for (const Index kv_heads : {8, 4, 2, 1}) {
    const ModelConfig c =
        resolved({.vocab = 50, .context = 1024, .layers = 6, .heads = 8, .kv_heads = kv_heads, .width = 256, .position = Position::rope});
    const Index measured = make_cache(make_decoder<float>(c), 1).bytes(), formula = 2 * c.layers * c.context * c.kv_heads * c.head_dim * 4;
    table.rows.push_back({8.0, static_cast<double>(kv_heads), static_cast<double>(measured), static_cast<double>(formula),
                          static_cast<double>(measured / c.context)});
    const std::string seen = fmt::format("{} bytes with {} key-value heads, by the formula {}", measured, kv_heads, formula);
    if (most.empty()) most = seen;
    if (measured != formula && wrong.empty()) wrong = seen;
  }
  nb.show(table, exactly);
  nb.claim("the cache holds exactly 2·L·T·G·D·4 bytes", wrong.empty(), wrong.empty() ? most : wrong);
  const double llama3 = 2.0 * 32 * 8 * 128 * 2;  // 32 layers, 8 key-value heads of 128 channels, bf16
  nb.show(story::Number{"llama3_kib", "Llama 3 8B in bf16, a token", llama3 / 1024, 0, "KiB"}, exactly);
  nb.show(story::Number{"llama3_gib", "one conversation of 8,192 tokens", llama3 * 8192 / std::pow(1024, 3), 2, "GiB"}, exactly);
}

// %% [markdown]
// ## 4. When the cache is full
// A sliding cache forgets the oldest token. Large models break when that token is the first one: many heads rest on it whenever they have
// nothing to do, because softmax must put its weight somewhere (Xiao et al. 2023). A toy model need not have such a *sink*, so we plant
// one, by the Bigram-Backcopy task of Guo et al. (2024):
//
// - most tokens are followed by a draw from a table, p(next | this token): attention has nothing to add;
// - after one of three *trigger* tokens the token before the trigger is repeated: attention must look back by one.
//
// A head that works on triggers only must do nothing elsewhere. Where does it look then?

// %%
constexpr Index kVocab = 48, kLength = 20;
constexpr Token kStart = 0, kTriggers = 3;  // tokens 1 … 3 are triggers

struct Backcopy {
  RandomStream stream;
  // Each token has four likely successors; one time in eight a trigger follows.
  Token successor(Token from, std::uint64_t draw) const {
    const double u = random_uniform(stream.at("draw"), draw);
    if (u < 0.125) return static_cast<Token>(1 + random_below(stream.at("trigger"), draw, kTriggers));
    const auto choice = static_cast<std::uint64_t>((u - 0.125) / 0.875 * 4);
    return static_cast<Token>(
        1 + kTriggers +
        static_cast<Token>(random_below(stream.at("table"), static_cast<std::uint64_t>(from) * 4 + choice, kVocab - 1 - kTriggers)));
  }
  std::vector<Token> text(Index length, std::uint64_t number) const {
    std::vector<Token> ids = {kStart};
    while (static_cast<Index>(ids.size()) < length) {
      const std::size_t n = ids.size();
      const bool triggered = ids.back() >= 1 && ids.back() <= kTriggers && n >= 2 && ids[n - 2] != kStart;
      ids.push_back(triggered ? ids[n - 2] : successor(ids.back(), number * 4096 + n));
    }
    return ids;
  }
  Batch batch(Index count, Index step) const {
    Batch b;
    b.starts = {0};
    for (Index s = 0; s < count; ++s) {
      const std::vector<Token> ids = text(kLength + 1, static_cast<std::uint64_t>(step * count + s));
      b.inputs.insert(b.inputs.end(), ids.begin(), ids.end() - 1);
      b.targets.insert(b.targets.end(), ids.begin() + 1, ids.end());
      b.starts.push_back(static_cast<Index>(b.inputs.size()));
    }
    return b;
  }
};

bool is_trigger(Token t) { return t >= 1 && t <= kTriggers; }

// Mean weight on the first token, and on the one before, of queries that are triggers and of those that are not.
struct Look {
  double first_idle = 0, first_busy = 0, before_busy = 0, evenly = 0;
};
Look look(const Decoder<float>& model, const Backcopy& task, Index texts) {
  Look sum;
  Index idle = 0, busy = 0;
  for (Index i = 0; i < texts; ++i) {
    const std::vector<Token> ids = task.text(kLength, 1'000'000 + static_cast<std::uint64_t>(i));
    Recorder<float> seen({"blocks.0.attn.pattern"});
    decoder_read<float>(model, ids, {.trace = &seen});
    const Matrix<float>& pattern = seen.at("blocks.0.attn.pattern", 0, 0);
    for (Index t = 6; t < kLength; ++t) {
      if (is_trigger(ids[static_cast<std::size_t>(t)]))
        ++busy, sum.first_busy += pattern(t, 0), sum.before_busy += pattern(t, t - 1);
      else
        ++idle, sum.first_idle += pattern(t, 0), sum.evenly += 1.0 / static_cast<double>(t + 1);
    }
  }
  const double i = static_cast<double>(idle), b = static_cast<double>(busy);
  return {sum.first_idle / i, sum.first_busy / b, sum.before_busy / b, sum.evenly / i};
}

// %% [markdown]
// After training, how does the text's loss fare beyond the window, with the first token kept and without?

// %%
// Mean loss of the tokens of a text after the first `window`, read one by one through a sliding cache.
double loss_beyond(const Decoder<float>& model, std::span<const Token> ids, Index window, Index sinks) {
  double nats = 0;
  Index count = 0;
  KvCache<float> cache = make_cache(model, 1, window, true, sinks);
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const Matrix<float> logits = decoder_read<float>(model, ids.subspan(t, 1), {.cache = &cache});
    if (static_cast<Index>(t) <= window) continue;
    const double most = logits.maxCoeff();
    nats += most + std::log((logits.row(0).cast<double>().array() - most).exp().sum()) - logits(0, ids[t + 1]);
    ++count;
  }
  return nats / static_cast<double>(count);
}

void show_sliding(Notebook& nb, const Decoder<float>& model, const Backcopy& task) {
  std::vector<double> kept, lost, difference;
  for (std::uint64_t i = 0; i < 40; ++i) {  // the same texts both ways
    const std::vector<Token> ids = task.text(6 * kLength, 2'000'000 + i);
    kept.push_back(loss_beyond(model, ids, kLength, 1)), lost.push_back(loss_beyond(model, ids, kLength, 0));
    difference.push_back(lost.back() - kept.back());
  }
  const Mean more = mean_with_error(difference);
  nb.show(story::Table{"sliding",
                       {"a cache of 20 tokens that slides", "loss beyond, nats"},
                       {{"keeping the first token", mean_with_error(kept).mean}, {"forgetting it", mean_with_error(lost).mean}}},
          kind_only);
  nb.claim("forgetting the first token costs: the loss of the same texts is higher by more than three standard errors, and by 0.005 nats or more",
           more.mean > 3 * more.standard_error && more.mean >= 0.005, fmt::format("{:+.3f} ± {:.3f} nats", more.mean, more.standard_error));
}

void show_sink(Notebook& nb) {
  const Backcopy task{RandomStream{nb.seed()}.at("backcopy")};
  const ModelConfig config{.vocab = kVocab,
                           .context = kLength,
                           .layers = 1,
                           .heads = 1,
                           .width = 64,
                           .position = Position::rope,
                           .norm = ops::Norm::rms,
                           .bias = false,
                           .norm_bias = false,
                           .tied = false,
                           .embedding_std = 1};
  const ToyRun run =
      train_toy(nb, "backcopy", config, {.steps = 1000, .batch = 24, .rate = 5e-3, .min_rate = 5e-4, .warmup = 50, .seed = nb.seed()},
                [&task](Index step, Index) { return task.batch(24, step); });
  nb.show(loss_chart("backcopy_loss", "Learning Bigram-Backcopy", {{"loss", run.losses}}), kind_only);

  const Look at = look(run.model, task, 40);
  story::Table table{"sink", {"mean weight of a query", "on the first token", "on the token before"}, {}};
  table.rows.push_back({"at triggers: there is something to copy", at.first_busy, at.before_busy});
  table.rows.push_back({"elsewhere: nothing to do", at.first_idle, "–"});
  table.rows.push_back({"(spread evenly it would be)", at.evenly, "–"});
  nb.show(table, kind_only);

  const std::vector<Token> ids = task.text(kLength, 3'000'000);
  Recorder<float> seen({"blocks.0.attn.pattern"});
  decoder_read<float>(run.model, ids, {.trace = &seen});
  story::Picture picture{"pattern", seen.at("blocks.0.attn.pattern", 0, 0).cast<double>()};
  for (const Token t : ids)
    picture.rows.push_back(t == kStart ? "start" : is_trigger(t) ? fmt::format("trigger {}", t) : fmt::format("{}", t));
  for (const Token t : ids) picture.columns.push_back(t == kStart ? "start" : fmt::format("{}", t));
  for (Index i = 0; i < picture.values.rows(); ++i) {
    for (Index j = i + 1; j < picture.values.cols(); ++j) picture.values(i, j) = NAN;
  }
  nb.show(picture, kind_only);
  nb.claim("the head looks back by one at triggers", at.before_busy > 0.6, fmt::format("weight {:.2f}", at.before_busy));
  nb.claim("and rests on the first token elsewhere: more than half of its weight, and at triggers less than a tenth",
           at.first_idle > 0.5 && at.first_busy < 0.1,
           fmt::format("{:.2f} elsewhere, {:.2f} at triggers, {:.2f} if it were spread evenly", at.first_idle, at.first_busy, at.evenly));
  show_sliding(nb, run.model, task);
}

// %% [markdown]
// What did *not* appear: in texts of 48 tokens instead of 20 the same head put only 0.2 to 0.3 of its idle weight on the first token.
// Spreading it over many tokens, whose values cancel, is another way to do nothing. And a cache that slides costs this one-layer model
// little; the collapse that Xiao et al. report needs many layers that lean on their sinks.
//
// ## A real one
// A model that others trained, stories260K, is looked at too where its file is here; it is reported, not claimed.

// %%
std::string told_of_stories() {
  const std::filesystem::path path = std::filesystem::path(__FILE__).parent_path() / "../../shared/data/stories260K";
  if (!std::filesystem::exists(path)) return "stories260K is not here.";
  const Expected<ModelFiles> model = load_model(path);
  if (!model) return "stories260K cannot be read: " + model.error();
  const Prompt prompt = read_prompt(model->decoder.config, model->tokenizer,
                                    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.");
  Recorder<float> seen;
  decoder_read<float>(model->decoder, prompt.ids, {.trace = &seen});
  const Index T = static_cast<Index>(prompt.ids.size());
  double most = 0;
  Index resting = 0;
  for (Index layer = 0; layer < model->decoder.config.layers; ++layer) {
    for (Index head = 0; head < model->decoder.config.heads; ++head) {
      const double first = seen.at(fmt::format("blocks.{}.attn.pattern", layer), 0, head).col(0).bottomRows(T / 2).mean();
      most = std::max(most, first);
      resting += first > 0.5;
    }
  }
  return fmt::format("stories260K: {} of {} heads put more than half of their weight on the first token; the most is {:.2f}.", resting,
                     model->decoder.config.layers * model->decoder.config.heads, most);
}

void show_stories(Notebook& nb) { nb.show(story::Paragraph{told_of_stories()}, kind_only); }

int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    show_agreement(nb);
    show_operations(nb);
    show_times(nb);
    show_bytes(nb);
    show_sink(nb);
    show_stories(nb);
  });
}

// %% [markdown]
// ## What to say
// *The cache keeps what cannot change. It turns the work of a text of n tokens from quadratic into linear in the rows that go through the
// layers, at 2·L·G·D·b bytes a token, which for long conversations outgrows the weights; grouped heads, quantized caches and windows
// cut that. A window must keep the first tokens, because idle heads rest there.*
//
// See it step by step: `glassformer explain cache`.
