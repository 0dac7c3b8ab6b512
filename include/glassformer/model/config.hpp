// The configuration of a decoder: every combination of these choices is one model.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/require.hpp"
#include "glassformer/mlp/mlp.hpp"
#include "glassformer/ops/norm.hpp"
#include "glassformer/position/position.hpp"

namespace glassformer {

enum class NormPlacement { pre, post };

struct ModelConfig {
  Index vocab = 0;                 // V
  Index context = 64;              // T: longest sequence it is trained on; rows of a learned position table
  Index layers = 4;                // L
  Index heads = 4;                 // H
  Index kv_heads = 0;              // G; 0: as many as heads; 1: multi-query
  Index width = 128;               // C
  Index head_dim = 0;              // D; 0: width/heads
  Index hidden = 0;                // F; 0: 4·width, with SwiGLU 8/3·width rounded up to a multiple of 8
  Position position = Position::learned;
  double rope_base = 10000;
  RopeStretch rope_stretch = {};   // RoPE for a longer context than the trained one
  ops::Norm norm = ops::Norm::layer;
  NormPlacement placement = NormPlacement::pre;
  double norm_epsilon = 1e-5;
  Mlp mlp = Mlp::gelu_tanh;
  bool bias = true;                // of linear layers
  bool norm_bias = true;           // of LayerNorm; RMSNorm has none
  bool tied = true;                // the output head is the token embedding
  bool causal = true;
  Index window = 0;                // sliding-window attention; 0: all keys
  double dropout = 0;
  double init_std = 0.02;          // of weights; residual outputs divided by √(2L) (GPT-2)
  double embedding_std = 0.02;      // of the token and position tables
  // Token ids that the tokenizer names, −1: none. A model that was trained with a start token gets one before a prompt.
  Token bos = -1, eos = -1;
  bool prepend_bos = false;

  bool operator==(const ModelConfig&) const = default;
};

// The configuration with its zeros replaced by what they stand for. Throws std::invalid_argument with one clear sentence for what
// cannot be built: heads that do not divide the width, an odd head width with RoPE, a size out of range, …
ModelConfig resolved(ModelConfig);

// Names of the choices, as the command line and config.json spell them.
template <class E> struct Choice {
  E value;
  const char* name;
};
template <class E> const std::vector<Choice<E>>& choices();  // Position, RopeScaling, Norm, NormPlacement, Mlp
template <class E> std::string_view choice_name(E value) {
  for (const auto& c : choices<E>()) {
    if (c.value == value) return c.name;
  }
  return "?";
}
// The choice of this name, or a sentence that lists the valid ones.
template <class E> Expected<E> choice_named(std::string_view name) {
  std::string valid;
  for (const auto& c : choices<E>()) {
    if (name == c.name) return c.value;
    valid += (valid.empty() ? "" : ", ") + std::string(c.name);
  }
  return unexpected("expected one of {}, found {}", valid, name);
}

// Named configurations. nano: nanoGPT's recipe for a CPU. nano-llama: RoPE, RMSNorm, SwiGLU at no more parameters. gpt2: the 124M shape.
// stories: the demonstration's. Vocabulary is the tokenizer's.
Expected<ModelConfig> model_preset(std::string_view name);
std::vector<std::string> model_preset_names();

}  // namespace glassformer
