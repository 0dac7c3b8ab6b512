// The KV cache as a story. Legend: L layers, T tokens, H query heads, G key-value heads, D head width, b bytes a number.
#include "explain/cache_run.hpp"
#include "explain/teller.hpp"

namespace glassformer {
namespace {

using plot::number;

constexpr Index kSteps = 12;          // that are written out
constexpr double kRounding = 1e-4;  // of the largest logit: what another order of adding may change

class CacheTeller : Teller {
 public:
  CacheTeller(const Decoder<float>& m, const CacheRun& run, const CacheQuestion& q, bool example)
      : m_(m), run_(run), q_(q), shape_(run.cache->shape()), example_(example) {}

  Story tell(const SlidingProbe& small, const SlidingProbe& real) {
    opening();
    steps();
    totals();
    equality();
    contents();
    bytes();
    eight_bits();
    sliding(small, real);
    if (!example_) times();
    data();
    return std::move(out_);
  }

 private:
  Index T() const { return static_cast<Index>(run_.text.ids.size()); }
  void count(std::string key, std::string label, Index value, std::string unit = "") {
    put(story::Number{std::move(key), std::move(label), static_cast<double>(value), 0, std::move(unit)});
  }
  // The steps that are shown: all, or the first and the last.
  std::vector<std::size_t> shown() const {
    std::vector<std::size_t> all;
    const std::size_t n = run_.steps.size();
    for (std::size_t i = 0; i < n; ++i) {
      if (n <= static_cast<std::size_t>(kSteps) || i < kSteps / 2 || i + kSteps / 2 >= n) all.push_back(i);
    }
    return all;
  }
  std::string reads(std::size_t step) const {
    if (step == 0 && run_.prompt > 1) return fmt::format("the prompt, {} tokens", run_.prompt);
    return quoted_bytes(run_.text.tokens[static_cast<std::size_t>(run_.steps[step].read - 1)]);
  }

  void opening() {
    out_.component = "cache";
    out_.title = "The KV cache, step by step: one decode with it and without";
    out_.opening.push_back(example_ ? "A tiny example, small enough to redo by hand: random weights, two layers, two heads of width two."
                                    : fmt::format("Model: {}", run_.text.model));
    out_.opening.insert(out_.opening.end(), run_.text.notes.begin(), run_.text.notes.end());
    out_.opening.push_back(fmt::format("The model reads {}, then {} more token{} that it chooses itself (greedily).",
                                       run_.prompt == 1 ? "one token" : fmt::format("a prompt of {} tokens", run_.prompt), q_.new_tokens,
                                       q_.new_tokens == 1 ? "" : "s"));
    out_.opening.push_back(
        "Later tokens never change the keys and values of earlier ones, because no token sees what comes after it. So they can be "
        "kept: that is all the cache is.");
  }

  void steps() {
    step("What each step computes", "rows of q, k, v in each layer");
    story::Table table{.key = "", .columns = {"step", "reads", "computed", "from cache", "without"}, .rows = {}, .decimals = 0};
    for (const std::size_t i : shown()) {
      const CacheStep& s = run_.steps[i];
      table.rows.push_back({static_cast<double>(i), reads(i), static_cast<double>(s.computed), static_cast<double>(s.from_cache),
                            static_cast<double>(s.computed_without)});
    }
    put(std::move(table));
    if (run_.steps.size() > static_cast<std::size_t>(kSteps))
      say(fmt::format("(The first and the last {} of {} steps.)", kSteps / 2, run_.steps.size()));
    if (T() > 24) return;
    std::vector<std::string> picture = {fmt::format("step  {}  {}", plot::pad_right("with", T()), "without")};
    for (const std::size_t i : shown()) {
      const CacheStep& s = run_.steps[i];
      std::string with, without;
      for (Index t = 0; t < T(); ++t) {
        with += t < s.from_cache ? "░" : t < s.from_cache + s.computed ? "█" : "·";
        without += t < s.computed_without ? "█" : "·";
      }
      picture.push_back(fmt::format("{:>4}  {}  {}", i, plot::pad_right(with, 4), without));
    }
    say("A column is a token: █ computed, ░ read from the cache, · not there yet.");
    lines(std::move(picture));
  }

