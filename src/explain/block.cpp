// Legend: C channels, F hidden width of the MLP, T tokens.
#include "glassformer/explain/block.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include "explain/block_values.hpp"
#include "explain/teller.hpp"
#include "glassformer/model/reading.hpp"

namespace glassformer {
namespace {

using Sites = std::set<std::string, std::less<>>;

// The engine's norm on one row, for its statistics.
template <class S>
NormValues norm_values(const ModelConfig& c, const NormParams<S>& p, const Matrix<S>& read, const Exec& exec) {
  NormValues n;
  Matrix<S> y(1, read.cols());
  ops::NormStatistics<S> statistics;
  ops::norm_forward<S>(c.norm, read, p.gain, p.bias, static_cast<S>(c.norm_epsilon), y, statistics, exec);
  n.read = read.template cast<double>();
  n.gain = in_double(p.gain), n.bias = in_double(p.bias);
  n.mean = static_cast<double>(statistics.mean(0)), n.inverse_deviation = static_cast<double>(statistics.inverse_deviation(0));
  n.output = y.template cast<double>();
  return n;
}

template <class S>
Index parameters_of(const Projection<S>& p) {
  Index count = p.weight.size() + p.bias.size();
  for (const auto& lora : p.adapters) count += lora.a.size() + lora.b.size();
  return count;
}
// For one token.
template <class S>
Index multiply_adds_of(const Projection<S>& p) {
  Index count = p.weight.size();
  for (const auto& lora : p.adapters) count += lora.a.size() + lora.b.size();
  return count;
}

template <class S>
void count_parts(const ModelConfig& c, const BlockParams<S>& p, Index place, Index tokens, BlockValues& v) {
  const ops::AttentionShape& core = p.attention.config.core;
  for (Index u = 0; u < tokens; ++u) v.keys += core.sees(place, u);
  const Index products = core.heads * core.head_dim * v.keys;
  v.parts = {{"ln1", p.ln1.gain.size() + p.ln1.bias.size(), 0},
             {"q, k, v", parameters_of(p.attention.qkv), multiply_adds_of(p.attention.qkv)},
             {"q·k of the keys it sees", 0, products},
             {"pattern·v", 0, products},
             {"attention's output", parameters_of(p.attention.out), multiply_adds_of(p.attention.out)}};
  if (c.mlp == Mlp::none) return;
  v.parts.push_back({"ln2", p.ln2.gain.size() + p.ln2.bias.size(), 0});
  v.parts.push_back({c.mlp == Mlp::swiglu ? "MLP gate and up" : "MLP up", parameters_of(p.mlp.up), multiply_adds_of(p.mlp.up)});
  v.parts.push_back({"MLP down", parameters_of(p.mlp.down), multiply_adds_of(p.mlp.down)});
}

template <class S>
void mlp_values(const MlpParams<S>& p, Index unit, BlockValues& v) {
  const Index F = p.down.weight.cols();
  require(unit >= -1 && unit < F, "unit: expected 0 … {}, found {}", F - 1, unit);
  v.unit = unit;
  if (unit == -1) v.post.row(0).cwiseAbs().maxCoeff(&v.unit);
  const bool gated = p.kind == Mlp::swiglu;
  v.up.resize(gated ? 2 : 1, p.up.weight.cols()), v.up_bias = Matrix<double>::Zero(1, v.up.rows());
  for (Index i = 0; i < v.up.rows(); ++i) {
    v.up.row(i) = (*p.up.weight).row(i * F + v.unit).template cast<double>();
    if (p.up.bias) v.up_bias(0, i) = static_cast<double>((*p.up.bias)(0, i * F + v.unit));
  }
  v.has_bias = static_cast<bool>(p.up.bias);
  if (F <= 8) v.down = in_double(p.down.weight.dense), v.down_bias = in_double(p.down.bias);
}

}  // namespace

template <class S>
Story explain_block(const Decoder<S>& m, const ExplainedText& text, const BlockQuestion& question) {
  require_layer(question.layer, m.config.layers);
  require_text(text, m.config.context);
  const ModelConfig& c = m.config;
  const BlockParams<S>& p = m.blocks[static_cast<std::size_t>(question.layer)];
  const bool has_mlp = c.mlp != Mlp::none;
  require(has_mlp || question.unit == -1, "unit: this model's blocks have no MLP");
  BlockValues v{.text = text, .config = c, .layer = question.layer, .place = checked_place(question.token, text)};

  const std::string prefix = fmt::format("blocks.{}.", v.layer);
  Sites sites;
  for (const char* site :
       {"resid_pre", "ln1.normalized", "attn_out", "resid_mid", "ln2.normalized", "mlp.pre", "mlp.post", "mlp_out", "resid_post"})
    sites.insert(prefix + site);
  Recorder<S> seen(sites);
  decoder_read<S>(m, text.ids, {.exec = question.exec, .trace = &seen});
  const auto engine = [&](const char* site) -> Matrix<S> { return seen.at(prefix + site).row(v.place); };
  const auto row = [&](const char* site) -> Matrix<double> { return engine(site).template cast<double>(); };

  v.resid_pre = row("resid_pre"), v.normalized1 = row("ln1.normalized"), v.attn_out = row("attn_out"), v.resid_mid = row("resid_mid");
  v.resid_post = row("resid_post");
  const bool pre = c.placement == NormPlacement::pre;
  const Matrix<S> read1 = pre ? engine("resid_pre") : engine("resid_pre") + engine("attn_out");
  v.ln1 = norm_values<S>(c, p.ln1, read1, question.exec);
  if (has_mlp) {
    v.normalized2 = row("ln2.normalized"), v.pre = row("mlp.pre"), v.post = row("mlp.post"), v.mlp_out = row("mlp_out");
    const Matrix<S> read2 = pre ? engine("resid_mid") : engine("resid_mid") + engine("mlp_out");
    v.ln2 = norm_values<S>(c, p.ln2, read2, question.exec);
    mlp_values<S>(p.mlp, question.unit, v);
  }
  v.adapted =
      !p.attention.qkv.adapters.empty() || !p.attention.out.adapters.empty() || !p.mlp.up.adapters.empty() || !p.mlp.down.adapters.empty();
  count_parts<S>(c, p, v.place, static_cast<Index>(text.ids.size()), v);
  return block_story(v);
}

template Story explain_block<float>(const Decoder<float>&, const ExplainedText&, const BlockQuestion&);
template Story explain_block<double>(const Decoder<double>&, const ExplainedText&, const BlockQuestion&);

namespace {

Decoder<double> example_block(BlockExample kind) {
  ModelConfig c;
  c.vocab = 2, c.context = 4, c.layers = 1, c.heads = 1, c.width = 4, c.head_dim = 2, c.hidden = 3, c.position = Position::none;
  if (kind == BlockExample::llama) c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  if (kind == BlockExample::post_norm) c.placement = NormPlacement::post;
  if (kind == BlockExample::attention_only) c.mlp = Mlp::none;
  Decoder<double> m = make_decoder<double>(c);
  set_parameter(m, "embed.weight", {{1, 1, 0, 0}, {0, 1, 0, 1}});  // the, cat
  set_parameter(m, "blocks.0.ln1.weight", {{1, 1, 1, 0.5}});
  set_parameter(m, "blocks.0.attn.qkv.weight",
                {{0, 1, 0, 0}, {0, 0, 0, 1}, {0, 1, 0, 0}, {0, 0, 0, 1}, {1, 0, 0, 0}, {0, 0, 1, 0}});  // two rows each of q, k, v
  set_parameter(m, "blocks.0.attn.out.weight", {{1, 0}, {0, 1}, {0.5, 0}, {0, 0.5}});
  if (m.ln_final.gain) (*m.ln_final.gain).setOnes();
  if (c.norm == ops::Norm::layer) set_parameter(m, "blocks.0.ln1.bias", {{0, 0, 0.5, 0}});
  if (c.mlp == Mlp::none) return m;
  set_parameter(m, "blocks.0.ln2.weight", {{1, 0.5, 1, 1}});
  if (c.mlp == Mlp::swiglu)
    set_parameter(m, "blocks.0.mlp.up.weight", {{0.5, 1, 0, 0}, {0, 0.5, 1, 0}, {-1, 0, 0, 0.5}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 1}});
  else
    set_parameter(m, "blocks.0.mlp.up.weight", {{0.5, 1, 0, 0}, {0, 0.5, 1, 0}, {-1, 0, 0, 0.5}});
  set_parameter(m, "blocks.0.mlp.down.weight", {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.5, 0.5, 0}});
  if (c.bias) set_parameter(m, "blocks.0.mlp.up.bias", {{0, 0.5, 0}}), set_parameter(m, "blocks.0.mlp.down.bias", {{0, 0, 0, 0.1}});
  return m;
}

}  // namespace

Story explain_block_example(BlockExample kind, const BlockQuestion& question) {
  require(question.layer == 0, "layer: expected 0, found {}: the example has only one", question.layer);
  const ExplainedText text{.ids = {0, 1}, .tokens = {"the", "cat"}};
  return explain_block<double>(example_block(kind), text, question);
}

}  // namespace glassformer
