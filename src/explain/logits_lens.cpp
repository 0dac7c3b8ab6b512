// The logit lens. Legend: T tokens, C channels, V vocabulary, L layers.
#include <numeric>
#include <set>

#include "explain/logits_example.hpp"
#include "explain/teller.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/ops/reference/loss.hpp"

namespace glassformer {

Decoder<double> logits_example_model() {
  ModelConfig c;
  c.vocab = 4, c.context = 8, c.layers = 2, c.heads = 2, c.width = 4, c.hidden = 4, c.position = Position::none;
  c.norm = ops::Norm::rms, c.bias = false;
  Decoder<double> m = make_decoder<double>(c);
  set_parameter(m, "embed.weight",
                {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}});  // a channel for each word, also to read it off
  for (const char* gain : {"blocks.0.ln1.weight", "blocks.0.ln2.weight", "blocks.1.ln1.weight", "blocks.1.ln2.weight", "ln_final.weight"})
    set_parameter(m, gain, {{1, 1, 1, 1}});
  // Layer 0: q = k = 0, so each head takes the mean of all words before; head 0 hands on the first two channels, head 1 the others.
  set_parameter(m, "blocks.0.attn.qkv.weight",
                {{0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {1, 0, 0, 0},
                 {0, 1, 0, 0},
                 {0, 0, 1, 0},
                 {0, 0, 0, 1}});
  set_parameter(m, "blocks.0.attn.out.weight", {{0.2, 0, 0, 0}, {0, 0.2, 0, 0}, {0, 0, 0.2, 0}, {0, 0, 0, 0.2}});
  // Its MLP: a unit for each word, which writes the next one.
  set_parameter(m, "blocks.0.mlp.up.weight", {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}});
  set_parameter(m, "blocks.0.mlp.down.weight", {{0, 0, 0, 0.25}, {0.25, 0, 0, 0}, {0, 0.25, 0, 0}, {0, 0, 0.25, 0}});
  // Layer 1: head 0 looks for a word like itself, head 1 again takes the mean; the MLP writes the next word and takes away its own.
  set_parameter(m, "blocks.1.attn.qkv.weight",
                {{0, 1, 0, 0},
                 {0, 0, 1, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 1, 0, 0},
                 {0, 0, 1, 0},
                 {0, 0, 0, 0},
                 {0, 0, 0, 0},
                 {0, 1, 0, 0},
                 {0, 0, 1, 0},
                 {1, 0, 0, 0},
                 {0, 0, 0, 1}});
  set_parameter(m, "blocks.1.attn.out.weight", {{0, 0, -0.1, 0}, {-0.2, 0, 0, 0}, {0, -0.2, 0, 0}, {0, 0.1, 0, 0.2}});
  set_parameter(m, "blocks.1.mlp.up.weight", {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}});
  set_parameter(m, "blocks.1.mlp.down.weight", {{-0.5, 0, 0, 1}, {1, -0.5, 0, 0}, {0, 1, -0.5, 0}, {0, 0, 1, -0.5}});
  return m;
}

ExplainedText logits_example_text() {
  return {.ids = {0, 1, 2}, .tokens = {"the", "cat", "sat"}, .vocabulary = {"the", "cat", "sat", "down"}};
}

std::string token_name(const ExplainedText& text, Token id) {
  const auto at = static_cast<std::size_t>(id);
  return at < text.vocabulary.size() ? quoted_bytes(text.vocabulary[at]) : fmt::format("token {}", id);
}

namespace {

struct LensLayer {
  std::string name;
  Matrix<double> stream, normalized, logits, pattern;  // [1, C], [1, C], [1, V], [1, V] its softmax: of the place that is followed
  Vector<double> probability;                          // [T] of each place's final prediction
};

struct Lens {
  const ExplainedText& text;
  const ModelConfig& config;
  Index place = 0, top = 3;
  Token answer = 0;
  bool own_answer = true;  // the model's own prediction
  std::vector<LensLayer> layers = {};
  std::vector<Token> final_choices = {};  // [T]
  double last_difference = 0, largest_logit = 0;
};

// The engine's final norm and head on the stream x [n, C].
template <class S>
Matrix<S> read_off(const Decoder<S>& m, const Matrix<S>& x, const Exec& exec, Matrix<S>& hidden) {
  hidden = x;
  if (m.ln_final.gain) {
    ops::NormStatistics<S> statistics;
    ops::norm_forward<S>(m.config.norm, x, m.ln_final.gain, m.ln_final.bias, static_cast<S>(m.config.norm_epsilon), hidden, statistics,
                         exec);
    const Site site{"ln_final.normalized"};  // where the model's own hook sees what it would see in a pass
    if (m.hook && m.hook->wants(site.name)) m.hook->visit(site, hidden);
  }
  Pass<S> pass;
  Workspace workspace;
  pass.exec = exec, pass.workspace = &workspace;
  Matrix<S> logits(x.rows(), m.config.vocab);
  decoder_logits<S>(m, pass, hidden, logits);
  return logits;
}

template <class S>
LensLayer look(const Decoder<S>& m, const Matrix<S>& stream, const Matrix<S>& model_logits, const Exec& exec, bool last, Lens& lens) {
  LensLayer layer;
  Matrix<S> hidden;
  const Matrix<S> logits = read_off<S>(m, stream, exec, hidden);
  if (last) {
    lens.last_difference = static_cast<double>((logits - model_logits).cwiseAbs().maxCoeff());
    lens.largest_logit = static_cast<double>(model_logits.cwiseAbs().maxCoeff());
  }
  Matrix<S> probabilities = logits;
  ops::reference::softmax_forward<S>(logits, probabilities);
  layer.stream = stream.row(lens.place).template cast<double>(), layer.normalized = hidden.row(lens.place).template cast<double>();
  layer.logits = logits.row(lens.place).template cast<double>(), layer.pattern = probabilities.row(lens.place).template cast<double>();
  layer.probability.resize(stream.rows());
  for (Index t = 0; t < stream.rows(); ++t)
    layer.probability(t) = static_cast<double>(probabilities(t, lens.final_choices[static_cast<std::size_t>(t)]));
  return layer;
}

class LensTeller : Teller {
 public:
  explicit LensTeller(const Lens& v) : v_(v) {}