  void totals() {
    Index with = 0, without = 0;
    for (const CacheStep& s : run_.steps) with += s.computed, without += s.computed_without;
    const Index P = run_.prompt;
    step("Rows in all", P == 1 ? "with: n   without: 1 + 2 + … + n = n(n + 1)/2" : "with: n   without: p + (p + 1) + … + n");
    say(P == 1 ? fmt::format("n = {} tokens: {}·{}/2 = {} rows without the cache.", T(), T(), T() + 1, T() * (T() + 1) / 2)
               : fmt::format("A prompt of p = {} tokens, then up to n = {}: (n(n + 1) − p(p − 1))/2 = {} rows without the cache.", P, T(),
                             (T() * (T() + 1) - P * (P - 1)) / 2));
    count("rows_with", "rows counted with the cache", with);
    count("rows_without", "rows counted without", without);
    put(story::Number{"rows_ratio", "without/with", static_cast<double>(without) / static_cast<double>(with), 2});
  }

  void equality() {
    step("The same numbers", "logits with = logits without");
    double difference = 0, size = 0;
    Index same = 0;
    for (const CacheStep& s : run_.steps) {
      difference = std::max(difference, s.difference), size = std::max(size, s.size);
      same += s.same_choice;
    }
    const bool rounding = difference <= kRounding * std::max(1.0, size);
    say(fmt::format("{} The largest difference of any logit in any step is {:.1e}, where the largest logit is {}. Both choose the same "
                    "token in {} of {} steps.",
                    rounding ? "Both ways give the same logits but for rounding: sums are added up in another order."
                             : "The two ways give DIFFERENT logits, by more than rounding: in this model a token's keys and values depend "
                               "on what is read with it.",
                    difference, number(size), same, run_.steps.size()));
    add("same_logits", rounding);
    add("largest_difference", difference), add("largest_logit", size);
    add("same_choice", same == static_cast<Index>(run_.steps.size()));
  }

  void contents() {
    const Index group = q_.head / (m_.config.heads / shape_.kv_heads);
    step("What the cache holds",
         fmt::format("k, v  [L, G, T, D] = [{}, {}, {}, {}]", shape_.layers, shape_.kv_heads, shape_.capacity, shape_.head_dim));
    const double difference = std::max(largest(run_.keys - run_.full_keys), largest(run_.values - run_.full_values));
    say(fmt::format(
        "Read out of it: the keys and values of layer {}, key-value head {}{}, of {} tokens{}. They are the rows that one pass over the "
        "whole text makes: the largest difference is {:.1e}.",
        q_.layer, group, shape_.kv_heads == m_.config.heads ? "" : fmt::format(" (which query head {} reads)", q_.head), T(),
        m_.rope ? "; keys are kept turned by RoPE" : "", difference));
    const std::vector<std::string> labels = token_labels(run_.text);
    const auto grid = [&](const char* key, const char* name, const Matrix<double>& values) {
      put(story::Grid{.key = key, .values = values, .rows = labels, .columns = numbered(name, shape_.head_dim)});
    };
    if (shape_.head_dim <= 2) {
      Matrix<double> both(T(), 2 * shape_.head_dim);
      both << run_.keys, run_.values;
      std::vector<std::string> names = numbered("k", shape_.head_dim);
      for (const std::string& name : numbered("v", shape_.head_dim)) names.push_back(name);
      put(story::Grid{.key = "", .values = both, .rows = labels, .columns = names});
      add("keys", run_.keys), add("values", run_.values);
    } else {
      grid("keys", "k", run_.keys), grid("values", "v", run_.values);
    }
    add("contents_difference", difference);
  }

