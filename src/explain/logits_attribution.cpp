// Direct logit attribution. Legend: C channels, V vocabulary, L layers, H heads, D head width.
#include <numeric>
#include <set>

#include "explain/logits_example.hpp"
#include "explain/teller.hpp"
#include "glassformer/model/reading.hpp"

namespace glassformer {
namespace {

constexpr double kTolerance = 1e-4;  // of the sum against the engine's logit
constexpr std::size_t kBars = 16;    // parts that are drawn

struct Part {
  std::string name;
  Matrix<double> row;  // [1, C] what it adds to the stream; empty for the final norm's bias
  double value = 0;    // its share of the logit
};

struct Attribution {
  const ExplainedText& text;
  const ModelConfig& config;
  Index place = 0;
  Token answer = 0, against = -1;
  bool own_answer = true;
  Matrix<double> stream = {};                // [1, C] what ln_final reads
  double mean = 0, inverse_deviation = 0;    // of ln_final there
  Matrix<double> gain = {}, direction = {};  // [1, C] g; d = r·(g ⊙ (u_answer − u_against))
  Matrix<double> unembed = {};               // [1, C] u_answer − u_against
  std::vector<Part> parts = {};
  Matrix<double> by_layer = {};  // [L, H (+ 1)]
  double logit = 0, sum = 0;
};

std::set<std::string, std::less<>> sites_of(const ModelConfig& c) {
  std::set<std::string, std::less<>> sites = {"embed", "pos_embed", fmt::format("blocks.{}.resid_post", c.layers - 1)};
  for (Index l = 0; l < c.layers; ++l) {
    sites.insert(fmt::format("blocks.{}.attn.z", l));
    sites.insert(fmt::format("blocks.{}.mlp_out", l));
  }
  return sites;
}

// Edits that write into the stream beside the parts, or behind them: the shares would miss the logit.
template <class S>
void require_editable(const Decoder<S>& m) {
  if (!m.hook) return;
  std::vector<std::string> sites = {"logits", "ln_final.normalized"};
  for (Index l = 0; l < m.config.layers; ++l) {
    for (const char* part : {"resid_pre", "attn_out", "resid_mid", "resid_post"}) sites.push_back(fmt::format("blocks.{}.{}", l, part));
  }
  for (const std::string& site : sites)
    require(!m.hook->wants(site),
            "attribution: expected edits of parts alone (embed, pos_embed, and in a block attn.*, mlp.*, mlp_out, ln1.*, ln2.*), found one of "
            "{}: the parts would not add up to the logit",
            site);
}

// What each head adds to the stream: the output projection of its columns of z alone, without the bias. [H, C]
template <class S>
Matrix<double> head_rows(const AttentionParams<S>& p, const Matrix<S>& z, const Exec& exec) {
  const Index H = p.config.core.heads, D = p.config.core.head_dim;
  Matrix<S> apart = Matrix<S>::Zero(H, z.cols()), y(H, p.out.weight.rows());
  for (Index h = 0; h < H; ++h) apart.row(h).segment(h * D, D) = z.row(0).segment(h * D, D);
  Projection<S> out = p.out;
  out.bias = {};
  Workspace workspace;
  Pass<S> pass;
  pass.exec = exec, pass.workspace = &workspace;
  projection_forward<S>(out, pass, "attn.out", apart, y);
  return y.template cast<double>();
}

template <class S>
void collect_parts(const Decoder<S>& m, const Recorder<S>& seen, const Exec& exec, Attribution& v) {
  const auto row = [&](const std::string& site) -> Matrix<double> { return seen.at(site).row(v.place).template cast<double>(); };
  v.parts.push_back({"embedding", row("embed")});
  const Position position = m.config.position;
  if (position == Position::learned || position == Position::sinusoidal) v.parts.push_back({"position", row("pos_embed")});
  for (Index l = 0; l < m.config.layers; ++l) {
    const AttentionParams<S>& attention = m.blocks[static_cast<std::size_t>(l)].attention;
    const Matrix<S> z = seen.at(fmt::format("blocks.{}.attn.z", l)).row(v.place);
    const Matrix<double> heads = head_rows<S>(attention, z, exec);
    for (Index h = 0; h < heads.rows(); ++h) v.parts.push_back({fmt::format("block{}.head{}", l, h), heads.row(h)});
    if (attention.out.bias) v.parts.push_back({fmt::format("block{}.attn_bias", l), in_double(attention.out.bias)});
    if (m.config.mlp != Mlp::none) v.parts.push_back({fmt::format("block{}.mlp", l), row(fmt::format("blocks.{}.mlp_out", l))});
  }
}

// The engine's norm at this place, frozen, and the direction that the logit reads.
template <class S>
void freeze_norm(const Decoder<S>& m, const Matrix<S>& stream, const Exec& exec, Attribution& v) {
  Matrix<S> hidden(1, stream.cols());
  ops::NormStatistics<S> statistics;
  ops::norm_forward<S>(m.config.norm, stream, m.ln_final.gain, m.ln_final.bias, static_cast<S>(m.config.norm_epsilon), hidden, statistics,
                       exec);
  v.stream = stream.template cast<double>();
  v.mean = static_cast<double>(statistics.mean(0)), v.inverse_deviation = static_cast<double>(statistics.inverse_deviation(0));
  v.gain = in_double(m.ln_final.gain);
  v.unembed = (*m.unembed.weight).row(v.answer).template cast<double>();
  if (v.against >= 0) v.unembed -= (*m.unembed.weight).row(v.against).template cast<double>();
  v.direction = v.inverse_deviation * v.gain.cwiseProduct(v.unembed);
}

void share_out(const Matrix<double>& bias, Attribution& v) {
  const bool centres = v.config.norm == ops::Norm::layer;
  for (Part& p : v.parts) p.value = v.direction.row(0).dot(p.row.row(0)) - (centres ? p.row.mean() * v.direction.sum() : 0.0);
  if (bias.size() != 0) v.parts.push_back({"final_norm_bias", {}, bias.row(0).dot(v.unembed.row(0))});
  double size = 1;
  for (const Part& p : v.parts) v.sum += p.value, size = std::max(size, std::abs(p.value));
  if (!(std::abs(v.sum - v.logit) <= kTolerance * size))
    throw std::runtime_error(fmt::format("attribution: the parts add up to {}, but the logit is {}", v.sum, v.logit));
  const Index L = v.config.layers, H = v.config.heads, columns = H + (v.config.mlp != Mlp::none);
  v.by_layer.resize(L, columns);
  std::size_t i = 0;
  for (Index l = 0; l < L; ++l) {
    while (v.parts[i].name != fmt::format("block{}.head0", l)) ++i;
    for (Index h = 0; h < H; ++h) v.by_layer(l, h) = v.parts[i++].value;
    if (columns == H) continue;
    while (v.parts[i].name != fmt::format("block{}.mlp", l)) ++i;
    v.by_layer(l, H) = v.parts[i].value;
  }
}

class AttributionTeller : Teller {
 public:
  explicit AttributionTeller(const Attribution& v) : v_(v) {}

