// Small random models for the tests of generation.
#pragma once
#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/sample/generate.hpp"

namespace glassformer {

inline const std::vector<Position>& all_positions() {
  static const std::vector<Position> all{Position::none, Position::sinusoidal, Position::learned, Position::rope, Position::alibi};
  return all;
}

// Weights large enough that logits have their natural size of about 1 and attention is far from even.
inline Decoder<float> random_model(ModelConfig c, std::uint64_t seed = 1) {
  if (c.vocab == 0) c.vocab = 256;
  c.embedding_std = 1 / std::sqrt(static_cast<double>(c.width));
  c.init_std = 1.5 / std::sqrt(static_cast<double>(c.width));
  Decoder<float> model = make_decoder<float>(c);
  initialize(model, seed);
  return model;
}

inline ModelConfig tiny(Position position, Index kv_heads = 2, Index context = 64, Index layers = 2) {
  ModelConfig c;
  c.context = context;
  c.layers = layers;
  c.heads = 4;
  c.kv_heads = kv_heads;
  c.width = 32;
  c.position = position;
  return c;
}

// logits [N, V] of ids read in one pass, without a cache.
inline Matrix<float> full_logits(const Decoder<float>& model, std::span<const Token> ids) { return decoder_read<float>(model, ids); }

// Keeps every value of one site that generation makes, in order.
struct SiteLog : Trace<float> {
  explicit SiteLog(std::string_view s = "logits") : name(s) {}
  std::string_view name;
  std::vector<Matrix<float>> all;
  bool wants(std::string_view site) const override { return site == name; }
  void visit(const Site&, MatrixRef<float> value) override { all.emplace_back(value); }
};

inline float best_two_gap(const Matrix<float>& logits) {
  std::vector<float> z(logits.data(), logits.data() + logits.size());
  std::partial_sort(z.begin(), z.begin() + 2, z.end(), std::greater<>());
  return z[0] - z[1];
}

}  // namespace glassformer