  void bytes() {
    const Index b = static_cast<Index>(sizeof(float)), L = shape_.layers, G = shape_.kv_heads, D = shape_.head_dim, H = m_.config.heads;
    const Index capacity = shape_.capacity, per_token = 2 * L * G * D * b;
    step("Bytes", "2·L·T·G·D·b");
    say(fmt::format(
        "Keys and values (2), L = {} layers, T = {} tokens of room, G = {} key-value heads of width D = {}, b = {} bytes a number.", L,
        capacity, G, D, b));
    lines({fmt::format("2·{}·{}·{}·{}·{} = {} bytes", L, capacity, G, D, b, per_token * capacity)});
    count("bytes_formula", "bytes by the formula", per_token * capacity, "bytes");
    count("bytes_measured", "that its arrays take", run_.measured_bytes, "bytes");
    count("bytes_per_token", "for each token", per_token, "bytes");
    count("bytes_used", fmt::format("used by {} tokens", T()), per_token * T(), "bytes");
    if (G == H) {
      say(fmt::format("Every one of the H = {} query heads has keys and values of its own (G = H). Shared by groups, they would take less.",
                      H));
    } else {
      say(fmt::format("H = {} query heads share G = {} key-value heads: with one each it would be {} bytes, {} times as much.", H, G,
                      per_token * capacity / G * H, H / G));
    }
    add("bytes_per_token_ungrouped", static_cast<double>(per_token / G * H));
  }

  void eight_bits() {
    const Index L = shape_.layers, G = shape_.kv_heads, D = shape_.head_dim, T_room = shape_.capacity;
    const RoundedRow& r = run_.key_int8;
    step("In 8 bits", "x ≈ scale·q,  scale = amax/127,  |error| ≤ scale/2");
    say(fmt::format("An int8 cache rounds each token's key and value of a head to D codes −127 … 127 and one float scale: D + 4 bytes for "
                    "D·4. The key of {} in layer {}, the row above, through it:",
                    quoted_bytes(run_.text.tokens.back()), q_.layer));
    std::vector<std::string> rows = {fmt::format("{:<8}", ""), fmt::format("{:<8}", "x"), fmt::format("{:<8}", "q"), fmt::format("{:<8}", "scale·q")};
    for (Index d = 0; d < std::min<Index>(D, 6); ++d) {  // channels that fit a line
      rows[0] += fmt::format("{:>10}", fmt::format("k{}", d));
      rows[1] += fmt::format("{:>10.4f}", r.x[d]), rows[2] += fmt::format("{:>10}", r.codes[static_cast<std::size_t>(d)]);
      rows[3] += fmt::format("{:>10.4f}", r.back[d]);
    }
    lines(std::move(rows));
    const double error = (r.x - r.back).cwiseAbs().maxCoeff();
    say(fmt::format("scale = {:.4f} / 127 = {:.6f}. The largest error of its {} numbers is {:.6f}; half a scale is {:.6f}.",
                    r.x.cwiseAbs().maxCoeff(), r.scale, D, error, r.scale / 2));
    add("int8_row_error", error), add("int8_row_scale", r.scale);
    lines({fmt::format("2·{}·{}·{}·({} + 4) = {} bytes", L, T_room, G, D, 2 * L * T_room * G * (D + 4))});
    count("int8_bytes_formula", "bytes by the formula", 2 * L * T_room * G * (D + 4), "bytes");
    count("int8_bytes_measured", "that its arrays take", run_.measured_bytes_int8, "bytes");
    put(story::Number{"int8_bytes_ratio", "32 bits/8 bits", static_cast<double>(run_.measured_bytes) / static_cast<double>(run_.measured_bytes_int8), 2});
    double difference = 0, divergence = 0;
    Index same = 0;
    for (const CacheStep& s : run_.steps) {
      difference = std::max(difference, s.difference_int8), divergence += s.divergence_int8 / static_cast<double>(run_.steps.size());
      same += s.same_choice_int8;
    }
    say(fmt::format("What it costs, on the same tokens: the largest difference of any logit is {:.1e}, the mean KL divergence of the next "
                    "token's distribution {:.1e} nats, and the first choice is the same in {} of {} steps.",
                    difference, divergence, same, run_.steps.size()));
    add("int8_largest_difference", difference), add("int8_mean_kl_nats", divergence), add("int8_same_choice", same);
  }

  // "0–3, 14, 15"
  static std::string ranges(const std::vector<Index>& places) {
    std::string out;
    for (std::size_t i = 0; i < places.size();) {
      std::size_t j = i;
      while (j + 1 < places.size() && places[j + 1] == places[j] + 1) ++j;
      out += fmt::format("{}{}", out.empty() ? "" : ", ", places[i]);
      if (j > i) out += fmt::format("{}{}", j == i + 1 ? ", " : "–", places[j]);
      i = j + 1;
    }
    return out;
  }

