// A whole decoder composed of the formulas of ops/reference, on the tape, against the engine's own gradients of every parameter.
// Legend: N = ΣT tokens, C channels, H query heads, G key-value heads, D head width, F hidden width, V vocabulary.
#include <doctest/doctest.h>

#include <chrono>
#include <map>

#include "../model/models.hpp"
#include "glassformer/autograd/tape.hpp"
#include "glassformer/ops/reference/activation.hpp"
#include "glassformer/ops/reference/attention.hpp"
#include "glassformer/ops/reference/linear.hpp"
#include "glassformer/ops/reference/loss.hpp"
#include "glassformer/ops/reference/norm.hpp"

using namespace glassformer;
using namespace glassformer::test;
namespace reference = ops::reference;

namespace {

struct Batch {
  std::vector<Token> ids, targets;  // [N]
  std::vector<Index> lengths;
};
Batch batch_of(const ModelConfig& c, std::vector<Index> lengths) {
  Index N = 0;
  for (const Index length : lengths) N += length;
  Batch b{random_ids(N, c.vocab, 1), random_ids(N, c.vocab, 2), std::move(lengths)};
  b.targets[1] = -1;  // one that is not scored
  return b;
}

// The decoder as its formulas, for any scalar: reads top to bottom like src/model.
template <class S>
class Formulas {
 public:
  Formulas(const ModelConfig& config, std::map<std::string, Matrix<S>>& parameters) : c(config), p(parameters) {}

  S loss(const Batch& batch) {                                   // Σ of the scored tokens' losses
    Matrix<S> x(static_cast<Index>(batch.ids.size()), c.width);  // [N, C] the residual stream
    reference::embedding_forward<S>(weight("embed"), batch.ids, x);
    places.clear();
    for (const Index length : batch.lengths) {
      for (Index t = 0; t < length; ++t) places.push_back(static_cast<Token>(t));
    }
    if (c.position == Position::learned) {
      Matrix<S> encoding(x.rows(), c.width);
      reference::embedding_forward<S>(weight("pos_embed"), places, encoding);
      reference::add<S>(encoding, x);
    }
    const bool pre = c.placement == NormPlacement::pre;
    for (Index i = 0; i < c.layers; ++i) {
      const std::string at = fmt::format("blocks.{}.", i);
      x += attention(at, pre ? norm(at + "ln1", x) : x, batch.lengths);
      if (!pre) x = norm(at + "ln1", x);
      x += mlp(at, pre ? norm(at + "ln2", x) : x);
      if (!pre) x = norm(at + "ln2", x);
    }
    if (pre) x = norm("ln_final", x);
    Matrix<S> logits(x.rows(), c.vocab);
    reference::linear_forward<S>(x, weight(c.tied ? "embed" : "unembed"), {}, logits);
    std::vector<S> losses(batch.ids.size());
    reference::cross_entropy<S, S>(logits, batch.targets, losses, false, S(1));
    S sum = 0;
    for (const S& l : losses) sum += l;
    return sum;
  }

 private:
  MatrixView<S> tensor(const std::string& name) {
    const auto found = p.find(name);
    return found == p.end() ? MatrixView<S>{} : view(found->second);
  }
  MatrixView<S> weight(const std::string& name) { return tensor(name + ".weight"); }
  MatrixView<S> bias(const std::string& name) { return tensor(name + ".bias"); }

