// The story drawn for a terminal. Legend: T tokens, C channels, D head width.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "glassformer/core/require.hpp"
#include "glassformer/explain/attention.hpp"
#include "glassformer/plot/table.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

using plot::number;

constexpr Index kKeys = 8;  // keys of the chosen query that are written out
constexpr Index kRows = 8;  // rows of a matrix that are shown

std::string token_label(const AttentionStory& s, Index place) {
  return fmt::format("{} {}", place, plot::fit(plot::visible(s.tokens[static_cast<std::size_t>(place)]), 10));
}
std::vector<std::string> token_labels(const AttentionStory& s) {
  std::vector<std::string> labels;
  for (Index t = 0; t < static_cast<Index>(s.tokens.size()); ++t) labels.push_back(token_label(s, t));
  return labels;
}

class Teller {
 public:
  Teller(const AttentionStory& s, plot::Colour colour, Index width) : s_(s), colour_(colour), width_(width), labels_(token_labels(s)) {
    require(width >= 60, "attention: expected a width of 60 columns or more, found {}", width);
    choose_keys();
  }

  std::string tell() {
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
    return std::move(out_);
  }

 private:
  Index T() const { return static_cast<Index>(s_.tokens.size()); }
  Index D() const { return s_.head_dim; }
  Index at() const { return s_.query.place; }
  const std::string& label(Index place) const { return labels_[static_cast<std::size_t>(place)]; }

  void line(const std::string& text = "") { out_ += text + '\n'; }
  // What belongs to one key, beside its label or, where that is too wide, below it.
  void line_of(Index j, const std::string& text) {
    const std::string label = key(j);
    if (plot::display_width(label) + plot::display_width(text) <= width_) return line(label + text);
    line(label);
    for (const auto& l : plot::wrap(text, width_, "     ")) line(l);
  }
  void say(const std::string& sentences) {
    for (const auto& l : plot::wrap(sentences, width_, "   ")) line(l);
  }
  void step(const std::string& title, const std::string& formula) {
    const std::string head = fmt::format("{}. {}", ++steps_, title);
    const std::string right = plot::pad_left(formula, width_ - plot::display_width(head) - 1);
    const bool fits = plot::display_width(head) + 1 + plot::display_width(right) <= width_;
    line();
    line((colour_ == plot::Colour::none ? head : "\x1b[1m" + head + "\x1b[0m") + (fits ? ' ' + right : ""));
    if (!fits) say(formula);
  }
  plot::TableOptions table_options(std::vector<std::string> rows, std::vector<std::string> columns = {}) const {
    plot::TableOptions o;
    o.row_labels = std::move(rows), o.column_labels = std::move(columns);
    o.width = width_, o.max_rows = kRows, o.indent = "   ";
    return o;
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
  std::string key(Index j) const { return "   " + plot::pad_right(label(j), key_width_) + "  "; }
  std::string key_note() const { return T() > kKeys ? fmt::format(" The {} keys with the largest weights, of {}:", kKeys, T()) : ""; }

  void opening() {
    line(fmt::format("Attention, step by step: layer {} of {}, head {} of {}", s_.layer, s_.layers, s_.head, s_.heads));
    for (const auto& l : plot::wrap(s_.is_example ? "A tiny example, small enough to redo by hand." : "Model: " + s_.model, width_))
      line(l);
    std::string shape = fmt::format("T = {} tokens, C = {} channels, D = {} numbers a head", T(), s_.width, D());
    shape += s_.window > 0 ? fmt::format("; a token sees itself and {} before it.", s_.window - 1)
             : s_.causal   ? "; a token sees itself and those before it."
                           : "; every token sees all.";
    if (s_.kv_heads != s_.heads)
      shape += fmt::format(" {} query heads share {} key-value heads: this one reads number {}.", s_.heads, s_.kv_heads, s_.kv_head);
    for (const auto& l : plot::wrap(shape, width_)) line(l);
    for (const auto& note : s_.notes) {
      for (const auto& l : plot::wrap(note, width_)) line(l);
    }
    for (const auto& l : plot::wrap(fmt::format("One token is followed closely: the query {}.", quoted(at())), width_)) line(l);
  }
  std::string quoted(Index place) const {
    return fmt::format("\"{}\" (token {})", plot::visible(s_.tokens[static_cast<std::size_t>(place)]), place);
  }

  void tokens() {
    step("Tokens", fmt::format("x  [{}, {}]", T(), s_.width));
    say("Attention reads one row of C numbers for each token.");
    out_ += plot::number_table(s_.x, table_options(labels_));
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
      out_ += plot::number_table(all, table_options(labels_, names({"q", "k", "v"})));
    } else {
      out_ += plot::number_table(s_.q, table_options(labels_, names({"q"})));
      out_ += plot::number_table(s_.k, table_options(labels_, names({"k"})));
      out_ += plot::number_table(s_.v, table_options(labels_, names({"v"})));
    }
  }
  std::vector<std::string> names(std::initializer_list<const char*> of) const {
    std::vector<std::string> all;
    for (const char* name : of) {
      for (Index d = 0; d < D(); ++d) all.push_back(name + std::to_string(d));
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
    plot::TableOptions o = table_options(rows);
    o.max_rows = 16, o.decimals = 1;
    out_ += plot::number_table(w, o);
    std::string sum = fmt::format("For example, q0 of {} = ", quoted(at()));
    for (Index c = 0; c < s_.width; ++c)
      sum += fmt::format("{}{}·{}", c == 0 ? "" : " + ", number(s_.x(at(), c), 1), number(s_.wq(0, c), 1));
    if (s_.bq.size() != 0) sum += " + " + number(s_.bq(0), 1);
    say(sum + " = " + number(s_.q(at(), 0)));
  }

  void rotation() {
    step("Rotation (RoPE)", "(a, b) ← (a·cos φ − b·sin φ, a·sin φ + b·cos φ)");
    say(
        fmt::format("Each pair (i, i + {}) of a query and of a key is turned by φ = place·θᵢ, so that their product depends on how far "
                    "apart they stand. "
                    "Shown: the query, and the key of {}.",
                    D() / 2, quoted(strongest_)));
    Matrix<double> rows(4, D());
    rows << s_.q.row(at()), s_.rot_q.row(at()), s_.k.row(strongest_), s_.rot_k.row(strongest_);
    out_ += plot::number_table(rows, table_options({"q", "q turned", "k", "k turned"}));
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
      say(fmt::format("How well the query of {} fits each key: a dot product, written out.", quoted(at())) + key_note());
      for (const Index j : keys_) line_of(j, product_of(j, 0, D()) + " = " + number(s_.products(at(), j)));
      return;
    }
    const Index most = 32;
    std::string sum = product_of(strongest_, 0, std::min(D(), most));
    if (D() > most) sum += fmt::format(" + ({} more products)", D() - most);
    say(fmt::format("How well the query of {} fits the key of {}: a dot product, written out.", quoted(at()), quoted(strongest_)));
    for (const auto& l : plot::wrap(sum + " = " + number(s_.products(at(), strongest_)), width_, "     ")) line(l);
  }