  void sliding(const SlidingProbe& small, const SlidingProbe& real) {
    step("When it is full", "sliding window with sinks (Xiao et al. 2023)");
    say(fmt::format(
        "A cache that slides forgets the oldest token but keeps the first few, the sinks, on which many heads rest. Seen in a cache of "
        "{} places and {} sinks, into which each token wrote its own place in the text:",
        small.capacity, small.sinks));
    std::vector<std::string> table;
    story::Table kept{.key = "sliding", .columns = {"token", "the cache then holds"}, .rows = {}, .decimals = 0};
    for (std::size_t t = 0; t < small.kept.size(); ++t) {
      if (static_cast<Index>(t) + 2 >= small.capacity) kept.rows.push_back({fmt::format("{} comes", t), ranges(small.kept[t])});
    }
    put(std::move(kept));
    const bool fixed = m_.config.position == Position::learned || m_.config.position == Position::sinusoidal;
    if (fixed) {
      say(fmt::format(
          "This model cannot slide: its positions ({}) are added to the embedding, so what was read cannot move. When its {} places "
          "are full, `sample` reads the last half of the text afresh.",
          choice_name(m_.config.position), real.capacity));
    } else {
      say(fmt::format("This model's cache has {} places; with {} sink{} it holds the tokens {} after {} tokens.", real.capacity, real.sinks,
                      real.sinks == 1 ? "" : "s", ranges(real.kept.back()), real.kept.size()));
    }
    add("can_slide", !fixed);
    add("sliding_capacity", small.capacity), add("sliding_sinks", small.sinks);
  }

  void times() {
    step("Time", "measured here, once: no promise");
    std::vector<double> with, without;
    for (std::size_t i = 1; i < run_.steps.size(); ++i) with.push_back(run_.steps[i].ms), without.push_back(run_.steps[i].ms_without);
    const auto median = [](std::vector<double>& of) {
      std::nth_element(of.begin(), of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2), of.end());
      return of[of.size() / 2];
    };
    put(story::Number{"prefill_ms", "reading the prompt", run_.steps[0].ms, 3, "ms"});
    put(story::Number{"ms_per_token", "then a token, with the cache", median(with), 3, "ms"});
    put(story::Number{"ms_per_token_without", "without (medians)", median(without), 3, "ms"});
    say("Short texts and small models gain little: a step must read all weights either way. The gain grows with the text.");
  }

  void data() {
    out_.closing.push_back("Rows were counted by a trace of the engine's own passes, keys and values read out of its cache.");
    add("model", example_ ? std::string("tiny example") : run_.text.model), add("example", example_);
    add("tokens", run_.text.tokens), add("ids", run_.text.ids), add("prompt_tokens", run_.prompt), add("layer", q_.layer),
        add("head", q_.head);
    add("layers", shape_.layers), add("heads", m_.config.heads), add("kv_heads", shape_.kv_heads), add("head_dim", shape_.head_dim);
    add("capacity", shape_.capacity), add("bytes_per_number", static_cast<Index>(sizeof(float)));
    const Index n = static_cast<Index>(run_.steps.size());
    Matrix<double> rows(n, 5);
    for (Index i = 0; i < n; ++i) {
      const CacheStep& s = run_.steps[static_cast<std::size_t>(i)];
      rows.row(i) << static_cast<double>(s.read), static_cast<double>(s.computed), static_cast<double>(s.from_cache),
          static_cast<double>(s.computed_without), s.difference;
    }
    add("steps", rows), add("step_columns", std::vector<std::string>{"read", "computed", "from_cache", "computed_without", "difference"});
  }

  const Decoder<float>& m_;
  const CacheRun& run_;
  const CacheQuestion& q_;
  const CacheShape& shape_;
  bool example_;
};

}  // namespace

Story cache_story(const Decoder<float>& m, const CacheRun& run, const CacheQuestion& q, const SlidingProbe& small, const SlidingProbe& real,
                  bool example) {
  return CacheTeller(m, run, q, example).tell(small, real);
}

}  // namespace glassformer
