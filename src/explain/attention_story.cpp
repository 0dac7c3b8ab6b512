// The steps of one head as a story. Legend: T tokens, C channels, D head width.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "explain/teller.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/explain/attention.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

using plot::number;

constexpr Index kKeys = 8;  // keys of the chosen query that are written out

class AttentionTeller : Teller {
 public:
  explicit AttentionTeller(const AttentionSteps& s) : s_(s), labels_(token_labels(s.tokens)) { choose_keys(); }

  Story tell() {
    opening();
    tokens();
    projections();
    if (s_.rotated) rotation();
    products();
    scaling();
    mask();
    softmax();
    weighted_sum();
    output();
    pattern();
    data();
    return std::move(out_);
  }

 private:
  Index T() const { return static_cast<Index>(s_.tokens.size()); }
  Index D() const { return s_.head_dim; }
  Index at() const { return s_.query.place; }
  const std::string& label(Index place) const { return labels_[static_cast<std::size_t>(place)]; }

  void grid(std::string key, const Matrix<double>& values, std::vector<std::string> rows, std::vector<std::string> columns = {}) {
    put(story::Grid{.key = std::move(key), .values = values, .rows = std::move(rows), .columns = std::move(columns)});
  }

  // All keys, or those with the largest weight, in the order of their places.
  void choose_keys() {
    keys_.resize(static_cast<std::size_t>(T()));
    std::iota(keys_.begin(), keys_.end(), Index{0});
    std::stable_sort(keys_.begin(), keys_.end(), [this](Index a, Index b) { return s_.pattern(at(), a) > s_.pattern(at(), b); });
    strongest_ = keys_.front();
    if (T() > kKeys) keys_.resize(kKeys);
    std::sort(keys_.begin(), keys_.end());
    for (const Index j : keys_) key_width_ = std::max(key_width_, plot::display_width(label(j)));
  }
  // One line for each of them, beside its label.
  template <class F>
  std::vector<std::string> lines_of_keys(const F& text_of) const {
    std::vector<std::string> lines;
    for (const Index j : keys_) lines.push_back(fmt::format("{}  {}", plot::pad_right(label(j), key_width_), text_of(j)));
    return lines;
  }
  std::string key_note() const { return T() > kKeys ? fmt::format(" The {} keys with the largest weights, of {}:", kKeys, T()) : ""; }
  std::string quoted(Index place) const {
    return fmt::format("\"{}\" (token {})", plot::visible(s_.tokens[static_cast<std::size_t>(place)]), place);
  }

  void opening() {
    out_.component = "attention";
    out_.title = fmt::format("Attention, step by step: layer {} of {}, head {} of {}", s_.layer, s_.layers, s_.head, s_.heads);
    out_.opening.push_back(s_.is_example ? "A tiny example, small enough to redo by hand." : fmt::format("Model: {}", s_.model));
    std::string shape = fmt::format("T = {} tokens, C = {} channels, D = {} numbers a head", T(), s_.width, D());
    shape += s_.window > 0 && s_.causal ? fmt::format("; a token sees itself and {} before it.", s_.window - 1)
             : s_.causal                ? "; a token sees itself and those before it."
                                        : "; every token sees all.";
    out_.opening.push_back(std::move(shape));
    if (s_.kv_heads != s_.heads) out_.opening.push_back(groups());
    out_.opening.insert(out_.opening.end(), s_.notes.begin(), s_.notes.end());
    out_.opening.push_back(fmt::format("One token is followed closely: the query {}.", quoted(at())));
  }
  // "Grouped heads: query heads 0 1 read key-value head 0, …"
  std::string groups() const {
    const Index size = s_.heads / s_.kv_heads;
    std::string out = fmt::format("{} query heads share {} key-value heads:", s_.heads, s_.kv_heads);
    for (Index g = 0; g < s_.kv_heads; ++g)
      out += fmt::format("{} {} to {} read number {}", g == 0 ? "" : ",", g * size, (g + 1) * size - 1, g);
    return out + fmt::format(". This one reads number {}.", s_.kv_head);
  }