  void scaling() {
    const bool alibi = s_.biased.size() != 0;
    step("Scaling", alibi ? "sⱼ = q·kⱼ/√D − m·distance" : "sⱼ = q·kⱼ/√D");
    say(fmt::format("A sum of D = {} products grows with √D; divided by √{} = {} it does not.", D(), D(),
                    number(std::sqrt(static_cast<double>(D())))) +
        (alibi ? fmt::format(" ALiBi takes off m = {:.4g} for each step of distance.", s_.slope) : "") + key_note());
    const double root = 1 / s_.scale;
    for (const Index j : keys_) {
      std::string text = plot::pad_left(number(s_.products(at(), j)), 7) + " / " + number(root);
      if (alibi) text += fmt::format(" - {:.4g}·{}", s_.slope, at() - j);
      line_of(j, text + " = " + plot::pad_left(number(alibi ? s_.biased(at(), j) : s_.scaled(at(), j)), 7));
    }
  }

  void mask() {
    step("Mask", s_.causal ? "sⱼ = −∞ where j comes after the query" : "sⱼ = −∞ where the query may not look");
    say(s_.window > 0 ? "What comes later, or stands too far back, is hidden. Row: query, column: key."
        : s_.causal   ? "A token must not see what it has to predict, so later keys are hidden. Row: query, column: key."
                      : "This model hides nothing. Row: query, column: key.");
    out_ += plot::number_table(s_.scores, table_options(labels_, short_labels()));
  }
  std::vector<std::string> short_labels() const {
    std::vector<std::string> all;
    for (Index t = 0; t < T(); ++t) all.push_back(plot::fit(label(t), 7));
    return all;
  }

