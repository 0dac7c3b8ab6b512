// Legend: T tokens, C channels, H query heads, G key-value heads, D head width.
#include "glassformer/explain/attention.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "glassformer/core/require.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/sample/prompt.hpp"
#include "glassformer/trace/edits.hpp"

namespace glassformer {
namespace {

// Leaves only one head's columns of z, so that the output is what this head adds to it.
template <class S>
class OneHead : public Trace<S> {
 public:
  OneHead(Index head, Index head_dim) : head_(head), head_dim_(head_dim) {}
  bool wants(std::string_view site) const override { return site.ends_with("attn.z"); }
  void visit(const Site&, MatrixRef<S> z) override {
    const Matrix<S> kept = z.middleCols(head_ * head_dim_, head_dim_);
    z.setZero();
    z.middleCols(head_ * head_dim_, head_dim_) = kept;
  }

 private:
  Index head_, head_dim_;
};

// A decoder's hook as far as it changes what scores are made of: the scores before scaling are not those that it edits.
template <class S>
class BeforeScores : public Trace<S> {
 public:
  explicit BeforeScores(Trace<S>* hook) : hook_(hook) {}
  bool wants(std::string_view site) const override {
    return hook_ && !site.ends_with("attn_scores") && !site.ends_with("pattern") && hook_->wants(site);
  }
  void visit(const Site& site, MatrixRef<S> value) override { hook_->visit(site, value); }