  Matrix<S> linear(const std::string& name, const Matrix<S>& x) {
    Matrix<S> y(x.rows(), weight(name).rows);
    reference::linear_forward<S>(x, weight(name), bias(name), y);
    return y;
  }
  Matrix<S> norm(const std::string& name, const Matrix<S>& x) {
    Matrix<S> y(x.rows(), x.cols());
    ops::NormStatistics<S> statistics;
    reference::norm_forward<S>(c.norm, x, weight(name), bias(name), S(c.norm_epsilon), y, statistics);
    return y;
  }
  // (x_i, x_{i+D/2}) turned by place·base^(−2i/D)
  void rotate(Eigen::Ref<Matrix<S>, 0, Eigen::OuterStride<>> x) {
    const Index D = c.head_dim, half = D / 2;
    for (Index n = 0; n < x.rows(); ++n) {
      for (Index j = 0; j < x.cols() / D * half; ++j) {
        const Index i = j % half, first = j / half * D + i;
        const double angle =
            places[static_cast<std::size_t>(n)] * std::pow(c.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(D));
        const S a = x(n, first), b = x(n, first + half), cosine = S(std::cos(angle)), sine = S(std::sin(angle));
        x(n, first) = a * cosine - b * sine;
        x(n, first + half) = a * sine + b * cosine;
      }
    }
  }
  Matrix<S> attention(const std::string& at, const Matrix<S>& x, const std::vector<Index>& lengths) {
    const Index D = c.head_dim, HD = c.heads * D, GD = c.kv_heads * D, wide = HD + 2 * GD;
    Matrix<S> qkv = linear(at + "attn.qkv", x);  // [N, (H + 2G)·D]
    if (c.position == Position::rope) rotate(qkv.leftCols(HD + GD));
    ops::AttentionShape shape;
    shape.heads = c.heads, shape.kv_heads = c.kv_heads, shape.head_dim = D, shape.scale = 1 / std::sqrt(static_cast<double>(D));
    shape.window = c.window;
    for (Index h = 1; c.position == Position::alibi && h <= c.heads; ++h) {
      shape.slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(c.heads)));
    }
    Matrix<S> z(x.rows(), HD);
    std::vector<ops::AttentionSequence<S>> sequences;
    Index begin = 0;
    for (const Index T : lengths) {
      const S* row = qkv.data() + begin * wide;
      sequences.push_back({T, T, {row, wide, D}, {row + HD, wide, D}, {row + HD + GD, wide, D}, {z.data() + begin * HD, HD, D}, nullptr});
      begin += T;
    }
    reference::attention_core_forward<S>(shape, sequences, {});
    return linear(at + "attn.out", z);
  }
  Matrix<S> mlp(const std::string& at, const Matrix<S>& x) {
    const Matrix<S> up = linear(at + "mlp.up", x);
    Matrix<S> post(x.rows(), c.hidden);
    if (c.mlp == Mlp::swiglu) {
      reference::swiglu_forward<S>(up, post);
    } else {
      reference::activation_forward<S>(c.mlp == Mlp::gelu_exact ? ops::Activation::gelu_exact : ops::Activation::gelu_tanh, up, post);
    }
    return linear(at + "mlp.down", post);
  }

  const ModelConfig& c;
  std::map<std::string, Matrix<S>>& p;
  std::vector<Token> places;
};

// The gradients of every tensor by the tape, and what the tape cost.
struct ByTape {
  double loss = 0;
  Index inputs = 0, nodes = 0;
  std::map<std::string, Matrix<double>> gradients;
};
ByTape by_tape(const Decoder<double>& model, const Batch& batch) {
  Tape tape;
  std::map<std::string, Matrix<Var>> parameters;
  for (const TensorInfo& info : model.arena.layout().tensors()) parameters[info.name] = tape.variables(*model.arena.view(info));
  ByTape result;
  result.inputs = tape.size();
  const Var loss = Formulas<Var>(model.config, parameters).loss(batch);
  const Derivatives d = tape.backward(loss);
  result.loss = loss.value, result.nodes = tape.size();
  for (const auto& [name, tensor] : parameters) result.gradients[name] = d(tensor);
  return result;
}

// The engine's, by hand.
DecoderGrads<double> by_hand(const Decoder<double>& model, const Batch& batch, double& loss, Kernels kernels) {
  Runner<double> runner{model, exec_of(kernels)};
  DecoderGrads<double> g = make_gradients(model);
  DecoderSaved<double> saved;
  loss = decoder_loss<double>(model, runner.pass(batch.lengths), batch.ids, batch.targets, &saved, &g, 1.0).sum_nats;
  return g;
}