  Story tell() {
    opening();
    if (v_.config.vocab <= 8) by_hand();
    table();
    picture();
    agreement();
    data();
    return std::move(out_);
  }

 private:
  Index T() const { return static_cast<Index>(v_.text.ids.size()); }
  std::string answer() const { return token_name(v_.text, v_.answer); }

  // From 1: how many tokens have a larger logit.
  static Index rank_of(const LensLayer& layer, Token id) { return 1 + (layer.logits.array() > layer.logits(0, id)).count(); }
  std::string first_choices(const LensLayer& layer) const {
    std::string text;
    for (const Token id : most_probable(layer.logits.row(0), v_.top))
      text += fmt::format("{}{} {}", text.empty() ? "" : "  ", token_name(v_.text, id), plot::number(layer.pattern(0, id), 2));
    return text;
  }

  void opening() {
    out_.component = "lens";
    out_.title = fmt::format("The logit lens: what each layer would say after {}", quoted_token(v_.text, v_.place));
    out_.opening.push_back(v_.text.model.empty() ? "A tiny example, small enough to redo by hand: a channel for each of four words."
                                                 : fmt::format("Model: {}", v_.text.model));
    out_.opening.insert(out_.opening.end(), v_.text.notes.begin(), v_.text.notes.end());
    out_.opening.push_back(
        v_.config.placement == NormPlacement::pre
            ? "All layers write into one stream, and only after the last one is it normalised and compared with each token's row of U. "
              "The lens does so after every layer: what would the model say if it ended here?"
            : "This model is post-norm: the stream is normalised inside each block and there is no final norm, so the lens compares "
              "each block's output with U directly. Later blocks were not trained to leave it readable, so early rows mean less than "
              "in a pre-norm model.");
    out_.opening.push_back(v_.own_answer ? fmt::format("The model's own prediction is {}: its rank and probability are followed.", answer())
                                         : fmt::format("Followed: the rank and the probability of {}.", answer()));
    if (v_.config.tied)
      out_.opening.push_back("U is the embedding itself (tied), so the embedding alone tends to say the token that was just read.");
  }

  void by_hand() {
    const bool norm = v_.config.placement == NormPlacement::pre;
    step("From stream to logits", norm ? "logits = ln_final(x)·Uᵀ" : "logits = x·Uᵀ");
    say(norm ? "The stream x after each layer, normalised, times U. Here U is the identity: each channel is a word."
             : "The stream x after each layer times U.");
    const auto grid = [&](const char* key, const char* column, Index columns, auto&& of) {
      Matrix<double> rows(static_cast<Index>(v_.layers.size()), columns);
      std::vector<std::string> names;
      for (std::size_t i = 0; i < v_.layers.size(); ++i)
        rows.row(static_cast<Index>(i)) = of(v_.layers[i]).row(0), names.push_back(v_.layers[i].name);
      put(story::Grid{.key = key, .values = rows, .rows = names, .columns = numbered(column, columns)});
    };
    const Index C = v_.layers[0].stream.cols();
    grid("stream", "x", C, [](const LensLayer& l) -> const Matrix<double>& { return l.stream; });
    if (norm) grid("normalized", "h", C, [](const LensLayer& l) -> const Matrix<double>& { return l.normalized; });
    Matrix<double> rows(static_cast<Index>(v_.layers.size()), v_.config.vocab);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < v_.layers.size(); ++i)
      rows.row(static_cast<Index>(i)) = v_.layers[i].logits.row(0), names.push_back(v_.layers[i].name);
    put(story::Grid{.key = "logits", .values = rows, .rows = names, .columns = v_.text.vocabulary});
  }