  void softmax() {
    const AttentionQuery& a = s_.query;
    step("Softmax", "pⱼ = exp(sⱼ − max)/Σᵢ exp(sᵢ − max)");
    say(fmt::format("Weights that are positive and add up to 1. The largest score is max = {}; taking it off changes no weight and keeps "
                    "exp from overflowing.",
                    number(a.maximum)) +
        key_note());
    for (const Index j : keys_) {
      const double score = s_.scores(at(), j), e = a.exponentials(j);
      const std::string power = std::isinf(score) ? "exp(−∞)"
                                                  : fmt::format("exp({} {} {})", plot::pad_left(number(score), 6),
                                                                a.maximum < 0 ? "+" : "-", number(std::abs(a.maximum)));
      line_of(j, plot::pad_right(power, 19) + " = " + number(e) + "    " + number(e) + "/" + number(a.sum) + " = " +
                     number(s_.pattern(at(), j)));
    }
    line("   " + plot::pad_right(T() > kKeys ? "all" : "sum", key_width_) + "  " + std::string(19, ' ') + " = " + number(a.sum));
  }

  void weighted_sum() {
    step("Weighted sum of values", "z = Σⱼ pⱼ·vⱼ");
    say("Each value counts as much as its weight." + key_note());
    const bool all = static_cast<Index>(keys_.size()) == T();
    const Index n = static_cast<Index>(keys_.size());
    Matrix<double> rows(n + (all ? 1 : 2), D());
    std::vector<std::string> labels;
    for (Index i = 0; i < n; ++i) {
      const Index j = keys_[static_cast<std::size_t>(i)];
      rows.row(i) = s_.query.weighted.row(j);
      labels.push_back(plot::pad_right(label(j), key_width_) + "  " + number(s_.pattern(at(), j)) + "·v");
    }
    if (!all) {
      rows.row(n) = s_.query.weighted.colwise().sum() - rows.topRows(n).colwise().sum();
      labels.push_back("all other keys");
    }
    rows.bottomRows(1) = s_.z.row(at());
    labels.push_back("sum: z");
    plot::TableOptions o = table_options(labels);
    o.max_rows = kKeys + 2, o.label_width = 30;
    out_ += plot::number_table(rows, o);
  }

  void output() {
    step("Output", s_.bq.size() != 0 ? "y = Σ_heads z·Woᵀ + b" : "y = Σ_heads z·Woᵀ");
    say(fmt::format("Wo turns this head's z back into C channels; the {} heads' shares are added{}.", s_.heads,
                    s_.bq.size() != 0 ? ", with the bias" : ""));
    Matrix<double> rows(2, s_.width);
    rows << s_.share.row(at()), s_.output.row(at());
    out_ += plot::number_table(rows, table_options({"this head", "all heads: y"}));
  }

  void pattern() {
    step("The whole pattern", fmt::format("softmax of every row  [{0}, {0}]", T()));
    say("Row: query, column: key. The arrow marks the query that was followed.");
    out_ += attention_heat_map(s_, colour_, width_);
    line();
    for (const auto& l : plot::wrap(fmt::format("Every number comes from the engine's own pass. Added up again here, the sums differ from "
                                                "it by {:.1e} at most (relative).",
                                                s_.deviation),
                                    width_))
      line(l);
  }

  const AttentionStory& s_;
  plot::Colour colour_;
  Index width_;
  std::vector<std::string> labels_;
  std::vector<Index> keys_;
  Index strongest_ = 0, key_width_ = 0, steps_ = 0;
  std::string out_;
};

}  // namespace

std::string attention_text(const AttentionStory& s, plot::Colour colour, Index width) { return Teller(s, colour, width).tell(); }

std::string attention_heat_map(const AttentionStory& s, plot::Colour colour, Index width, Index max_rows) {
  Matrix<double> cells = s.pattern;
  for (Index i = 0; i < cells.size(); ++i) {
    if (std::isinf(s.scores.data()[i])) cells.data()[i] = std::numeric_limits<double>::quiet_NaN();  // a masked key is no small weight
  }
  plot::HeatMapOptions o;
  o.row_labels = token_labels(s);
  for (const auto& token : s.tokens) o.column_labels.push_back(plot::visible(token));
  o.colour = colour, o.width = width, o.max_rows = max_rows, o.indent = " ";
  o.marked_row = s.query.place;
  return plot::heat_map(cells, o);
}

}  // namespace glassformer