  Story tell() {
    opening();
    frozen();
    if (small()) by_hand();
    bars();
    by_layer();
    total();
    data();
    return std::move(out_);
  }

 private:
  bool small() const { return v_.stream.cols() <= 8; }
  bool centres() const { return v_.config.norm == ops::Norm::layer; }
  bool has_bias() const { return v_.parts.back().row.size() == 0; }
  std::string what() const {
    return v_.against < 0 ? fmt::format("the logit of {}", token_name(v_.text, v_.answer))
                          : fmt::format("the logit of {} less that of {}", token_name(v_.text, v_.answer), token_name(v_.text, v_.against));
  }
  std::string u() const { return v_.against < 0 ? "u" : "(u₁ − u₂)"; }

  void opening() {
    out_.component = "attribution";
    out_.title = fmt::format("Where a logit comes from: what follows {}", quoted_token(v_.text, v_.place));
    out_.opening.push_back(v_.text.model.empty() ? "A tiny example, small enough to redo by hand: a channel for each of four words."
                                                 : fmt::format("Model: {}", v_.text.model));
    out_.opening.insert(out_.opening.end(), v_.text.notes.begin(), v_.text.notes.end());
    out_.opening.push_back(
        "All parts write into one stream by adding, so the stream at the end is their sum, and each can be asked for its share.");
    out_.opening.push_back(fmt::format("Followed: {} = {}.{}", what(), plot::number(v_.logit),
                                       !v_.own_answer   ? ""
                                       : v_.against < 0 ? " The model itself predicts it."
                                                        : " The first is what the model itself predicts."));
  }