  void tokens() {
    step("Tokens", fmt::format("x  [{}, {}]", T(), s_.width));
    say("Attention reads one row of C numbers for each token.");
    grid("x", s_.x, labels_);
  }

  // q, k and v beside each other where they fit.
  void projections() {
    const std::string bias = s_.bq.size() != 0 ? " + b" : "";
    step("Queries, keys, values", fmt::format("q = x·Wqᵀ{0}   k = x·Wkᵀ{0}   v = x·Wvᵀ{0}   each [{1}, {2}]", bias, T(), D()));
    say("A query says what its token looks for, a key what its token offers, a value what is handed over.");
    if (s_.adapted) say("(A LoRA adapter adds to these weights.)");
    if (s_.width <= 8 && D() <= 4) weights();
    if (3 * D() <= 6) {
      Matrix<double> all(T(), 3 * D());
      all << s_.q, s_.k, s_.v;
      grid("", all, labels_, names({"q", "k", "v"}));
    } else {
      grid("", s_.q, labels_, names({"q"}));
      grid("", s_.k, labels_, names({"k"}));
      grid("", s_.v, labels_, names({"v"}));
    }
  }
  std::vector<std::string> names(std::initializer_list<const char*> of) const {
    std::vector<std::string> all;
    for (const char* name : of) {
      for (Index d = 0; d < D(); ++d) all.push_back(fmt::format("{}{}", name, d));
    }
    return all;
  }
  void weights() {
    Matrix<double> w(3 * D(), s_.width);
    w << s_.wq, s_.wk, s_.wv;
    std::vector<std::string> rows;
    for (const char* name : {"Wq", "Wk", "Wv"}) {
      for (Index d = 0; d < D(); ++d) rows.push_back(fmt::format("{} row {}", name, d));
    }
    put(story::Grid{.key = "", .values = w, .rows = rows, .decimals = 1, .max_rows = 16});
    std::string sum = fmt::format("For example, q0 of {} = ", quoted(at()));
    for (Index c = 0; c < s_.width; ++c)
      sum += fmt::format("{}{}·{}", c == 0 ? "" : " + ", number(s_.x(at(), c), 1), number(s_.wq(0, c), 1));
    if (s_.bq.size() != 0) sum += fmt::format(" + {}", number(s_.bq(0), 1));
    say(fmt::format("{} = {}", sum, number(s_.q(at(), 0))));
  }

  void rotation() {
    step("Rotation (RoPE)", "(a, b) ← (a·cos φ − b·sin φ, a·sin φ + b·cos φ)");
    say(
        fmt::format("Each pair (i, i + {}) of a query and of a key is turned by φ = place·θᵢ, so that their product depends on how far "
                    "apart they stand. Shown: the query, and the key of {}.",
                    D() / 2, quoted(strongest_)));
    Matrix<double> rows(4, D());
    rows << s_.q.row(at()), s_.rot_q.row(at()), s_.k.row(strongest_), s_.rot_k.row(strongest_);
    grid("", rows, {"q", "q turned", "k", "k turned"});
  }

  std::string product_of(Index j, Index first, Index last) const {
    const Matrix<double>&q = s_.rotated ? s_.rot_q : s_.q, &k = s_.rotated ? s_.rot_k : s_.k;
    std::string sum;
    for (Index d = first; d < last; ++d) sum += fmt::format("{}{}·{}", d == 0 ? "" : " + ", number(q(at(), d), 2), number(k(j, d), 2));
    return sum;
  }
  void products() {
    step("Scores", "q·kⱼ = Σ_d q_d·kⱼ_d");
    if (D() <= 4) {
      say(fmt::format("How well the query of {} fits each key: a dot product, written out.{}", quoted(at()), key_note()));
      put(story::Lines{
          lines_of_keys([this](Index j) { return fmt::format("{} = {}", product_of(j, 0, D()), number(s_.products(at(), j))); })});
      return;
    }
    const Index most = 32;
    std::string sum = product_of(strongest_, 0, std::min(D(), most));
    if (D() > most) sum += fmt::format(" + ({} more products)", D() - most);
    say(fmt::format("How well the query of {} fits the key of {}: a dot product, written out.", quoted(at()), quoted(strongest_)));
    put(story::Lines{{fmt::format("{} = {}", sum, number(s_.products(at(), strongest_)))}});
  }

