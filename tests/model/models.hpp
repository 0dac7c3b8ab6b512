// Small random models, and ways to run them, for the tests of the decoder.
#pragma once
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "glassformer/model/adapter.hpp"
#include "support/check.hpp"

namespace glassformer::test {

inline ModelConfig tiny_config(Position position = Position::rope) {
  ModelConfig c;
  c.vocab = 23, c.context = 32, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 16, c.hidden = 24, c.position = position;
  return c;
}

// Weights of natural size, gains and biases not one and zero, so that nothing is linear or absent by accident.
template <class S> Decoder<S> random_decoder(const ModelConfig& c, std::uint64_t seed = 1) {
  Decoder<S> m = make_decoder<S>(c);
  for (const TensorInfo& info : m.arena.layout().tensors()) {
    const bool vector = info.kind == ParameterKind::vector, gain = vector && info.name.ends_with(".weight");
    const double deviation = vector ? 0.2 : 1 / std::sqrt(static_cast<double>(info.cols));
    const RandomStream stream = RandomStream{seed}.at(info.name);
    const MatrixView<S> view = m.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) view.data[i] = static_cast<S>((gain ? 1 : 0) + deviation * random_normal(stream, static_cast<std::uint64_t>(i)));
  }
  return m;
}

// B not zero, so that the adapter changes something.
template <class S> Adapter<S> random_adapter(const ModelConfig& c, LoraConfig lora, std::uint64_t seed = 1) {
  Adapter<S> a = make_adapter<S>(c, lora, seed);
  const RandomStream stream = RandomStream{seed}.at("B");
  std::uint64_t draw = 0;
  for (const AdapterTarget& t : a.targets) {
    const MatrixView<S> b = a.arena.view(t.name + ".lora_B");
    for (Index i = 0; i < b.size(); ++i) b.data[i] = static_cast<S>(0.1 * random_normal(stream, draw++));
  }
  return a;
}

inline std::vector<Token> random_ids(Index n, Index vocab, std::uint64_t seed = 1) {
  std::vector<Token> ids(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<Token>(random_below(RandomStream{seed}.at("ids"), i, static_cast<std::uint64_t>(vocab)));
  }
  return ids;
}

// Runs a model: packed sequences of the given lengths, with what else a pass may have.
template <class S> struct Runner {
  const Decoder<S>& model;
  Exec exec = {};
  Trace<S>* trace = nullptr;
  KvCache<S>* cache = nullptr;
  std::vector<Index> slots = {};
  bool training = false;
  Workspace workspace = {};
  std::vector<Index> starts = {};

  Pass<S> pass(const std::vector<Index>& lengths) {
    starts.assign(1, 0);
    for (const Index length : lengths) starts.push_back(starts.back() + length);
    Pass<S> p;
    p.exec = exec, p.trace = trace, p.cache = cache, p.slots = slots, p.training = training;
    p.starts = starts, p.workspace = &workspace, p.random = {7};
    return p;
  }
  Matrix<S> logits(const std::vector<Token>& ids, std::vector<Index> lengths = {}) {
    if (lengths.empty()) lengths = {static_cast<Index>(ids.size())};
    const Pass<S> p = pass(lengths);
    const Index N = static_cast<Index>(ids.size());
    Matrix<S> hidden(N, model.config.width), y(N, model.config.vocab);
    decoder_forward<S>(model, p, ids, hidden);
    decoder_logits<S>(model, p, hidden, y);
    return y;
  }
  // Gradients of the summed loss at the next token.
  DecoderGrads<S> gradients(const std::vector<Token>& ids, const std::vector<Index>& lengths, const Adapter<S>* adapter = nullptr) {
    std::vector<Token> targets(ids.begin() + 1, ids.end());
    targets.push_back(-1);
    DecoderGrads<S> g = adapter ? make_adapter_gradients<S>(model, *adapter) : make_gradients<S>(model);
    DecoderSaved<S> saved;
    decoder_loss<S>(model, pass(lengths), ids, targets, &saved, &g, S(1));
    return g;
  }
};

template <class S> Matrix<S> logits_of(const Decoder<S>& m, const std::vector<Token>& ids, std::vector<Index> lengths = {}, const Exec& exec = {}) {
  return Runner<S>{m, exec}.logits(ids, std::move(lengths));
}

template <class S> Eigen::Map<const Vector<S>> as_row(const Arena<S>& arena) {
  return {arena.values().data(), static_cast<Index>(arena.values().size())};
}

template <class S> double largest_difference(const Matrix<S>& a, const Matrix<S>& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols() || !a.allFinite() || !b.allFinite()) return std::numeric_limits<double>::infinity();
  return a.size() == 0 ? 0 : static_cast<double>((a - b).cwiseAbs().maxCoeff());
}

// What f throws, as the user reads it; empty when it throws nothing.
template <class F> std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

// Changes the values of one site.
template <class S> struct Edit : Trace<S> {
  std::string name;
  std::function<void(const Site&, MatrixRef<S>)> change;
  Edit(std::string n, std::function<void(const Site&, MatrixRef<S>)> c) : name(std::move(n)), change(std::move(c)) {}
  bool wants(std::string_view site) const override { return site == name; }
  void visit(const Site& site, MatrixRef<S> value) override { change(site, value); }
};

}  // namespace glassformer::test
