#include "glassformer/model/config.hpp"

namespace glassformer {

template <> const std::vector<Choice<Position>>& choices<Position>() {
  static const std::vector<Choice<Position>> all = {{Position::none, "none"}, {Position::sinusoidal, "sinusoidal"}, {Position::learned, "learned"},
                                                    {Position::rope, "rope"}, {Position::alibi, "alibi"}};
  return all;
}
template <> const std::vector<Choice<RopeScaling>>& choices<RopeScaling>() {
  static const std::vector<Choice<RopeScaling>> all = {{RopeScaling::none, "none"}, {RopeScaling::linear, "linear"}, {RopeScaling::ntk, "ntk"},
                                                       {RopeScaling::yarn, "yarn"}, {RopeScaling::yarn_pairs, "yarn-pairs"}};
  return all;
}
template <> const std::vector<Choice<ops::Norm>>& choices<ops::Norm>() {
  static const std::vector<Choice<ops::Norm>> all = {{ops::Norm::layer, "layernorm"}, {ops::Norm::rms, "rmsnorm"}};
  return all;
}
template <> const std::vector<Choice<NormPlacement>>& choices<NormPlacement>() {
  static const std::vector<Choice<NormPlacement>> all = {{NormPlacement::pre, "pre"}, {NormPlacement::post, "post"}};
  return all;
}
template <> const std::vector<Choice<Mlp>>& choices<Mlp>() {
  static const std::vector<Choice<Mlp>> all = {{Mlp::gelu_tanh, "gelu"}, {Mlp::gelu_exact, "gelu-exact"}, {Mlp::swiglu, "swiglu"}, {Mlp::none, "none"}};
  return all;
}

static constexpr Index kLargest = 1 << 24;  // of any size

ModelConfig resolved(ModelConfig c) {
  const auto within = [](const char* name, Index value, Index least, Index most = kLargest) {
    require(value >= least && value <= most, "{}: expected a number from {} to {}, found {}", name, least, most, value);
  };
  within("vocabulary", c.vocab, 1);
  within("context", c.context, 1);
  within("layers", c.layers, 1, 4096);  // parameters are found by name
  within("heads", c.heads, 1);
  within("width", c.width, 1);
  within("kv-heads", c.kv_heads, 0);
  within("head-dim", c.head_dim, 0);
  within("hidden", c.hidden, 0);
  within("window", c.window, 0);
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  require(c.heads % c.kv_heads == 0, "{} heads cannot be grouped over {} key-value heads: expected a divisor", c.heads, c.kv_heads);
  if (c.head_dim == 0) {
    require(c.width % c.heads == 0, "{} heads do not divide the width {}: expected a divisor of the width", c.heads, c.width);
    c.head_dim = c.width / c.heads;
  }
  require(c.position != Position::rope || c.head_dim % 2 == 0, "RoPE turns pairs: expected an even head width, found {} (width {}, {} heads)", c.head_dim, c.width,
          c.heads);
  if (c.hidden == 0) c.hidden = c.mlp == Mlp::swiglu ? (8 * c.width / 3 + 7) / 8 * 8 : 4 * c.width;
  if (c.mlp == Mlp::none) c.hidden = 0;
  if (c.norm == ops::Norm::rms) c.norm_bias = false;
  const auto positive = [](const char* name, double value) { require(value > 0 && value < 1e9, "{}: expected a positive number, found {}", name, value); };
  positive("norm-epsilon", c.norm_epsilon);
  positive("rope-base", c.rope_base);
  validate(c.rope_stretch, c.head_dim, c.rope_base);
  require(c.position == Position::rope || c.rope_stretch.scaling == RopeScaling::none, "rope-scaling: expected rope positions beside {}, found {}",
          choice_name(c.rope_stretch.scaling), choice_name(c.position));
  if (!is_yarn(c.rope_stretch)) c.rope_stretch.trained_context = 0;
  require(c.init_std >= 0 && c.init_std < 100 && c.embedding_std >= 0 && c.embedding_std < 100, "initial deviation: expected 0 to 100, found {} and {}",
          c.init_std, c.embedding_std);
  require(c.dropout >= 0 && c.dropout < 1, "dropout: expected a rate of at least 0 and below 1, found {}", c.dropout);
  require(c.bos >= -1 && c.bos < c.vocab && c.eos >= -1 && c.eos < c.vocab, "start and end tokens {} and {} are outside the vocabulary of {}", c.bos, c.eos, c.vocab);
  return c;
}

namespace {

struct Preset {
  const char* name;
  ModelConfig config;
};

ModelConfig llama_like(Index layers, Index heads, Index width, Index context) {
  ModelConfig c;
  c.layers = layers, c.heads = heads, c.width = width, c.context = context;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  return c;
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = [] {
    ModelConfig nano;
    nano.layers = 4, nano.heads = 4, nano.width = 128, nano.context = 64, nano.bias = false, nano.norm_bias = false;
    ModelConfig nano_llama = llama_like(4, 4, 128, 64);
    nano_llama.hidden = 344;
    ModelConfig stories = llama_like(3, 8, 128, 256);
    stories.tied = false, stories.embedding_std = 1;  // heads that find a word again form sooner over a large embedding
    ModelConfig gpt2;
    gpt2.layers = 12, gpt2.heads = 12, gpt2.width = 768, gpt2.context = 1024;
    ModelConfig baby;
    baby.layers = 6, baby.heads = 6, baby.width = 384, baby.context = 256, baby.bias = false, baby.norm_bias = false, baby.dropout = 0.2;
    return std::vector<Preset>{{"nano", nano}, {"nano-llama", nano_llama}, {"stories", stories}, {"shakespeare", baby}, {"gpt2", gpt2}};
  }();
  return all;
}

}  // namespace

std::vector<std::string> model_preset_names() {
  std::vector<std::string> names;
  for (const Preset& p : presets()) names.emplace_back(p.name);
  return names;
}

Expected<ModelConfig> model_preset(std::string_view name) {
  std::string valid;
  for (const Preset& p : presets()) {
    if (name == p.name) return p.config;
    valid += (valid.empty() ? "" : ", ") + std::string(p.name);
  }
  return unexpected("expected a preset of {}, found {}", valid, name);
}

}  // namespace glassformer