  void scaling() {
    const bool alibi = s_.biased.size() != 0;
    step("Scaling", alibi ? "sⱼ = q·kⱼ/√D − m·distance" : "sⱼ = q·kⱼ/√D");
    const double root = 1 / s_.scale, tau = 1 / (s_.scale * std::sqrt(static_cast<double>(D())));  // τ: the softmax's temperature
    if (std::abs(tau - 1) > 1e-6)
      say(fmt::format("Here scores are divided by √D·τ with τ = {:.4g}, the softmax's temperature: {} in all.", tau, number(root)));
    say(fmt::format("A sum of D = {0} products grows with √D; divided by √{0} = {1} it does not.{2}{3}", D(),
                    number(std::sqrt(static_cast<double>(D()))),
                    alibi ? fmt::format(" ALiBi takes off m = {:.4g} for each step of distance.", s_.slope) : "", key_note()));
    put(story::Lines{lines_of_keys([&](Index j) {
      return fmt::format("{} / {}{} = {}", plot::pad_left(number(s_.products(at(), j)), 7), number(root),
                         alibi ? fmt::format(" - {:.4g}·{}", s_.slope, std::abs(at() - j)) : "",
                         plot::pad_left(number(alibi ? s_.biased(at(), j) : s_.scaled(at(), j)), 7));
    })});
  }

  void mask() {
    step("Mask", s_.causal ? "sⱼ = −∞ where j comes after the query" : "sⱼ = −∞ where the query may not look");
    say(s_.window > 0 && s_.causal ? "What comes later, or stands too far back, is hidden. Row: query, column: key."
        : s_.causal                ? "A token must not see what it has to predict, so later keys are hidden. Row: query, column: key."
                                   : "This model hides nothing. Row: query, column: key.");
    std::vector<std::string> columns;
    for (const std::string& l : labels_) columns.push_back(plot::fit(l, 7));
    grid("scores", s_.scores, labels_, columns);
  }

  void softmax() {
    const AttentionQuery& a = s_.query;
    step("Softmax", "pⱼ = exp(sⱼ − max)/Σᵢ exp(sᵢ − max)");
    say(
        fmt::format("Weights that are positive and add up to 1. The largest score is max = {}; taking it off changes no weight and keeps "
                    "exp from overflowing.{}",
                    number(a.maximum), key_note()));
    std::vector<std::string> lines = lines_of_keys([&](Index j) {
      const double score = s_.scores(at(), j), e = a.exponentials(j);
      const std::string power = std::isinf(score) ? "exp(−∞)"
                                                  : fmt::format("exp({} {} {})", plot::pad_left(number(score), 6),
                                                                a.maximum < 0 ? "+" : "-", number(std::abs(a.maximum)));
      return fmt::format("{} = {}    {}/{} = {}", plot::pad_right(power, 19), number(e), number(e), number(a.sum),
                         number(s_.pattern(at(), j)));
    });
    lines.push_back(
        fmt::format("{}  {} = {}", plot::pad_right(T() > kKeys ? "all" : "sum", key_width_), std::string(19, ' '), number(a.sum)));
    put(story::Lines{std::move(lines)});
  }