  void table() {
    const Index n = static_cast<Index>(v_.layers.size());
    step("Layer by layer", "p = softmax(ln_final(x)·Uᵀ)");
    story::Table table{.key = "", .columns = {"after", "first choices", "rank", "p"}, .rows = {}};
    Matrix<double> ranks(n, 1), probabilities(n, 1);
    for (Index i = 0; i < n; ++i) {
      const LensLayer& layer = v_.layers[static_cast<std::size_t>(i)];
      ranks(i, 0) = static_cast<double>(rank_of(layer, v_.answer)), probabilities(i, 0) = layer.pattern(0, v_.answer);
      table.rows.push_back({layer.name, first_choices(layer), fmt::format("{}", rank_of(layer, v_.answer)), probabilities(i, 0)});
    }
    put(std::move(table));
    Index decided = n;  // the first layer from which on the answer stays first
    while (decided > 0 && ranks(decided - 1, 0) == 1) --decided;
    if (decided < n)
      say(fmt::format("{} is first after {}, and stays so.", answer(),
                      decided == 0 ? "the embedding" : v_.layers[static_cast<std::size_t>(decided)].name));
    add("answer_rank", ranks), add("answer_probability", probabilities);
    add("decided_after", decided < n ? decided - 1 : Index{-2});  // a layer; −1 the embedding, −2 never
  }

  void picture() {
    const Index n = static_cast<Index>(v_.layers.size());
    step("All places", "p of each place's final prediction");
    say("Row: layer, column: the token that was read. A strong cell is sure already of what the model will say there in the end.");
    story::Picture p{.key = "probability", .values = Matrix<double>(n, T())};
    for (Index i = 0; i < n; ++i) {
      p.values.row(i) = v_.layers[static_cast<std::size_t>(i)].probability;
      p.rows.push_back(v_.layers[static_cast<std::size_t>(i)].name);
    }
    for (const std::string& token : v_.text.tokens) p.columns.push_back(plot::visible(token));
    put(std::move(p));
    std::string said = "It says";
    const Index most = 8, first = std::max<Index>(0, T() - most);
    for (Index t = first; t < T(); ++t)
      said += fmt::format("{} {} after {}", t == first ? "" : ",", token_name(v_.text, v_.final_choices[static_cast<std::size_t>(t)]),
                          quoted_bytes(v_.text.tokens[static_cast<std::size_t>(t)]));
    say(said + (first > 0 ? " (the last 8)." : "."));
  }

  void agreement() {
    const bool same = v_.last_difference <= 1e-4 * std::max(1.0, v_.largest_logit);
    out_.closing.push_back(fmt::format(
        "Norm and head are the engine's own. After the last layer the lens {}: its logits differ from those of the plain pass by "
        "{:.1e} at most (the largest is {}).",
        same ? "is the model" : "is NOT the model", v_.last_difference, plot::number(v_.largest_logit)));
    add("ends_at_model", same);
  }

  void data() {
    add("model", v_.text.model.empty() ? "tiny example" : v_.text.model), add("example", v_.text.model.empty());
    add("tokens", v_.text.tokens), add("ids", v_.text.ids), add("token", v_.place), add("layers", v_.config.layers);
    add("answer", std::string(token_name(v_.text, v_.answer))), add("answer_id", static_cast<Index>(v_.answer)),
        add("final_choices", v_.final_choices);
    add("placement", std::string(choice_name(v_.config.placement))), add("last_difference", v_.last_difference),
        add("largest_logit", v_.largest_logit);
  }

  const Lens& v_;
};

}  // namespace

template <class S>
Story explain_lens(const Decoder<S>& m, const ExplainedText& text, const LensQuestion& q) {
  require_text(text, m.config.context);
  require(q.top >= 1, "top: expected 1 or more, found {}", q.top);
  Lens lens{.text = text, .config = m.config, .place = checked_place(q.token, text), .top = q.top, .own_answer = q.answer == -1};
  std::set<std::string, std::less<>> sites = {"blocks.0.resid_pre"};
  for (Index l = 0; l < m.config.layers; ++l) sites.insert(fmt::format("blocks.{}.resid_post", l));
  Recorder<S> seen(sites);
  const Matrix<S> logits = decoder_read<S>(m, text.ids, {.exec = q.exec, .trace = &seen});
  lens.answer = checked_answer<S>(q.answer, "answer", logits, lens.place);
  for (Index t = 0; t < logits.rows(); ++t) lens.final_choices.push_back(checked_answer<S>(-1, "", logits, t));
  for (Index l = -1; l < m.config.layers; ++l) {
    const Matrix<S>& stream = l < 0 ? seen.at("blocks.0.resid_pre") : seen.at(fmt::format("blocks.{}.resid_post", l));
    lens.layers.push_back(look<S>(m, stream, logits, q.exec, l + 1 == m.config.layers, lens));
    lens.layers.back().name = l < 0 ? "embedding" : fmt::format("block {}", l);
  }
  return LensTeller(lens).tell();
}

template Story explain_lens<float>(const Decoder<float>&, const ExplainedText&, const LensQuestion&);
template Story explain_lens<double>(const Decoder<double>&, const ExplainedText&, const LensQuestion&);

Story explain_lens_example(const LensQuestion& q) { return explain_lens<double>(logits_example_model(), logits_example_text(), q); }

}  // namespace glassformer