 private:
  Trace<S>* hook_;
};

// The engine's attention alone, on one sequence x [T, C] from place 0. Its sites have the prefix that they have in the decoder.
template <class S>
Matrix<S> attend(const AttentionParams<S>& p, const Matrix<S>& x, const Exec& exec, const std::string& prefix, Trace<S>* hook,
                 Trace<S>* last) {
  TraceChain<S> trace(hook, last);
  Workspace workspace;
  const Index starts[2] = {0, x.rows()};
  std::vector<Index> places(static_cast<std::size_t>(x.rows()));
  std::iota(places.begin(), places.end(), Index{0});
  Pass<S> pass;
  pass.exec = exec;
  pass.starts = starts;
  pass.places = places;
  pass.trace = &trace;
  pass.prefix = prefix;
  pass.workspace = &workspace;
  Matrix<S> y(x.rows(), x.cols());
  attention_forward<S>(p, pass, x, y, nullptr);
  return y;
}

// The scores with later steps switched off: neither mask nor ALiBi unless asked, and this factor.
template <class S>
Matrix<double> scores_before(AttentionParams<S> p, const Matrix<S>& x, const AttentionQuestion& question, const std::string& prefix,
                             Trace<S>* hook, double scale, bool biased) {
  p.config.core.scale = scale;
  p.config.core.causal = false;
  p.config.core.window = 0;
  if (!biased) p.config.core.slopes.clear();
  const std::string site = fmt::format("{}attn.attn_scores", prefix);
  Recorder<S> recorder({site});
  BeforeScores<S> before(hook);
  attend<S>(p, x, question.exec, prefix, &before, &recorder);
  return recorder.at(site, 0, question.head).template cast<double>();
}

void tell_shapes(const AttentionConfig& c, bool rotated, const AttentionQuestion& question, AttentionSteps& s) {
  require(question.head >= 0 && question.head < c.core.heads, "head: expected 0 … {}, found {}", c.core.heads - 1, question.head);
  s.head = question.head, s.heads = c.core.heads, s.kv_heads = c.core.kv_heads, s.head_dim = c.core.head_dim;
  s.kv_head = s.head / (s.heads / s.kv_heads);
  s.scale = c.core.scale, s.causal = c.core.causal, s.window = c.core.window, s.rotated = rotated;
  s.slope = c.core.slopes.empty() ? 0.0 : c.core.slopes[static_cast<std::size_t>(s.head)];
}

// This head's rows of qkv [(H + 2G)·D, C], and its columns of out [C, H·D].
template <class S>
void tell_weights(const AttentionParams<S>& p, AttentionSteps& s) {
  const Index D = s.head_dim, q = s.head * D, k = s.heads * D + s.kv_head * D, v = k + s.kv_heads * D;
  const auto rows = [&](Index at) -> Matrix<double> { return (*p.qkv.weight).middleRows(at, D).template cast<double>(); };
  s.wq = rows(q), s.wk = rows(k), s.wv = rows(v);
  s.wo = (*p.out.weight).middleCols(q, D).template cast<double>();
  if (p.qkv.bias) {
    const auto part = [&](Index at) -> Vector<double> { return (*p.qkv.bias).row(0).segment(at, D).template cast<double>(); };
    s.bq = part(q), s.bk = part(k), s.bv = part(v);
  }
  s.adapted = !p.qkv.adapters.empty() || !p.out.adapters.empty();
}

double largest(const Matrix<double>& m) { return m.size() == 0 ? 0 : m.cwiseAbs().maxCoeff(); }

// Adds up what the reader would, and holds it against the engine's values.
void tell_query(Index place, AttentionSteps& s) {
  const Index T = static_cast<Index>(s.tokens.size());
  require(place >= 0 && place < T, "query: expected a token's place, 0 … {}, found {}", T - 1, place);
  AttentionQuery& a = s.query;
  a.place = place;
  const Matrix<double>&q = s.rotated ? s.rot_q : s.q, &k = s.rotated ? s.rot_k : s.k;
  a.terms = k.array().rowwise() * q.row(place).array();
  a.maximum = s.scores.row(place).maxCoeff();
  a.exponentials = s.scores.row(place).unaryExpr([&a](double score) { return std::exp(score - a.maximum); });
  a.sum = a.exponentials.sum();
  a.weighted = s.v.array().colwise() * s.pattern.row(place).transpose().array();

  const auto differs = [&s](const Matrix<double>& by_hand, const Matrix<double>& engine, double size) {
    const double difference = largest(by_hand - engine) / std::max(size, std::numeric_limits<double>::min());
    s.deviation = std::isnan(difference) ? difference : std::max(s.deviation, difference);
  };
  differs(a.terms.rowwise().sum().transpose(), s.products.row(place), largest(a.terms));
  differs(s.products.row(place) * s.scale, s.scaled.row(place), largest(a.terms) * s.scale);
  differs(a.exponentials / a.sum, s.pattern.row(place), 1);
  differs(a.weighted.colwise().sum(), s.z.row(place), largest(s.v));
}

// What a trace saw of the real pass, at sites behind `prefix`; then the steps inside it.
template <class S>
void tell_steps(const AttentionParams<S>& p, const Recorder<S>& seen, const std::string& prefix, const Matrix<S>& x, const Matrix<S>& y,
                const AttentionQuestion& question, Trace<S>* hook, AttentionSteps& s) {
  const Index D = s.head_dim;
  const auto columns = [&](const char* site, Index head) -> Matrix<double> {
    return seen.at(prefix + site).middleCols(head * D, D).template cast<double>();
  };
  s.width = x.cols();
  s.x = x.template cast<double>(), s.output = y.template cast<double>();
  s.q = columns("attn.q", s.head), s.k = columns("attn.k", s.kv_head), s.v = columns("attn.v", s.kv_head);
  if (s.rotated) s.rot_q = columns("attn.rot_q", s.head), s.rot_k = columns("attn.rot_k", s.kv_head);
  s.products = scores_before<S>(p, x, question, prefix, hook, 1, false);
  s.scaled = scores_before<S>(p, x, question, prefix, hook, s.scale, false);
  if (s.slope != 0) s.biased = scores_before<S>(p, x, question, prefix, hook, s.scale, true);
  s.scores = seen.at(prefix + "attn.attn_scores", 0, s.head).template cast<double>();
  s.pattern = seen.at(prefix + "attn.pattern", 0, s.head).template cast<double>();
  s.z = columns("attn.z", s.head);

  AttentionParams<S> without_bias = p;
  without_bias.out.bias = {};
  OneHead<S> one_head(s.head, D);
  s.share = attend<S>(without_bias, x, question.exec, prefix, hook, &one_head).template cast<double>();
  tell_weights(p, s);
}

std::set<std::string, std::less<>> sites(const std::string& prefix, std::initializer_list<const char*> more = {}) {
  std::set<std::string, std::less<>> all;
  for (const char* site : {"attn.q", "attn.k", "attn.v", "attn.rot_q", "attn.rot_k", "attn.attn_scores", "attn.pattern", "attn.z"})
    all.insert(prefix + site);
  for (const char* site : more) all.insert(prefix + site);
  return all;
}

// The parameters of the example: q asks, k answers, v is what is handed over. Channels: article, noun, verb, direction.
struct Example {
  Matrix<double> x{{1.0, 0.0, 0.0, 0.5},           // the
                   {0.0, 1.0, 0.5, 0.0},           // cat
                   {0.0, 0.5, 1.0, 0.5},           // sat
                   {0.5, 0.0, 0.5, 1.0}};          // down
  Matrix<double> qkv{{0, 1, 2, 0}, {1, 0, 0, 1},   // q of head 0: a verb asks for a noun, …
                     {0, 2, 0, 1}, {1, 0, 1, 0},   // q of head 1
                     {0, 2, 0, 0}, {1, 0, 0, 1},   // k of head 0: … and a noun answers
                     {1, 0, 0, 0}, {0, 0, 1, 1},   // k of head 1
                     {0, 1, 0, 0}, {1, 0, 1, 0},   // v of head 0
                     {1, 0, 0, 1}, {0, 0, 1, 0}};  // v of head 1
  Matrix<double> out{{1, 0, 0, 0.5}, {0, 1, 0.5, 0}, {0.5, 0, 1, 0}, {0, 0.5, 0, 1}};
};

}  // namespace

template <class S>
AttentionSteps explain_attention(const AttentionParams<S>& p, const Matrix<S>& x, std::vector<std::string> tokens,
                                 const AttentionQuestion& question) {
  const Index T = x.rows();
  require(T > 0 && T == static_cast<Index>(tokens.size()), "attention: expected a row of x for each token, found {} and {}", T,
          tokens.size());
  AttentionSteps s;
  s.tokens = std::move(tokens);
  tell_shapes(p.config, p.rope != nullptr, question, s);
  Recorder<S> seen(sites(""));
  const Matrix<S> y = attend<S>(p, x, question.exec, "", nullptr, &seen);
  tell_steps<S>(p, seen, "", x, y, question, nullptr, s);
  tell_query(question.query == -1 ? T - 1 : question.query, s);
  return s;
}

AttentionSteps explain_attention_example(const AttentionQuestion& question) {
  Example example;
  require(question.layer == 0, "layer: expected 0, found {}: the example has only one", question.layer);

  AttentionParams<double> p;
  p.qkv.weight = MatrixView<double>{example.qkv.data(), 12, 4};  // [(H + 2G)·D, C]
  p.out.weight = MatrixView<double>{example.out.data(), 4, 4};   // [C, H·D]
  p.config.core.heads = p.config.core.kv_heads = p.config.core.head_dim = 2;
  p.config.core.scale = 1 / std::sqrt(2.0);
  AttentionSteps s = explain_attention<double>(p, example.x, {"the", "cat", "sat", "down"},
                                               {0, question.head, question.query == -1 ? 2 : question.query, question.exec});
  s.model = "tiny example";
  s.is_example = true;
  return s;
}

template <class S>
AttentionSteps explain_attention(const Decoder<S>& m, std::span<const Token> ids, std::vector<std::string> tokens,
                                 const AttentionQuestion& question) {
  const Index T = static_cast<Index>(ids.size()), L = m.config.layers;
  require(tokens.size() == ids.size(), "attention: {} ids, but {} tokens", ids.size(), tokens.size());
  require(question.layer >= 0 && question.layer < L, "layer: expected 0 … {}, found {}", L - 1, question.layer);
  require(T > 0, "prompt: expected at least one token, found none");
  require(T <= m.config.context, "prompt: expected at most {} tokens (the model's context), found {}", m.config.context, T);
  const AttentionParams<S>& p = m.blocks[static_cast<std::size_t>(question.layer)].attention;
  AttentionSteps s;
  tell_shapes(p.config, p.rope != nullptr, question, s);
  require(question.query >= -1 && question.query < T, "query: expected a token's place, 0 … {}, found {}", T - 1, question.query);
  s.model = fmt::format("{} layers, {} heads, {} channels", L, s.heads, m.config.width);
  s.layer = question.layer, s.layers = L;
  s.tokens = std::move(tokens);
  s.ids.assign(ids.begin(), ids.end());

  // One real pass. Attention reads what ln1 gives; with post-norm, the residual stream itself.
  const std::string prefix = fmt::format("blocks.{}.", question.layer);
  const char* input = m.config.placement == NormPlacement::pre ? "ln1.normalized" : "resid_pre";
  Recorder<S> seen(sites(prefix, {input, "attn_out"}));
  decoder_read<S>(m, ids, {.exec = question.exec, .trace = &seen});
  tell_steps<S>(p, seen, prefix, seen.at(prefix + input), seen.at(prefix + "attn_out"), question, m.hook.get(), s);
  tell_query(question.query == -1 ? T - 1 : question.query, s);
  return s;
}

AttentionSteps explain_attention(const Decoder<float>& m, const Tokenizer& tokenizer, std::string_view text,
                                 const AttentionQuestion& question) {
  require(!text.empty(), "prompt: expected some text, found none");
  const Prompt prompt = read_prompt(m.config, tokenizer, text);
  AttentionSteps s = explain_attention<float>(m, prompt.ids, token_texts(tokenizer, prompt.ids), question);
  if (prompt.has_start) s.notes.push_back("Token 0 is the start token, which the model was trained to see first.");
  return s;
}

template AttentionSteps explain_attention<float>(const AttentionParams<float>&, const Matrix<float>&, std::vector<std::string>,
                                                 const AttentionQuestion&);
template AttentionSteps explain_attention<double>(const AttentionParams<double>&, const Matrix<double>&, std::vector<std::string>,
                                                  const AttentionQuestion&);
template AttentionSteps explain_attention<float>(const Decoder<float>&, std::span<const Token>, std::vector<std::string>,
                                                 const AttentionQuestion&);
template AttentionSteps explain_attention<double>(const Decoder<double>&, std::span<const Token>, std::vector<std::string>,
                                                  const AttentionQuestion&);

}  // namespace glassformer
