// Legend: T tokens, I inputs, O outputs, r rank.
#include "glassformer/explain/lora.hpp"

#include <Eigen/QR>
#include <Eigen/SVD>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>

#include "explain/lora_values.hpp"
#include "explain/teller.hpp"
#include "glassformer/explain/change.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/model/reading.hpp"

namespace glassformer {
namespace {

template <class S>
struct Layer {
  Projection<S> projection;  // the adapted rows alone, with the adapter
  Matrix<S> x;
  std::vector<Token> ids = {};  // what is looked up; empty: x is multiplied
};

template <class S>
Matrix<S> run(const Projection<S>& p, const Layer<S>& layer, const Exec& exec) {
  Workspace workspace;
  Pass<S> pass;
  pass.exec = exec, pass.workspace = &workspace;
  Matrix<S> y(layer.ids.empty() ? layer.x.rows() : static_cast<Index>(layer.ids.size()),
              layer.ids.empty() ? p.weight.rows() : p.weight.cols());
  if (layer.ids.empty()) {
    projection_forward<S>(p, pass, "lora", layer.x, y);
  } else {
    lookup_forward<S>(p, pass, layer.ids, y);
  }
  return y;
}

template <class S>
bool same_bits(const Matrix<S>& a, const Matrix<S>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(S)) == 0;
}

template <class S>
MatrixView<S> view_of(Matrix<S>& m) {
  return {m.data(), m.rows(), m.cols()};
}

template <class S>
Matrix<S> in_floating_point(const ops::Weight<S>& w) {
  if (!w.quantized) return *w;
  Matrix<S> dense(w.rows(), w.cols());
  dequantize<S>(*w.quantized, w.first_row, dense);
  return dense;
}

// The adapter as it was before training: B is zero, and DoRA's magnitudes are the norms of W's rows.
template <class S>
struct Fresh {
  Matrix<S> b, magnitude;
  Projection<S> projection;
  explicit Fresh(const Projection<S>& trained, const Exec& exec) : projection(trained) {
    LoraView<S>& lora = projection.adapters.at(0);
    b = Matrix<S>::Zero(lora.b.rows, lora.b.cols);
    lora.b = view_of(b);
    if (!lora.magnitude) return;
    magnitude = row_norms<S>(trained.weight, 0, lora.b.rows);
    lora.magnitude = view_of(magnitude), lora.norms = std::make_shared<DoraNorms<S>>();
    dora_refresh<S>(lora, trained.weight, exec);
  }
};

// Row by row ‖w′ − w‖² = (‖w′‖ − ‖w‖)² + 2‖w‖‖w′‖(1 − cos θ): what is length, and what is direction.
void split_values(LoraLayer& v) {
  v.base_norms = v.weight.rowwise().norm().transpose(), v.merged_norms = v.merged.rowwise().norm().transpose();
  v.angles.resize(v.weight.rows());
  for (Index o = 0; o < v.weight.rows(); ++o) {
    const double lengths = v.base_norms(o) * v.merged_norms(o), dot = v.weight.row(o).dot(v.merged.row(o));
    v.angles(o) = lengths > 0 ? std::acos(std::clamp(dot / lengths, -1.0, 1.0)) * 180 / std::numbers::pi : 0;
  }
  const double all = v.change.squaredNorm();
  v.magnitude_share = all > 0 ? (v.merged_norms - v.base_norms).squaredNorm() / all : 0;
}

// The layer by all ways: without its adapter, with it, merged, with a fresh one.
template <class S>
LoraLayer layer_values(const Layer<S>& layer, const Exec& exec) {
  const Projection<S>& p = layer.projection;
  LoraView<S> lora = p.adapters.at(0);
  LoraLayer v;
  v.looked_up = !layer.ids.empty(), v.scale = static_cast<double>(lora.scale);
  Projection<S> base = p;
  base.adapters.clear();
  const Matrix<S> y_base = run<S>(base, layer, exec);
  Matrix<S> b = *lora.b, weight = v.looked_up ? y_base : in_floating_point(p.weight);
  if (v.looked_up) {  // the rows of the text's tokens
    b.resize(y_base.rows(), lora.b.cols);
    for (std::size_t t = 0; t < layer.ids.size(); ++t) b.row(static_cast<Index>(t)) = (*lora.b).row(layer.ids[t]);
    lora.b = view_of(b);
  }
  Matrix<S> merged = weight;
  v.change = lora_change<S>(lora, view_of(weight), exec).template cast<double>();
  lora_merge<S>(lora, view_of(merged), exec);
  v.x = layer.x.template cast<double>();
  v.weight = weight.template cast<double>(), v.bias = in_double(p.bias), v.a = in_double(lora.a), v.b = b.template cast<double>();
  v.merged = merged.template cast<double>();
  if (lora.magnitude) v.magnitude = in_double(lora.magnitude).row(0), v.v_norms = lora.norms->norm.template cast<double>();
  split_values(v);

  v.y_base = y_base.template cast<double>();
  v.y_adapted = run<S>(p, layer, exec).template cast<double>();
  if (v.looked_up) {
    v.y_merged = v.merged;
  } else {
    Projection<S> with_merged = base, only_a = base;
    with_merged.weight = view_of(merged);
    v.y_merged = run<S>(with_merged, layer, exec).template cast<double>();
    only_a.weight = lora.a, only_a.bias = {};
    v.low = run<S>(only_a, layer, exec).template cast<double>();
  }
  v.fresh_same_bits = same_bits<S>(run<S>(Fresh<S>(p, exec).projection, layer, exec), y_base);
  return v;
}

// The engine's own gradients of A and B for a given dy, with W frozen.
void backward_values(const Layer<double>& layer, const Matrix<double>& dy, const Exec& exec, LoraLayer& v) {
  v.dy = dy;
  const Matrix<double> before = *layer.projection.weight;
  const auto gradients = [&](const Projection<double>& p, Matrix<double>& da, Matrix<double>& db) {
    da = Matrix<double>::Zero(v.a.rows(), v.a.cols()), db = Matrix<double>::Zero(v.b.rows(), v.b.cols());
    ProjectionGradients<double> g;
    g.adapters.push_back({view_of(da), view_of(db), {}});
    Workspace workspace;
    Pass<double> pass;
    pass.exec = exec, pass.workspace = &workspace;
    Matrix<double> dx(layer.x.rows(), layer.x.cols());
    projection_backward<double>(p, pass, "lora", layer.x, dy, dx, g);
  };
  gradients(layer.projection, v.da, v.db);
  gradients(Fresh<double>(layer.projection, exec).projection, v.da_fresh, v.db_fresh);
  v.weight_untouched = same_bits<double>(before, *layer.projection.weight);
  const Matrix<double> da = v.scale * (dy * v.b).transpose() * v.x, db = v.scale * dy.transpose() * v.low;
  v.gradient_error = std::max(largest(da - v.da) / largest(da), largest(db - v.db) / largest(db));
}

// Gradients of the text's mean loss with regard to this target's A, B and magnitudes, by the engine's whole backward pass.
struct TargetGradients {
  Matrix<double> da, db, dm;
};
TargetGradients model_gradients(const Decoder<float>& base, const Adapter<float>& adapter, const std::string& target,
                                const ExplainedText& text, const Exec& exec) {
  Decoder<float> m = base;  // shares the weights; the adapter is the copy's own
  attach(m, adapter);
  DecoderGrads<float> grads = make_adapter_gradients(m, adapter);
  std::vector<Token> targets(text.ids.begin() + 1, text.ids.end());
  targets.push_back(-1);
  const std::array<Index, 2> starts = {0, static_cast<Index>(text.ids.size())};
  Workspace workspace;
  Pass<float> pass;
  pass.exec = exec, pass.starts = starts, pass.workspace = &workspace;
  DecoderSaved<float> saved;
  decoder_loss<float>(m, pass, text.ids, targets, &saved, &grads, 1 / static_cast<float>(text.ids.size() - 1));
  const auto of = [&](const char* which) { return in_double(grads.adapter.view(target + which)); };
  return {of(".lora_A"), of(".lora_B"), of(".magnitude")};
}

Adapter<float> fresh_copy(const Decoder<float>& base, const Adapter<float>& adapter) {
  Adapter<float> fresh = adapter;
  fresh.arena = adapter.arena.clone();
  for (const AdapterTarget& t : fresh.targets) {
    (*fresh.arena.view(t.name + ".lora_B")).setZero();
    if (adapter.config.dora)
      *fresh.arena.view(t.name + ".magnitude") = row_norms<float>(adapted_projection(base, t).weight, t.row_begin, t.rows);
  }
  return fresh;
}

std::string site_read_by(const ModelConfig& c, const AdapterTarget& t) {
  const bool pre = c.placement == NormPlacement::pre;
  if (t.projection == "embed") return "embed";
  if (t.projection == "unembed") return pre ? "ln_final.normalized" : fmt::format("blocks.{}.resid_post", c.layers - 1);
  const std::string prefix = fmt::format("blocks.{}.", t.block);
  if (t.projection == "attn.qkv") return prefix + (pre ? "ln1.normalized" : "resid_pre");
  if (t.projection == "attn.out") return prefix + "attn.z";
  if (t.projection == "mlp.up") return prefix + (pre ? "ln2.normalized" : "resid_mid");
  return prefix + "mlp.post";
}

const AdapterTarget& find_target(const Adapter<float>& adapter, const std::string& name, Index layers) {
  require(!adapter.targets.empty(), "adapter: expected at least one target, found none");
  if (name.empty()) return adapter.targets.front();
  std::string kinds, others;
  for (const AdapterTarget& t : adapter.targets) {
    if (t.name == name) return t;
    if (t.block < 0) others += " or " + t.name;
    if (t.block >= 0 && t.block == adapter.targets.front().block) kinds += (kinds.empty() ? "" : ", ") + t.kind();
  }
  if (kinds.empty()) require(false, "target: expected{}, found {}", others.substr(3), name);
  require(false, "target: expected blocks.0 … blocks.{} with one of {} (as in {}){}, found {}", layers - 1, kinds,
          adapter.targets.front().name, others, name);
  return adapter.targets.front();
}

// The adapted rows of a model's projection, with the one adapter that the model has there of this target.
Layer<float> layer_of(const Decoder<float>& adapted, const Adapter<float>& adapter, const AdapterTarget& t, const Exec& exec) {
  const Projection<float>& whole = adapted_projection(adapted, t);
  const float* a = adapter.arena.view(t.name + ".lora_A").data;
  LoraView<float> lora = *std::ranges::find_if(whole.adapters, [a](const LoraView<float>& view) { return view.a.data == a; });
  Layer<float> layer;
  layer.projection.weight = whole.weight.part(t.row_begin, t.rows);
  if (whole.bias) layer.projection.bias = {whole.bias.data + t.row_begin, 1, t.rows};
  lora.row_begin = 0, lora.dropout = 0;
  if (lora.norms) {
    lora.norms = std::make_shared<DoraNorms<float>>();
    dora_refresh<float>(lora, layer.projection.weight, exec);
  }
  layer.projection.adapters.push_back(std::move(lora));
  return layer;
}

// "q", "k", "v" of attn.qkv, "gate" and "up" of a joined MLP, with the norms of their rows of W and of its change.
void part_values(const ModelConfig& c, const AdapterTarget& t, LoraLayer& v) {
  LoraConfig parts;
  parts.rank = 1;
  if (t.kind() == "attn.qkv") parts.targets = {"attn.q", "attn.k", "attn.v"};
  if (t.kind() == "mlp.gate_up") parts.targets = {"mlp.gate", "mlp.up"};
  if (parts.targets.empty()) return;
  for (const AdapterTarget& part : adapter_targets(c, parts)) {
    if (part.block != t.block) continue;
    const auto rows = [&part](const Matrix<double>& m) { return m.middleRows(part.row_begin, part.rows).norm(); };
    v.parts.push_back({part.kind().substr(part.kind().find('.') + 1), {rows(v.weight), rows(v.change)}});
  }
}

// The whole tensor merged and quantized again, as a merged model would be saved.
LoraOverQuantized quantized_values(const ops::Weight<float>& whole, const AdapterTarget& t, const LoraLayer& v,
                                   const Decoder<float>* original, const Exec& exec) {
  const QuantizedMatrix& q = *whole.quantized;
  Matrix<float> w = in_floating_point(whole), merged = w;
  merged.middleRows(t.row_begin, t.rows) += v.change.cast<float>();
  const auto again = [&](const Matrix<float>& m) -> Matrix<double> {
    Matrix<double> rows(t.rows, t.inputs);
    dequantize<double>(quantize(q.type, m, exec), t.row_begin, rows);
    return rows;
  };
  const Matrix<double> rounded = again(merged), ours = merged.middleRows(t.row_begin, t.rows).cast<double>();
  LoraOverQuantized o;
  o.type = quantized_name(q.type), o.bits = 8 * static_cast<double>(q.bytes()) / static_cast<double>(whole.size());
  o.requantized_error = (rounded - ours).norm();
  const double energy = v.change.squaredNorm();
  o.surviving_share = energy > 0 ? (rounded - again(w)).cwiseProduct(v.change).sum() / energy : 0;
  if (!original) return o;
  const ops::Weight<float>& first = adapted_projection(*original, t).weight;
  require(!first.quantized && first.rows() == whole.rows() && first.cols() == whole.cols(),
          "original: expected {} [{}, {}] in floating point, as it was before quantization, found {}[{}, {}]", t.tensor(), whole.rows(),
          whole.cols(), first.quantized ? "a quantized one " : "", first.rows(), first.cols());
  const Matrix<double> w0 = (*first).middleRows(t.row_begin, t.rows).cast<double>();
  o.error = (w0 - w.middleRows(t.row_begin, t.rows).cast<double>()).norm(), o.error_with_adapter = (w0 - ours).norm();
  return o;
}

LoraModel model_values(const Decoder<float>& base, const Decoder<float>& adapted, const Adapter<float>& adapter, const ExplainedText& text,
                       const Exec& exec) {
  Decoder<float> merged = dequantize_decoder(base);
  merge(merged, adapter, exec);
  const Reading<float> reading{.exec = exec};
  const Matrix<float> y = decoder_read<float>(base, text.ids, reading), ya = decoder_read<float>(adapted, text.ids, reading),
                      ym = decoder_read<float>(merged, text.ids, reading);
  LoraModel v;
  v.layers = base.config.layers, v.targets = static_cast<Index>(adapter.targets.size());
  v.parameters = decoder_parameters(base), v.trainable = adapter.arena.layout().parameters();
  v.change_of_logits = (ya - y).cwiseAbs().maxCoeff(), v.merged_difference = (ym - ya).cwiseAbs().maxCoeff();
  v.largest_logit = ya.cwiseAbs().maxCoeff();
  v.loss_base = decoder_read_loss<float>(base, text.ids, reading).mean();
  v.loss_adapted = decoder_read_loss<float>(adapted, text.ids, reading).mean();
  const auto next = [&text](const Matrix<float>& logits) {
    const Token best = first_choice(logits, logits.rows() - 1);
    return static_cast<std::size_t>(best) < text.vocabulary.size() ? text.vocabulary[static_cast<std::size_t>(best)]
                                                                   : fmt::format("token {}", best);
  };
  v.next_base = next(y), v.next_adapted = next(ya);
  return v;
}

}  // namespace

