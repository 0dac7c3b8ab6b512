// Legend: T tokens, I inputs, O outputs, r rank.
#include "glassformer/explain/lora.hpp"

#include <Eigen/QR>
#include <Eigen/SVD>
#include <array>
#include <cmath>
#include <cstring>

#include "explain/lora_values.hpp"
#include "explain/teller.hpp"
#include "glassformer/model/reading.hpp"

namespace glassformer {
namespace {

template <class S>
struct Layer {
  Projection<S> projection;  // the adapted rows alone, with the adapter
  Matrix<S> x;
};

template <class S>
Matrix<S> run(const Projection<S>& p, const Matrix<S>& x, const Exec& exec) {
  Workspace workspace;
  Pass<S> pass;
  pass.exec = exec, pass.workspace = &workspace;
  Matrix<S> y(x.rows(), p.weight.rows());
  projection_forward<S>(p, pass, "lora", x, y);
  return y;
}

template <class S>
bool same_bits(const Matrix<S>& a, const Matrix<S>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(S)) == 0;
}

// The layer by all ways: without its adapter, with it, merged, with a fresh one.
template <class S>
LoraLayer layer_values(const Layer<S>& layer, const LoraConfig& config, const Exec& exec) {
  const Projection<S>& p = layer.projection;
  const LoraView<S>& lora = p.adapters.at(0);
  LoraLayer v;
  v.config = config;
  v.x = layer.x.template cast<double>();
  v.weight = in_double(p.weight.dense), v.bias = in_double(p.bias), v.a = in_double(lora.a), v.b = in_double(lora.b);
  Matrix<S> change = Matrix<S>::Zero(p.weight.rows(), p.weight.cols()), merged = *p.weight;
  lora_merge<S>(lora, MatrixView<S>{change.data(), change.rows(), change.cols()}, exec);
  lora_merge<S>(lora, {merged.data(), merged.rows(), merged.cols()}, exec);
  v.change = change.template cast<double>(), v.merged = merged.template cast<double>();

  Projection<S> base = p, with_merged = p, only_a = p, fresh = p;
  base.adapters.clear(), with_merged.adapters.clear();
  with_merged.weight = MatrixView<S>{merged.data(), merged.rows(), merged.cols()};
  const Matrix<S> y_base = run<S>(base, layer.x, exec);
  v.y_base = y_base.template cast<double>();
  v.y_adapted = run<S>(p, layer.x, exec).template cast<double>();
  v.y_merged = run<S>(with_merged, layer.x, exec).template cast<double>();
  only_a.weight = lora.a, only_a.bias = {}, only_a.adapters.clear();
  v.low = run<S>(only_a, layer.x, exec).template cast<double>();
  Matrix<S> zero = Matrix<S>::Zero(lora.b.rows, lora.b.cols);
  fresh.adapters[0].b = {zero.data(), zero.rows(), zero.cols()};
  v.fresh_same_bits = same_bits<S>(run<S>(fresh, layer.x, exec), y_base);
  return v;
}

// The engine's own gradients of A and B for a given dy, with W frozen.
void backward_values(const Layer<double>& layer, const Matrix<double>& dy, const Exec& exec, LoraLayer& v) {
  v.dy = dy;
  const Matrix<double> before = *layer.projection.weight;
  const auto gradients = [&](const Projection<double>& p, Matrix<double>& da, Matrix<double>& db) {
    da = Matrix<double>::Zero(v.a.rows(), v.a.cols()), db = Matrix<double>::Zero(v.b.rows(), v.b.cols());
    ProjectionGradients<double> g;
    g.adapters.push_back({{da.data(), da.rows(), da.cols()}, {db.data(), db.rows(), db.cols()}});
    Workspace workspace;
    Pass<double> pass;
    pass.exec = exec, pass.workspace = &workspace;
    Matrix<double> dx(layer.x.rows(), layer.x.cols());
    projection_backward<double>(p, pass, "lora", layer.x, dy, dx, g);
  };
  gradients(layer.projection, v.da, v.db);
  Projection<double> fresh = layer.projection;
  Matrix<double> zero = Matrix<double>::Zero(v.b.rows(), v.b.cols());
  fresh.adapters[0].b = {zero.data(), zero.rows(), zero.cols()};
  gradients(fresh, v.da_fresh, v.db_fresh);
  v.weight_untouched = same_bits<double>(before, *layer.projection.weight);
  const double s = v.config.scale();
  const Matrix<double> da = s * (dy * v.b).transpose() * v.x, db = s * dy.transpose() * v.low;
  v.gradient_error = std::max(largest(da - v.da) / largest(da), largest(db - v.db) / largest(db));
}

// Gradients of the text's mean loss with regard to this target's A and B, by the engine's whole backward pass.
std::pair<Matrix<double>, Matrix<double>> model_gradients(const Decoder<float>& base, const Adapter<float>& adapter,
                                                          const std::string& target, const ExplainedText& text, const Exec& exec) {
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
  return {in_double(grads.adapter.view(target + ".lora_A")), in_double(grads.adapter.view(target + ".lora_B"))};
}

Adapter<float> fresh_copy(const Adapter<float>& adapter) {
  Adapter<float> fresh = adapter;
  fresh.arena = adapter.arena.clone();
  for (const AdapterTarget& t : fresh.targets) (*fresh.arena.view(t.name + ".lora_B")).setZero();
  return fresh;
}

std::string site_read_by(const ModelConfig& c, const AdapterTarget& t) {
  const bool pre = c.placement == NormPlacement::pre;
  const std::string prefix = fmt::format("blocks.{}.", t.block);
  if (t.projection == "attn.qkv") return prefix + (pre ? "ln1.normalized" : "resid_pre");
  if (t.projection == "attn.out") return prefix + "attn.z";
  if (t.projection == "mlp.up") return prefix + (pre ? "ln2.normalized" : "resid_mid");
  return prefix + "mlp.post";
}

const AdapterTarget& find_target(const Adapter<float>& adapter, const std::string& name, Index layers) {
  require(!adapter.targets.empty(), "adapter: expected at least one target, found none");
  if (name.empty()) return adapter.targets.front();
  std::string kinds;
  for (const AdapterTarget& t : adapter.targets) {
    if (t.name == name) return t;
    const std::string kind = t.name.substr(t.name.find('.', 7) + 1);  // behind "blocks.N."
    if (t.block == adapter.targets.front().block) kinds += (kinds.empty() ? "" : ", ") + kind;
  }
  require(false, "target: expected blocks.0 … blocks.{} with one of {} (as in {}), found {}", layers - 1, kinds,
          adapter.targets.front().name, name);
  return adapter.targets.front();
}

// r and α of this target: patterns may give it others than the adapter's.
LoraConfig config_of(const Adapter<float>& adapter, const AdapterTarget& t) {
  LoraConfig c = adapter.config;
  c.rank = t.rank, c.alpha = t.alpha;
  return c;
}

Layer<float> layer_of(const Decoder<float>& m, const Adapter<float>& adapter, const AdapterTarget& t, const Matrix<float>& x) {
  const std::string name = fmt::format("blocks.{}.{}", t.block, t.projection);
  const MatrixView<float> weight = m.arena.view(name + ".weight"), bias = m.arena.view(name + ".bias");
  Layer<float> layer;
  layer.x = x;
  layer.projection.weight = MatrixView<float>{weight.data + t.row_begin * weight.cols, t.rows, weight.cols};
  if (bias) layer.projection.bias = {bias.data + t.row_begin, 1, t.rows};
  layer.projection.adapters.push_back({adapter.arena.view(t.name + ".lora_A"), adapter.arena.view(t.name + ".lora_B"), 0,
                                       static_cast<float>(config_of(adapter, t).scale()), 0});
  return layer;
}

LoraModel model_values(const Decoder<float>& base, const Decoder<float>& adapted, const Adapter<float>& adapter, const ExplainedText& text,
                       const Exec& exec) {
  Decoder<float> merged = convert_decoder<float, float>(base);
  merge(merged, adapter, exec);
  const Reading<float> reading{.exec = exec};
  const Matrix<float> y = decoder_read<float>(base, text.ids, reading), ya = decoder_read<float>(adapted, text.ids, reading),
                      ym = decoder_read<float>(merged, text.ids, reading);
  LoraModel v;
  v.layers = base.config.layers, v.targets = static_cast<Index>(adapter.targets.size());
  v.parameters = base.arena.layout().parameters(), v.trainable = adapter.arena.layout().parameters();
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
  require_text(text, base.config.context);
  const Index place = checked_place(question.token, text);
  require(text.ids.size() >= 2, "prompt: expected at least two tokens, so that one can be predicted, found {}", text.ids.size());
  const AdapterTarget& target = find_target(adapter, question.target, base.config.layers);
  require(target.block >= 0, "target: expected a linear layer of a block, found {}", target.name);
  require(!adapter.config.dora, "adapter: expected LoRA, found DoRA, whose change is not B·A alone");
  require(base.quantized.empty(), "model: expected one in floating point, found a quantized one");
  Decoder<float> adapted = base;  // shares the weights; the adapter is the copy's own
  attach(adapted, adapter);
  const std::string site = site_read_by(base.config, target);
  Recorder<float> seen({site});
  decoder_read<float>(adapted, text.ids, {.exec = question.exec, .trace = &seen});

  LoraLayer v = layer_values<float>(layer_of(base, adapter, target, seen.at(site)), config_of(adapter, target), question.exec);
  v.name = target.name;
  const Arena<float> before = base.arena.clone();
  std::tie(v.da, v.db) = model_gradients(base, adapter, target.name, text, question.exec);
  std::tie(v.da_fresh, v.db_fresh) = model_gradients(base, fresh_copy(adapter), target.name, text, question.exec);
  v.weight_untouched = std::ranges::equal(before.values(), base.arena.values());
  const LoraModel model = model_values(base, adapted, adapter, text, question.exec);
  return lora_story(v, text, place, &model);
}

Story explain_lora_example(const Exec& exec) {
  Matrix<double> weight{{1, 0, 0.5, 0}, {0, 1, 0, 0.5}, {0.5, 0, 1, 0}};  // [3, 4]
  Matrix<double> a{{0.5, 0, -0.5, 1}}, b{{1}, {0}, {-0.5}};               // [1, 4], [3, 1]
  const Matrix<double> x{{1, 0, 0, 0.5}, {0, 1, 0.5, 1}};                 // [2, 4]
  const Matrix<double> dy{{1, 0, 0}, {0, 0.5, -1}};                       // [2, 3]
  const auto view = [](Matrix<double>& m) { return MatrixView<double>{m.data(), m.rows(), m.cols()}; };
  LoraConfig config;
  config.rank = 1, config.alpha = 2;
  Layer<double> layer;
  layer.x = x;
  layer.projection.weight = view(weight);
  layer.projection.adapters.push_back({view(a), view(b), 0, config.scale(), 0});
  LoraLayer v = layer_values<double>(layer, config, exec);
  v.name = "a layer of 4 inputs and 3 outputs";
  backward_values(layer, dy, exec, v);
  return lora_story(v, {.ids = {0, 1}, .tokens = {"the", "cat"}}, 1, nullptr);
}

}  // namespace glassformer