  void frozen() {
    step("The final norm, frozen", fmt::format("d = r·(g ⊙ {})   share of a = {}·d", u(), centres() ? "(a − mean(a))" : "a"));
    say(
        fmt::format("The norm divides the whole stream by one number. Held at what it is here, r = {}, the logit is linear in the stream: "
                    "the share of a "
                    "part is its product with d. (A part also changes r; that is left out.)",
                    plot::number(v_.inverse_deviation, 4)));
    if (!small()) return;
    Matrix<double> rows(4, v_.stream.cols());
    rows << v_.stream, v_.gain, v_.unembed, v_.direction;
    put(story::Grid{.key = "", .values = rows, .rows = {"stream", "g", u(), "d"}, .columns = numbered("", v_.stream.cols())});
  }

  void by_hand() {
    step("The parts of the stream", centres() ? "share = (a − mean(a))·d" : "share = a·d");
    const Index C = v_.stream.cols(), n = static_cast<Index>(v_.parts.size()) - (has_bias() ? 1 : 0);
    Matrix<double> rows(n + 1, C + 1);
    std::vector<std::string> names, columns = numbered("", C);
    for (Index i = 0; i < n; ++i) {
      const Part& p = v_.parts[static_cast<std::size_t>(i)];
      rows.row(i) << p.row, p.value;
      names.push_back(p.name);
    }
    rows.row(n) << v_.stream, v_.sum - (has_bias() ? v_.parts.back().value : 0.0);
    names.push_back("sum: the stream"), columns.push_back("share");
    put(story::Grid{.key = "", .values = rows, .rows = names, .columns = columns, .max_rows = 40, .label_width = 24});
  }

  void bars() {
    step("Shares, the largest first", "");
    say("Positive speaks for it, negative against; the bar is the size.");
    std::vector<std::size_t> order(v_.parts.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [this](std::size_t a, std::size_t b) { return std::abs(v_.parts[a].value) > std::abs(v_.parts[b].value); });
    story::Chart chart{.key = "", .chart = {.kind = plot::Chart::Kind::bars, .title = "", .x_label = "", .y_label = ""}};
    chart.chart.series.push_back({"share", {}});
    double rest = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const Part& p = v_.parts[order[i]];
      if (i >= kBars) {
        rest += p.value;
        continue;
      }
      chart.chart.names.push_back(p.name);
      chart.chart.series[0].y.push_back(p.value);
    }
    put(std::move(chart));
    if (order.size() > kBars) say(fmt::format("The {} others add up to {}.", order.size() - kBars, plot::number(rest)));
    std::vector<std::string> names;
    Vector<double> values(static_cast<Index>(order.size()));
    for (std::size_t i = 0; i < order.size(); ++i) {
      names.push_back(v_.parts[order[i]].name);
      values(static_cast<Index>(i)) = v_.parts[order[i]].value;
    }
    add("part_names", names), add("part_values", values);
  }