Vector<double> lora_singular_values(double scale, const Matrix<double>& a, const Matrix<double>& b) {
  const Index r = a.rows();
  using Plain = Eigen::MatrixXd;
  const Plain at = a.transpose(), bb = b;
  const Eigen::HouseholderQR<Plain> qa(at), qb(bb);
  const Plain ra = qa.matrixQR().topRows(std::min(r, a.cols())).triangularView<Eigen::Upper>();
  const Plain rb = qb.matrixQR().topRows(std::min(r, b.rows())).triangularView<Eigen::Upper>();
  const Plain core = scale * rb * ra.transpose();
  return Eigen::JacobiSVD<Plain>(core).singularValues().transpose();
}

double effective_rank(const Vector<double>& singular_values) {
  const double sum = singular_values.sum();
  if (!(sum > 0)) return 0;
  double entropy = 0;
  for (const double s : singular_values) {
    if (s > 0) entropy -= s / sum * std::log(s / sum);
  }
  return std::exp(entropy);
}

Story explain_lora(const Decoder<float>& base, const Adapter<float>& adapter, const ExplainedText& text, const LoraQuestion& question) {
  require(base.adapters == 0, "model: expected none attached beside the adapter that is explained, found {}", base.adapters);
  if (adapter.prompt_tokens() > 0) return soft_prompt_story(base, adapter, text, question);
  require_text(text, base.config.context);
  const Index place = checked_place(question.token, text);
  require(text.ids.size() >= 2, "prompt: expected at least two tokens, so that one can be predicted, found {}", text.ids.size());
  const AdapterTarget& target = find_target(adapter, question.target, base.config.layers);
  Decoder<float> adapted = base;  // shares the weights; the adapter is the copy's own
  attach(adapted, adapter);
  const std::string site = site_read_by(base.config, target);
  Recorder<float> seen({site});
  decoder_read<float>(adapted, text.ids, {.exec = question.exec, .trace = &seen});

  const ops::Weight<float>& whole = adapted_projection(base, target).weight;
  Layer<float> layer = layer_of(adapted, adapter, target, question.exec);
  if (target.projection == "embed") {
    layer.ids = text.ids;
  } else {
    layer.x = seen.at(site);
  }
  LoraLayer v = layer_values<float>(layer, question.exec);
  v.name = target.name, v.tensor = target.tensor(), v.row_begin = target.row_begin, v.rows = target.rows, v.tensor_rows = whole.rows();
  v.alpha = target.alpha, v.rank_stabilized = adapter.config.rank_stabilized;
  Adapter<float> alone = adapter;  // the same numbers
  alone.targets = {target};
  const MatrixChange change = adapter_changes(base, alone, question.exec).front();
  v.weight_norm = change.weight_norm, v.singular_values = change.singular_values;
  part_values(base.config, target, v);
  if (whole.quantized && !v.looked_up) v.quantized = quantized_values(whole, target, v, question.original, question.exec);

  const Arena<float> before = base.arena.clone();
  const TargetGradients trained = model_gradients(base, adapter, target.name, text, question.exec),
                        fresh = model_gradients(base, fresh_copy(base, adapter), target.name, text, question.exec);
  v.da = trained.da, v.db = trained.db, v.dm = trained.dm, v.da_fresh = fresh.da, v.db_fresh = fresh.db, v.dm_fresh = fresh.dm;
  v.weight_untouched = std::ranges::equal(before.values(), base.arena.values());
  const LoraModel model = model_values(base, adapted, adapter, text, question.exec);
  return lora_story(v, text, place, &model);
}