  void weighted_sum() {
    step("Weighted sum of values", "z = Σⱼ pⱼ·vⱼ");
    say(fmt::format("Each value counts as much as its weight.{}", key_note()));
    const bool all = static_cast<Index>(keys_.size()) == T();
    const Index n = static_cast<Index>(keys_.size());
    Matrix<double> rows(n + (all ? 1 : 2), D());
    std::vector<std::string> labels;
    for (Index i = 0; i < n; ++i) {
      const Index j = keys_[static_cast<std::size_t>(i)];
      rows.row(i) = s_.query.weighted.row(j);
      labels.push_back(fmt::format("{}  {}·v", plot::pad_right(label(j), key_width_), number(s_.pattern(at(), j))));
    }
    if (!all) {
      rows.row(n) = s_.query.weighted.colwise().sum() - rows.topRows(n).colwise().sum();
      labels.push_back("all other keys");
    }
    rows.bottomRows(1) = s_.z.row(at());
    labels.push_back("sum: z");
    put(story::Grid{.key = "", .values = rows, .rows = std::move(labels), .max_rows = kKeys + 2, .label_width = 30});
  }

  void output() {
    const bool bias = s_.bq.size() != 0;
    step("Output", bias ? "y = Σ_heads z·Woᵀ + b" : "y = Σ_heads z·Woᵀ");
    say(fmt::format("Wo turns this head's z back into C channels; the {} heads' shares are added{}.", s_.heads,
                    bias ? ", with the bias" : ""));
    Matrix<double> rows(2, s_.width);
    rows << s_.share.row(at()), s_.output.row(at());
    grid("", rows, {"this head", "all heads: y"});
  }

  void pattern() {
    step("The whole pattern", fmt::format("softmax of every row  [{0}, {0}]", T()));
    say("Row: query, column: key. The arrow marks the query that was followed.");
    put(attention_picture(s_));
    deviation_ = s_.deviation;
    out_.closing.push_back(deviation_sentence());
  }

  void data() {
    const auto matrix = [&](const char* key, const Matrix<double>& m) {
      if (m.size() != 0) add(key, m);
    };
    add("model", s_.model), add("example", s_.is_example), add("tokens", s_.tokens), add("ids", s_.ids);
    add("layer", s_.layer), add("layers", s_.layers), add("head", s_.head), add("heads", s_.heads), add("kv_head", s_.kv_head);
    add("kv_heads", s_.kv_heads), add("head_dim", s_.head_dim), add("width", s_.width), add("scale", s_.scale),
        add("alibi_slope", s_.slope);
    add("causal", s_.causal), add("window", s_.window), add("rope", s_.rotated), add("adapted", s_.adapted);
    matrix("wq", s_.wq), matrix("wk", s_.wk), matrix("wv", s_.wv), matrix("wo", s_.wo);
    if (s_.bq.size() != 0) add("bq", s_.bq), add("bk", s_.bk), add("bv", s_.bv);
    matrix("q", s_.q), matrix("k", s_.k), matrix("v", s_.v), matrix("rot_q", s_.rot_q), matrix("rot_k", s_.rot_k);
    matrix("products", s_.products), matrix("scaled", s_.scaled), matrix("biased", s_.biased), matrix("pattern", s_.pattern);
    matrix("z", s_.z), matrix("head_output", s_.share), matrix("output", s_.output);
    add("query", s_.query.place), add("query_terms", s_.query.terms), add("query_maximum", s_.query.maximum);
    add("query_exponentials", s_.query.exponentials), add("query_sum", s_.query.sum), add("query_weighted", s_.query.weighted);
    add("deviation", s_.deviation);
  }

  const AttentionSteps& s_;
  std::vector<std::string> labels_;
  std::vector<Index> keys_;
  Index strongest_ = 0, key_width_ = 0;
};

}  // namespace

Story attention_story(const AttentionSteps& s) { return AttentionTeller(s).tell(); }

story::Picture attention_picture(const AttentionSteps& s) {
  story::Picture p{.key = "", .values = s.pattern, .rows = token_labels(s.tokens), .marked_row = s.query.place};
  for (Index i = 0; i < p.values.size(); ++i) {
    if (std::isinf(s.scores.data()[i])) p.values.data()[i] = std::numeric_limits<double>::quiet_NaN();  // a masked key is no small weight
  }
  for (const auto& token : s.tokens) p.columns.push_back(plot::visible(token));
  return p;
}

}  // namespace glassformer
