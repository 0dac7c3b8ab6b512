// Legend: N tokens, T tokens of one document, H heads, G key-value heads, D head width.
#include "learn/fault_look.hpp"

#include <algorithm>
#include <cmath>

#include "glassformer/ops/activation.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer {
namespace {

double apart(const Matrix<float>& a, const Matrix<float>& b) {
  return a.size() == 0 ? 0 : static_cast<double>((a - b).cwiseAbs().maxCoeff());
}

// One site of a look, with what its laws need.
struct Seen {
  const Rig& rig;
  const Look& look;
  const Matrix<float>& x;
  std::string block;  // "blocks.1.", empty outside
  Index layer;

  const ModelConfig& config() const { return rig.model.config; }
  const Matrix<float>& of(const std::string& name, Index sequence = -1, Index head = -1) const {
    const Matrix<float>* value = look.album.find(block + name, sequence, head);
    require(value != nullptr, "{}{} did not fire", block, name);
    return *value;
  }
  const BlockParams<float>& params() const { return rig.model.blocks[static_cast<std::size_t>(layer)]; }
  Index begin(Index sequence) const { return look.batch.starts[static_cast<std::size_t>(sequence)]; }
  Index length(Index sequence) const { return begin(sequence + 1) - begin(sequence); }
  std::vector<Index> places() const {
    std::vector<Index> all;
    for (Index s = 0; s < look.batch.sequences(); ++s) {
      for (Index t = 0; t < length(s); ++t) all.push_back(t);
    }
    return all;
  }
};

std::vector<Law> pattern_laws(const Seen& s) {
  const Index T = s.x.rows(), U = s.x.cols();
  double later = 0;
  for (Index t = 0; t < T; ++t) {
    for (Index u = U - T + t + 1; u < U; ++u) later = std::max(later, static_cast<double>(s.x(t, u)));
  }
  std::vector<Law> all = {{"each row sums to 1", static_cast<double>((s.x.rowwise().sum().array() - 1).abs().maxCoeff())}};
  if (s.config().causal) all.push_back({"no weight on places after the query's own", later});
  return all;
}

std::vector<Law> score_laws(const Seen& s, Index sequence, Index head) {
  if (s.config().position == Position::alibi) return {};
  const char* prefix = s.config().position == Position::rope ? "attn.rot_" : "attn.";
  const Index D = s.config().head_dim, group = head / (s.config().heads / s.config().kv_heads), begin = s.begin(sequence),
              T = s.length(sequence);
  const Matrix<float> q = s.of(std::string(prefix) + "q").block(begin, head * D, T, D),
                      k = s.of(std::string(prefix) + "k").block(begin, group * D, T, D);
  Matrix<float> expected(T, T);
  ops::multiply_nt<float>(1 / std::sqrt(static_cast<float>(D)), q, k, 0, expected, {});
  double deviation = 0;
  for (Index t = 0; t < T; ++t) {
    for (Index u = 0; u <= t; ++u) deviation = std::max(deviation, std::abs(static_cast<double>(s.x(t, u) - expected(t, u))));
  }
  return {{"q·k/√D for keys at the query's place and before", deviation}};
}

std::vector<Law> z_laws(const Seen& s) {
  const Index D = s.config().head_dim, H = s.config().heads, share = H / s.config().kv_heads;
  std::vector<Law> all;
  for (Index h = 0; h < H; ++h) {
    double deviation = 0;
    for (Index i = 0; i < s.look.batch.sequences(); ++i) {
      Matrix<float> expected(s.length(i), D);
      ops::multiply_nn<float>(1, s.of("attn.pattern", i, h), s.of("attn.v").block(s.begin(i), h / share * D, s.length(i), D), 0, expected,
                              {});
      deviation = std::max(deviation, apart(s.x.block(s.begin(i), h * D, s.length(i), D), expected));
    }
    all.push_back({fmt::format("head {}: its pattern times v of key-value head {}", h, h / share), deviation});
  }
  return all;
}

std::vector<Law> rotation_laws(const Seen& s, const char* from) {
  const Index D = s.config().head_dim;
  const Matrix<float>& before = s.of(from);
  double deviation = 0, first = 0;
  for (Index n = 0; n < s.x.rows(); ++n) {
    for (Index c = 0; c < s.x.cols(); ++c) {
      if (c % D >= D / 2) continue;
      const auto length = [&](const Matrix<float>& m) { return std::hypot(m(n, c), m(n, c + D / 2)); };
      deviation = std::max(deviation, static_cast<double>(std::abs(length(s.x) - length(before))));
    }
  }
  for (Index i = 0; i < s.look.batch.sequences(); ++i) first = std::max(first, apart(s.x.row(s.begin(i)), before.row(s.begin(i))));
  return {{"a turn keeps the length of each pair (i, i + D/2)", deviation}, {"place 0 is not turned", first}};
}

std::vector<Law> norm_laws(const Seen& s, const NormParams<float>& p) {
  Matrix<float> x = s.x;
  if (p.bias) x.rowwise() -= (*p.bias).row(0);
  x.array().rowwise() /= (*p.gain).row(0).array();
  const auto C = static_cast<float>(x.cols());
  const Vector<float> mean = x.rowwise().sum().transpose() / C, square = x.rowwise().squaredNorm().transpose() / C;
  std::vector<Law> all;
  if (s.config().norm == ops::Norm::layer)
    all.push_back({"before gain and bias a row has mean 0", static_cast<double>(mean.cwiseAbs().maxCoeff())});
  all.push_back({"and mean square 1", static_cast<double>((square.array() - 1).abs().maxCoeff())});
  return all;
}

// y = x·Wᵀ + b, and adapters at the scale of their configuration
Law projection_law(const Seen& s, const Projection<float>& p, const char* from) {
  const Matrix<float>& x = s.of(from);
  Matrix<float> expected(x.rows(), p.weight.rows());
  ops::linear_forward<float>(x, p.weight, p.bias, expected, {});
  Workspace workspace;
  for (LoraView<float> lora : p.adapters) {
    lora.scale = static_cast<float>(s.rig.adapter->config.scale());
    lora_forward<float>(lora, {}, {}, x, {}, expected, workspace, {});
  }
  const double deviation = apart(s.x, expected);
  return {fmt::format("x·Wᵀ + b{} with x = {}", p.adapters.empty() ? "" : " + α/r·(x·Aᵀ)·Bᵀ", from), deviation};
}

std::vector<Law> logits_grad_laws(const Seen& s) {
  Matrix<float> expected = s.of("logits");
  std::vector<double> losses(s.look.batch.targets.size());
  ops::cross_entropy<float>(expected, s.look.batch.targets, losses, true, 1.0F / static_cast<float>(s.look.batch.scored()), {});
  return {{fmt::format("(softmax − one-hot)/{} scored tokens", s.look.batch.scored()), apart(s.x, expected)}};
}

std::vector<Law> activation_laws(const Seen& s, bool gradient) {
  const auto kind = s.params().mlp.kind;
  const bool gelu = s.config().hidden == s.of("mlp.pre").cols();  // SwiGLU's is twice as wide
  if (!gelu) return {};
  const auto f = choice_name(kind) == "gelu-exact" ? ops::Activation::gelu_exact : ops::Activation::gelu_tanh;
  Matrix<float> expected(s.x.rows(), s.x.cols());
  if (gradient) {
    ops::activation_backward<float>(f, s.of("mlp.pre"), s.of("mlp.post.grad"), expected, {});
  } else {
    ops::activation_forward<float>(f, s.of("mlp.pre"), expected, {});
  }
  return {{gradient ? "mlp.post.grad ⊙ gelu'(mlp.pre)" : "gelu(mlp.pre)", apart(s.x, expected)}};
}

std::vector<Law> turned_back_laws(const Seen& s, const char* from, Index heads) {
  Matrix<float> expected = s.of(from);
  rope_rotate<float>(*s.rig.model.rope, s.places(), heads, true, expected, {});
  return {{std::string(from) + " turned back by each token's place", apart(s.x, expected)}};
}

std::vector<Law> block_laws(const Seen& s, const std::string& part, Index sequence, Index head) {
  const ModelConfig& c = s.config();
  const bool rope = c.position == Position::rope;
  if (part == "attn.pattern") return pattern_laws(s);
  if (part == "attn.attn_scores") return score_laws(s, sequence, head);
  if (part == "attn.z") return z_laws(s);
  if (part == "attn.rot_q") return rotation_laws(s, "attn.q");
  if (part == "attn.rot_k") return rotation_laws(s, "attn.k");
  if (part == "ln1.normalized") return norm_laws(s, s.params().ln1);
  if (part == "ln2.normalized") return norm_laws(s, s.params().ln2);
  if (part == "attn_out") return {projection_law(s, s.params().attention.out, "attn.z")};
  if (part == "mlp_out") return {projection_law(s, s.params().mlp.down, "mlp.post")};
  if (part == "mlp.post") return activation_laws(s, false);
  if (part == "mlp.pre.grad") return activation_laws(s, true);
  if (part == "resid_mid") return {{"resid_pre + attn_out", apart(s.x, s.of("resid_pre") + s.of("attn_out"))}};
  if (part == "resid_post" && c.hidden > 0) return {{"resid_mid + mlp_out", apart(s.x, s.of("resid_mid") + s.of("mlp_out"))}};
  if (part == "attn.q.grad" && rope) return turned_back_laws(s, "attn.rot_q.grad", c.heads);
  if (part == "attn.k.grad" && rope) return turned_back_laws(s, "attn.rot_k.grad", c.kv_heads);
  return {};
}

std::vector<Law> laws_of(const Rig& rig, const Look& look, const Site& at, const Matrix<float>* value) {
  const std::string& site = at.name;
  Seen s{rig, look, *value, "", 0};
  if (site.starts_with("blocks.")) {
    const auto dot = site.find('.', 7);
    s.layer = std::stol(site.substr(7, dot - 7));
    s.block = site.substr(0, dot + 1);
    return block_laws(s, site.substr(dot + 1), at.sequence, at.head);
  }
  if (site == "ln_final.normalized") return norm_laws(s, rig.model.ln_final);
  if (site == "logits.grad") return logits_grad_laws(s);
  if (site == "embed" || (site == "logits" && rig.model.config.tied)) {
    const bool head_site = site == "logits";
    Matrix<float> expected(value->rows(), value->cols());
    if (head_site) {
      ops::linear_forward<float>(s.of("ln_final.normalized"), rig.model.embed.weight, {}, expected, {});
    } else {
      ops::embedding_forward<float>(rig.model.embed.weight, look.batch.inputs, expected, {});
    }
    return {{head_site ? "ln_final.normalized times the embedding's rows (tied)" : "the embedding's row of each token",
             apart(*value, expected)}};
  }
  return {};
}

}  // namespace

