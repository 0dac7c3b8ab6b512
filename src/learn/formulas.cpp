#include "learn/formulas.hpp"

#include "learn/interview.hpp"

namespace glassformer::learn {

ModelConfig gpt2_like(Index layers, Index heads, Index width, Index context, Index vocab) {
  ModelConfig c;
  c.layers = layers, c.heads = heads, c.width = width, c.context = context, c.vocab = vocab;
  return resolved(c);
}

ModelConfig llama_like(Index layers, Index heads, Index kv_heads, Index width, Index hidden, Index vocab) {
  ModelConfig c;
  c.layers = layers, c.heads = heads, c.kv_heads = kv_heads, c.width = width, c.hidden = hidden, c.vocab = vocab;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.tied = false;
  return resolved(c);
}

ModelConfig gpt2_small() { return gpt2_like(12, 12, 768, 1024, 50257); }
ModelConfig llama2_7b() {
  ModelConfig c = llama_like(32, 32, 32, 4096, 11008, 32000);
  c.context = 4096;
  return c;
}
ModelConfig llama3_8b() {
  ModelConfig c = llama_like(32, 32, 8, 4096, 14336, 128256);
  c.context = 8192, c.rope_base = 500000;
  return c;
}
ModelConfig mistral_7b() {
  ModelConfig c = llama_like(32, 32, 8, 4096, 14336, 32000);
  c.context = 32768, c.window = 4096;
  return c;
}

namespace {

double number(Index n) { return static_cast<double>(n); }
bool gated(const ModelConfig& c) { return c.mlp == Mlp::swiglu; }

}  // namespace

double attention_weights(const ModelConfig& c) {
  const double q = number(c.heads * c.head_dim), kv = number(c.kv_heads * c.head_dim);
  return number(c.width) * (q + 2 * kv) + q * number(c.width);
}

double mlp_weights(const ModelConfig& c) { return (gated(c) ? 3 : 2) * number(c.width) * number(c.hidden); }

double block_parameters(const ModelConfig& c) {
  const double norm = number(c.width) * (c.norm_bias ? 2 : 1);
  const double attention_bias = number((c.heads + 2 * c.kv_heads) * c.head_dim + c.width);
  const double mlp_bias = number((gated(c) ? 2 : 1) * c.hidden + c.width);
  return attention_weights(c) + mlp_weights(c) + 2 * norm + (c.bias ? attention_bias + mlp_bias : 0);
}

double parameters(const ModelConfig& c) {
  const double tables = number(c.vocab * c.width) * (c.tied ? 1 : 2) + (c.position == Position::learned ? number(c.context * c.width) : 0);
  return tables + number(c.layers) * block_parameters(c) + number(c.width) * (c.norm_bias ? 2 : 1);
}

double cache_bytes(const ModelConfig& c, double tokens, double bytes_each) {
  return 2 * number(c.layers) * tokens * number(c.kv_heads * c.head_dim) * bytes_each;
}

double linear_multiplications(const ModelConfig& c) { return number(c.layers) * (attention_weights(c) + mlp_weights(c)); }

double score_multiplications(const ModelConfig& c, double queries, double keys) {
  return 2 * number(c.layers * c.heads * c.head_dim) * queries * keys;
}

double adapter_parameters(double rank, double outputs, double inputs) { return rank * (outputs + inputs); }

double causal_pairs(double tokens, double window) {
  if (window <= 0 || window >= tokens) return tokens * (tokens + 1) / 2;
  return window * (window + 1) / 2 + (tokens - window) * window;
}

}  // namespace glassformer::learn