  void by_layer() {
    step("By layer", "heads side by side, the MLP last");
    std::vector<std::string> rows, columns = numbered("head", v_.config.heads);
    for (Index l = 0; l < v_.config.layers; ++l) rows.push_back(fmt::format("block {}", l));
    if (v_.config.mlp != Mlp::none) columns.push_back("MLP");
    put(story::Grid{.key = "by_layer", .values = v_.by_layer, .rows = rows, .columns = columns, .decimals = 2, .max_rows = 16});
  }

  void total() {
    step("The sum", "Σ shares = logit");
    const bool against = v_.against >= 0;
    put(story::Number{"sum", fmt::format("sum of {} parts", v_.parts.size()), v_.sum, 6});
    put(story::Number{"logit", against ? "the engine's difference" : "the engine's logit", v_.logit, 6});
    put(story::Number{"sum_difference", "difference", v_.sum - v_.logit, 6});
    out_.closing.push_back(fmt::format(
        "Every part is what the engine's pass added to the stream; a sum that missed the logit by more than {:g} of its largest "
        "part would not be shown. A share says what a part writes directly, not what later parts make of it.",
        kTolerance));
  }

  void data() {
    add("model", v_.text.model.empty() ? "tiny example" : v_.text.model), add("example", v_.text.model.empty());
    add("tokens", v_.text.tokens), add("ids", v_.text.ids), add("token", v_.place), add("layers", v_.config.layers),
        add("heads", v_.config.heads);
    add("answer", token_name(v_.text, v_.answer)), add("answer_id", static_cast<Index>(v_.answer));
    if (v_.against >= 0) add("against", token_name(v_.text, v_.against)), add("against_id", static_cast<Index>(v_.against));
    add("mean", v_.mean), add("inverse_deviation", v_.inverse_deviation), add("direction", v_.direction), add("stream", v_.stream);
    Matrix<double> rows(static_cast<Index>(v_.parts.size()) - (has_bias() ? 1 : 0), v_.stream.cols());
    std::vector<std::string> names;
    for (Index i = 0; i < rows.rows(); ++i) {
      rows.row(i) = v_.parts[static_cast<std::size_t>(i)].row.row(0);
      names.push_back(v_.parts[static_cast<std::size_t>(i)].name);
    }
    add("stream_parts", rows), add("stream_part_names", names);
  }

  const Attribution& v_;
};

}  // namespace

template <class S>
Story explain_attribution(const Decoder<S>& m, const ExplainedText& text, const AttributionQuestion& q) {
  require_text(text, m.config.context);
  require(m.config.placement == NormPlacement::pre,
          "attribution: expected a pre-norm model, found post-norm: its blocks normalise the stream again, so a logit is no sum of parts");
  require_editable(m);
  Attribution v{.text = text, .config = m.config, .place = checked_place(q.token, text), .own_answer = q.answer == -1};
  Recorder<S> seen(sites_of(m.config));
  const Matrix<S> logits = decoder_read<S>(m, text.ids, {.exec = q.exec, .trace = &seen});
  v.answer = checked_answer<S>(q.answer, "answer", logits, v.place);
  if (q.against != -1) v.against = checked_answer<S>(q.against, "against", logits, v.place);
  require(v.against != v.answer, "against: expected another token than {}, whose logit is explained", token_name(text, v.answer));
  v.logit = static_cast<double>(logits(v.place, v.answer));
  if (v.against >= 0) v.logit -= static_cast<double>(logits(v.place, v.against));
  freeze_norm<S>(m, seen.at(fmt::format("blocks.{}.resid_post", m.config.layers - 1)).row(v.place), q.exec, v);
  collect_parts<S>(m, seen, q.exec, v);
  share_out(in_double(m.ln_final.bias), v);
  return AttributionTeller(v).tell();
}

template Story explain_attribution<float>(const Decoder<float>&, const ExplainedText&, const AttributionQuestion&);
template Story explain_attribution<double>(const Decoder<double>&, const ExplainedText&, const AttributionQuestion&);

Story explain_attribution_example(const AttributionQuestion& q) {
  return explain_attribution<double>(logits_example_model(), logits_example_text(), q);
}

}  // namespace glassformer