ModelConfig gpt2_like() {
  ModelConfig c = tiny_config(Position::learned);
  c.kv_heads = 4;
  return c;
}
ModelConfig llama_like() {
  ModelConfig c = tiny_config(Position::rope);
  c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.tied = false;
  return c;
}
ModelConfig another() {
  ModelConfig c = tiny_config(Position::alibi);
  c.placement = NormPlacement::post, c.mlp = Mlp::gelu_exact, c.kv_heads = 1, c.window = 3;
  return c;
}

}  // namespace

TEST_CASE("a decoder of formulas on the tape has the engine's loss and the engine's gradients") {
  for (const ModelConfig& config : {gpt2_like(), llama_like(), another()}) {
    const Decoder<double> model = random_decoder<double>(config);
    const Batch batch = batch_of(config, {6, 1, 4});
    const ByTape tape = by_tape(model, batch);
    for (const Kernels kernels : all_kernels) {
      double loss = 0, worst = 0;
      const DecoderGrads<double> hand = by_hand(model, batch, loss, kernels);
      CHECK(tape.loss == doctest::Approx(loss).epsilon(1e-13));
      CHECK(tape.gradients.size() == model.arena.layout().tensors().size());
      for (const auto& [name, gradient] : tape.gradients) {
        INFO(name);
        const double error = relative_error(gradient, *hand.arena.view(name));
        worst = std::max(worst, error);
        CHECK(error < 1e-11);
        CHECK(gradient.norm() > 0);
      }
      MESSAGE(choice_name(config.position), ", ", choice_name(config.mlp), ": ", tape.gradients.size(), " tensors, the worst error ",
              worst);
    }
  }
}

TEST_CASE("the same formulas in double are the engine") {
  for (const ModelConfig& config : {gpt2_like(), llama_like(), another()}) {
    const Decoder<double> model = random_decoder<double>(config);
    const Batch batch = batch_of(config, {6, 1, 4});
    std::map<std::string, Matrix<double>> parameters;
    for (const TensorInfo& info : model.arena.layout().tensors()) parameters[info.name] = *model.arena.view(info);
    double loss = 0;
    by_hand(model, batch, loss, Kernels::reference);
    CHECK(Formulas<double>(model.config, parameters).loss(batch) == doctest::Approx(loss).epsilon(1e-14));
  }
}

TEST_CASE("what the tape costs: docs/autograd.md") {
  const ModelConfig config = gpt2_like();
  const Decoder<double> model = random_decoder<double>(config);
  const Batch batch = batch_of(config, {16, 16});
  const auto seconds = [](auto f) {  // the best of five
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      const auto start = std::chrono::steady_clock::now();
      f();
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  const ByTape tape = by_tape(model, batch);
  double loss = 0;
  const double on_tape = seconds([&] { by_tape(model, batch); });
  const double by_formulas = seconds([&] { by_hand(model, batch, loss, Kernels::reference); });
  const double fused = seconds([&] { by_hand(model, batch, loss, Kernels::fused); });
  MESSAGE("parameters ", tape.inputs, ", tokens ", batch.ids.size(), ", nodes ", tape.nodes, " = ",
          tape.nodes * static_cast<Index>(Tape::kNodeBytes), " bytes; ms: tape ", on_tape * 1e3, ", formulas by hand ", by_formulas * 1e3,
          ", fused ", fused * 1e3);
  CHECK(tape.inputs == model.arena.layout().parameters());
  CHECK(static_cast<double>(tape.nodes) == doctest::Approx(375e3).epsilon(0.01));
  CHECK(Tape::kNodeBytes == 32);
  CHECK(on_tape > 3 * fused);  // some 45 times, on a machine that does nothing else
  // Two nodes, a product and a sum, for each weight of a matrix and each token: two thirds of all.
  Index matrices = 0;
  for (const TensorInfo& info : model.arena.layout().tensors()) {
    if (info.kind != ParameterKind::vector && info.name != "pos_embed.weight") matrices += info.size();
  }
  const double share = static_cast<double>(2 * matrices * static_cast<Index>(batch.ids.size())) / static_cast<double>(tape.nodes);
  CHECK(share == doctest::Approx(2.0 / 3).epsilon(0.05));
}