Story explain_lora_example(const Exec& exec) {
  Matrix<double> weight{{1, 0, 0.5, 0}, {0, 1, 0, 0.5}, {0.5, 0, 1, 0}};  // [3, 4]
  Matrix<double> a{{0.5, 0, -0.5, 1}}, b{{1}, {0}, {-0.5}};               // [1, 4], [3, 1]
  const Matrix<double> x{{1, 0, 0, 0.5}, {0, 1, 0.5, 1}};                 // [2, 4]
  const Matrix<double> dy{{1, 0, 0}, {0, 0.5, -1}};                       // [2, 3]
  Layer<double> layer;
  layer.x = x;
  layer.projection.weight = view_of(weight);
  LoraView<double> lora;
  lora.a = view_of(a), lora.b = view_of(b), lora.scale = 2;
  layer.projection.adapters.push_back(lora);
  LoraLayer v = layer_values<double>(layer, exec);
  v.name = "a layer of 4 inputs and 3 outputs", v.alpha = 2;
  v.weight_norm = v.weight.norm(), v.singular_values = lora_singular_values(v.scale, v.a, v.b);
  v.rows = v.tensor_rows = v.weight.rows();
  backward_values(layer, dy, exec, v);
  return lora_story(v, {.ids = {0, 1}, .tokens = {"the", "cat"}}, 1, nullptr);
}

}  // namespace glassformer