void Album::visit(const Site& site, MatrixRef<float> value) {
  if (std::ranges::find(names_, site.name) == names_.end()) names_.push_back(site.name);
  Matrix<float>& kept = values_[site];
  if (kept.rows() == 0 || value.rows() > 1) {  // a whole pass; backward shows patterns once more
    kept = value;
    return;
  }
  const Matrix<float> before = kept;
  kept = Matrix<float>::Zero(before.rows() + 1, std::max(before.cols(), value.cols()));
  kept.topLeftCorner(before.rows(), before.cols()) = before;
  kept.bottomLeftCorner(1, value.cols()) = value;
}

const Matrix<float>* Album::find(const std::string& name, Index sequence, Index head) const {
  const auto at = values_.find(Site{name, sequence, head});
  return at == values_.end() ? nullptr : &at->second;
}

Look look_at(Rig& rig, Probe probe, bool decode, std::uint64_t number) {
  Look look;
  look.decode = decode;
  const ModelConfig& c = rig.model.config;
  const auto separator = document_separator(c);
  if (decode) {
    look.batch = whole_split(rig.val, c.context, 1, separator).front();
    logits_by_cache(rig, look.batch.inputs, std::max<Index>(1, static_cast<Index>(look.batch.inputs.size()) / 2), &look.album);
    return look;
  }
  const Arena<float> weights = rig.model.arena.clone();
  const bool training = probe == Probe::training, adapted = probe == Probe::adapter;
  if (training) restore(rig.model, rig.fresh);
  if (adapted) attach(rig.model, *rig.adapter);
  if (adapted && rig.after_attach) rig.after_attach(rig.model);
  look.batch = whole_split(training ? rig.train : adapted ? rig.other : rig.val, c.context, 2, separator).front();
  if (rig.collate) rig.collate(look.batch);
  const auto both = watched(rig.trace, &look.album);
  Workspace workspace;
  Pass<float> pass;
  pass.exec = rig.training.exec, pass.starts = look.batch.starts, pass.workspace = &workspace, pass.trace = both.get();
  pass.training = rig.evaluates_as_training, pass.random = RandomStream{rig.training.seed}.at("look").at(number);
  DecoderSaved<float> saved;
  DecoderGrads<float> grads = make_gradients(rig.model);
  decoder_loss<float>(rig.model, pass, look.batch.inputs, look.batch.targets, &saved, &grads,
                      1.0F / static_cast<float>(look.batch.scored()));
  for (const auto& [site, value] : look.album.values()) look.laws[site] = laws_of(rig, look, site, &value);
  if (adapted) detach(rig.model);
  if (training) restore(rig.model, weights);
  return look;
}

}  // namespace glassformer
