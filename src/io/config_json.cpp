// config.json of the three families, both ways.
#include <cmath>

#include "glassformer/io/model_directory.hpp"
#include "io/json_fields.hpp"

namespace glassformer {
namespace {

using io::JsonFields;
using Json = JsonFields::Json;

constexpr Index kMostContext = Index(1) << 21, kMostWidth = Index(1) << 20, kMostVocab = Index(1) << 26;
constexpr double kMostBase = 1e12, kMostStretch = 1e6;  // of RoPE

Json id_or_null(Token id) { return id < 0 ? Json(nullptr) : Json(id); }

// What neither format has a word for, under names that other tools pass over.
void add_ours(Json& json, const ModelConfig& c) {
  json["glassformer_prepend_bos"] = c.prepend_bos;
  if (c.embedding_std != c.init_std) json["glassformer_embedding_std"] = c.embedding_std;
  if (!c.norm_bias && c.norm == ops::Norm::layer) json["glassformer_norm_bias"] = false;
}

Json gpt2_json(const ModelConfig& c) {
  Json json;
  json["architectures"] = {"GPT2LMHeadModel"};
  json["model_type"] = "gpt2";
  json["vocab_size"] = c.vocab;
  json["n_positions"] = c.context;
  json["n_ctx"] = c.context;
  json["n_embd"] = c.width;
  json["n_layer"] = c.layers;
  json["n_head"] = c.heads;
  json["n_inner"] = c.hidden;
  json["activation_function"] = c.mlp == Mlp::gelu_tanh ? "gelu_new" : "gelu";
  json["layer_norm_epsilon"] = c.norm_epsilon;
  json["initializer_range"] = c.init_std;
  for (const char* where : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) json[where] = c.dropout;
  json["tie_word_embeddings"] = c.tied;
  json["bos_token_id"] = id_or_null(c.bos);
  json["eos_token_id"] = id_or_null(c.eos);
  json["torch_dtype"] = "float32";
  if (!c.bias) json["glassformer_bias"] = false;  // the file's biases are zeros, which it must have
  add_ours(json, c);
  return json;
}

// The base that NTK-aware scaling computes with: b·s^(D/(D−2)). Hugging Face has no word for a fixed factor, and needs none.
double ntk_base(double base, double factor, Index head_dim) {
  const auto D = static_cast<double>(head_dim);
  return base * std::pow(factor, D / (D - 2));
}

void add_rope(Json& json, const ModelConfig& c) {
  const RopeStretch& s = c.rope_stretch;
  json["rope_theta"] = c.rope_base;
  json["rope_scaling"] = nullptr;
  if (s.scaling == RopeScaling::linear) json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", s.factor}};
  if (s.scaling == RopeScaling::yarn_pairs) {
    json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", s.factor}, {"original_max_position_embeddings", s.trained_context}};
    json["rope_scaling"]["beta_fast"] = 32.0, json["rope_scaling"]["beta_slow"] = 1.0;
  }
  if (s.scaling == RopeScaling::ntk) {
    json["rope_theta"] = ntk_base(c.rope_base, s.factor, c.head_dim);
    json["glassformer_rope_base"] = c.rope_base, json["glassformer_rope_ntk_factor"] = s.factor;
  }
}

Json llama_json(const ModelConfig& c) {
  Json json;
  json["architectures"] = {"LlamaForCausalLM"};
  json["model_type"] = "llama";
  json["vocab_size"] = c.vocab;
  json["max_position_embeddings"] = c.context;
  json["hidden_size"] = c.width;
  json["intermediate_size"] = c.hidden;
  json["num_hidden_layers"] = c.layers;
  json["num_attention_heads"] = c.heads;
  json["num_key_value_heads"] = c.kv_heads;
  json["head_dim"] = c.head_dim;
  json["hidden_act"] = "silu";
  json["rms_norm_eps"] = c.norm_epsilon;
  add_rope(json, c);
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  json["initializer_range"] = c.init_std;
  json["tie_word_embeddings"] = c.tied;
  json["bos_token_id"] = id_or_null(c.bos);
  json["eos_token_id"] = id_or_null(c.eos);
  json["torch_dtype"] = "float32";
  if (c.dropout != 0) json["glassformer_dropout"] = c.dropout;  // training only: what the model computes is a Llama's
  add_ours(json, c);
  return json;
}

Json glassformer_json(const ModelConfig& c) {
  Json json;
  json["model_type"] = "glassformer";
  json["vocab"] = c.vocab, json["context"] = c.context, json["layers"] = c.layers, json["heads"] = c.heads;
  json["kv_heads"] = c.kv_heads, json["width"] = c.width, json["head_dim"] = c.head_dim, json["hidden"] = c.hidden;
  json["position"] = choice_name(c.position), json["rope_base"] = c.rope_base;
  if (c.rope_stretch.scaling != RopeScaling::none) {
    json["rope_scaling"] = choice_name(c.rope_stretch.scaling), json["rope_factor"] = c.rope_stretch.factor;
    json["rope_original_context"] = c.rope_stretch.trained_context;
  }
  json["norm"] = choice_name(c.norm), json["placement"] = choice_name(c.placement), json["norm_epsilon"] = c.norm_epsilon;
  json["mlp"] = choice_name(c.mlp), json["bias"] = c.bias, json["norm_bias"] = c.norm_bias, json["tied"] = c.tied;
  json["causal"] = c.causal, json["window"] = c.window, json["dropout"] = c.dropout;
  json["init_std"] = c.init_std, json["embedding_std"] = c.embedding_std;
  json["bos"] = c.bos, json["eos"] = c.eos, json["prepend_bos"] = c.prepend_bos;
  return json;
}

// "quantization": {"linear": "nf4", "embedding": "f32"}
Json quantization_json(const QuantizeTypes& types) {
  const auto name = [](std::optional<QuantizedType> type) { return type ? quantized_name(*type) : "f32"; };
  return {{"linear", name(types.linear)}, {"embedding", name(types.embedding)}};
}

std::optional<QuantizeTypes> read_quantization(JsonFields& f, const std::string& name) {
  const Json* found = f.find("quantization");
  if (!found) return std::nullopt;
  if (!found->is_object()) return f.fail("quantization", "an object"), std::nullopt;
  JsonFields inner(name + ": quantization", *found);
  const auto type = [&](const char* field) -> std::optional<QuantizedType> {
    const std::string word = inner.word(field);
    if (word == "f32") return std::nullopt;
    const auto named = quantized_named(word);
    if (!named) inner.fail(field, "one of q8_0, q4_0, int4, nf4, f32");
    return named ? std::optional(*named) : std::nullopt;
  };
  const QuantizeTypes types{type("linear"), type("embedding")};
  f.adopt(inner);
  return types;
}

// A token id, or the first of a list of them (Llama 3 has several ends). One outside the vocabulary is none, with a warning.
Token read_id(JsonFields& f, const char* field, Index vocab, const std::string& name, std::vector<std::string>* warnings) {
  const Json* found = f.find(field);
  if (found && found->is_array() && !found->empty()) found = &found->front();
  if (!found) return -1;
  if (!found->is_number_integer()) return f.fail(field, "a token id"), -1;
  const auto id = found->get<Index>();
  if (id >= 0 && id < vocab) return static_cast<Token>(id);
  if (id != -1 && warnings)
    warnings->push_back(fmt::format("{}: {}: expected a token id below {}, found {}: passed over", name, field, vocab, id));
  return -1;
}

template <class E>
E read_choice(JsonFields& f, const char* field) {
  const auto choice = choice_named<E>(f.word(field));
  if (!choice) f.fail(field, choice.error().substr(9, choice.error().find(", found") - 9));  // "expected one of …, found …"
  return choice.value_or(choices<E>().front().value);
}

// A field that must have one value, because the model computes nothing else.
void only(JsonFields& f, const char* field, const Json& value) {
  const Json* found = f.find(field);
  if (found && *found != value) f.fail(field, value.dump());
}

ModelConfig read_gpt2(JsonFields& f, const std::string& name, std::vector<std::string>* warnings) {
  ModelConfig c;
  c.vocab = f.whole("vocab_size", 1, kMostVocab);
  c.context = f.find("n_positions") || !f.find("n_ctx") ? f.whole("n_positions", 1, kMostContext) : f.whole("n_ctx", 1, kMostContext);
  c.width = f.whole("n_embd", 1, kMostWidth);
  c.layers = f.whole("n_layer", 1, 10000);
  c.heads = f.whole("n_head", 1, 10000);
  c.hidden = f.whole_or("n_inner", 1, kMostWidth * 4, 4 * c.width);
  const std::string activation = f.word("activation_function", "gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh" && activation != "gelu")
    f.fail("activation_function", "gelu_new or gelu");
  c.mlp = activation == "gelu" ? Mlp::gelu_exact : Mlp::gelu_tanh;
  c.norm_epsilon = f.number_or("layer_norm_epsilon", 0, 1, 1e-5);
  c.init_std = f.number_or("initializer_range", 0, 1e3, 0.02);
  c.dropout = f.number_or("resid_pdrop", 0, 1, 0.1);
  if (warnings && (f.number_or("embd_pdrop", 0, 1, c.dropout) != c.dropout || f.number_or("attn_pdrop", 0, 1, c.dropout) != c.dropout)) {
    warnings->push_back(fmt::format("{}: expected one rate of dropout, found several: resid_pdrop {} is taken", name, c.dropout));
  }
  c.tied = f.truth_or("tie_word_embeddings", true);
  only(f, "scale_attn_weights", true);
  only(f, "scale_attn_by_inverse_layer_idx", false);
  only(f, "add_cross_attention", false);
  c.bias = f.truth_or("glassformer_bias", true);
  return c;
}

// `rope_scaling`, or newer `rope_parameters`: linear, or YaRN as its authors' code has it.
RopeStretch read_scaling(JsonFields& f, const char* type_field, Index context) {
  const std::string type = f.word(type_field, "default");
  if (type == "default") return {};
  if (type != "linear" && type != "yarn") return f.fail(type_field, "default, linear or yarn"), RopeStretch{};
  RopeStretch s{type == "linear" ? RopeScaling::linear : RopeScaling::yarn_pairs, f.number("factor", 1, kMostStretch), 0};
  if (type == "linear") return s;
  s.trained_context = f.whole_or("original_max_position_embeddings", 1, kMostContext, context);
  for (const auto& [field, value] : {std::pair{"beta_fast", 32.0}, {"beta_slow", 1.0}, {"attention_factor", rope_length(s)}}) {
    if (std::abs(f.number_or(field, -1e9, 1e9, value) - value) > 1e-6) f.fail(field, fmt::format("{:.7g}", value));
  }
  for (const char* field : {"mscale", "mscale_all_dim"}) {  // DeepSeek's
    if (f.find(field)) f.fail(field, "none");
  }
  only(f, "truncate", true);
  return s;
}

void read_rope(JsonFields& f, const std::string& name, ModelConfig& c) {
  c.rope_base = f.number_or("rope_theta", 1e-3, kMostBase, 10000);
  for (const char* field : {"rope_parameters", "rope_scaling"}) {
    const Json* rope = f.find(field);
    if (!rope) continue;
    if (!rope->is_object()) {
      f.fail(field, "an object");
      continue;
    }
    JsonFields inner(name + ": " + field, *rope);
    c.rope_base = inner.number_or("rope_theta", 1e-3, kMostBase, c.rope_base);
    c.rope_stretch = read_scaling(inner, rope->contains("rope_type") ? "rope_type" : "type", c.context);
    f.adopt(inner);
  }
  if (!f.find("glassformer_rope_ntk_factor")) return;
  const double base = f.number("glassformer_rope_base", 1e-3, kMostBase), factor = f.number("glassformer_rope_ntk_factor", 1, kMostStretch);
  const double expected = ntk_base(base, factor, c.head_dim);
  if (c.rope_stretch.scaling != RopeScaling::none || c.head_dim <= 2 || std::abs(c.rope_base / expected - 1) > 1e-9)
    f.fail("glassformer_rope_ntk_factor",
           fmt::format("the factor that makes {:g} of the base {:g}, and no rope_scaling beside it", c.rope_base, base));
  c.rope_base = base, c.rope_stretch = {RopeScaling::ntk, factor, 0};
}

ModelConfig read_llama(JsonFields& f, const std::string& name) {
  ModelConfig c;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  c.vocab = f.whole("vocab_size", 1, kMostVocab);
  c.context = f.whole_or("max_position_embeddings", 1, kMostContext, 2048);
  c.width = f.whole("hidden_size", 1, kMostWidth);
  c.hidden = f.whole("intermediate_size", 1, kMostWidth * 4);
  c.layers = f.whole("num_hidden_layers", 1, 10000);
  c.heads = f.whole("num_attention_heads", 1, 10000);
  c.kv_heads = f.whole_or("num_key_value_heads", 1, 10000, c.heads);
  c.head_dim = f.whole_or("head_dim", 1, kMostWidth, c.width / c.heads);
  c.norm_epsilon = f.number_or("rms_norm_eps", 0, 1, 1e-6);
  c.init_std = f.number_or("initializer_range", 0, 1e3, 0.02);
  c.tied = f.truth_or("tie_word_embeddings", false);
  c.dropout = f.number_or("glassformer_dropout", 0, 1, 0);
  only(f, "hidden_act", "silu");
  only(f, "attention_bias", false);
  only(f, "mlp_bias", false);
  only(f, "partial_rotary_factor", 1.0);
  read_rope(f, name, c);
  return c;
}

ModelConfig read_glassformer(JsonFields& f) {
  ModelConfig c;
  c.vocab = f.whole("vocab", 1, kMostVocab);
  c.context = f.whole("context", 1, kMostContext);
  c.layers = f.whole("layers", 1, 10000);
  c.heads = f.whole("heads", 1, 10000);
  c.kv_heads = f.whole("kv_heads", 0, 10000);
  c.width = f.whole("width", 1, kMostWidth);
  c.head_dim = f.whole("head_dim", 0, kMostWidth);
  c.hidden = f.whole("hidden", 0, kMostWidth * 4);
  c.position = read_choice<Position>(f, "position");
  c.rope_base = f.number("rope_base", 1e-3, kMostBase);
  if (f.find("rope_scaling")) {
    c.rope_stretch = {read_choice<RopeScaling>(f, "rope_scaling"), f.number("rope_factor", 1, kMostStretch),
                      f.whole_or("rope_original_context", 0, kMostContext, 0)};
  }
  c.norm = read_choice<ops::Norm>(f, "norm");
  c.placement = read_choice<NormPlacement>(f, "placement");
  c.norm_epsilon = f.number("norm_epsilon", 0, 1);
  c.mlp = read_choice<Mlp>(f, "mlp");
  c.bias = f.truth("bias"), c.norm_bias = f.truth("norm_bias"), c.tied = f.truth("tied"), c.causal = f.truth("causal");
  c.window = f.whole("window", 0, kMostContext);
  c.dropout = f.number("dropout", 0, 1);
  c.init_std = f.number("init_std", 0, 1e3), c.embedding_std = f.number("embedding_std", 0, 1e3);
  c.prepend_bos = f.truth("prepend_bos");
  return c;
}

}  // namespace

ModelFamily model_family(const ModelConfig& config) {
  const ModelConfig c = resolved(config);
  if (c.placement != NormPlacement::pre || !c.causal || c.window != 0) return ModelFamily::glassformer;
  const bool gelu = c.mlp == Mlp::gelu_tanh || c.mlp == Mlp::gelu_exact, square = c.kv_heads == c.heads && c.heads * c.head_dim == c.width;
  if (c.position == Position::learned && c.norm == ops::Norm::layer && gelu && square) return ModelFamily::gpt2;
  const bool paper_yarn = c.rope_stretch.scaling == RopeScaling::yarn;  // Hugging Face's ramp is another
  if (c.position == Position::rope && !paper_yarn && c.norm == ops::Norm::rms && c.mlp == Mlp::swiglu && !c.bias) return ModelFamily::llama;
  return ModelFamily::glassformer;
}

std::string_view family_name(ModelFamily family) {
  switch (family) {
    case ModelFamily::gpt2:
      return "gpt2";
    case ModelFamily::llama:
      return "llama";
    case ModelFamily::glassformer:
      return "glassformer";
  }
  return "?";
}

std::string config_json(const ModelConfig& config, const std::optional<QuantizeTypes>& types) {
  const ModelConfig c = resolved(config);
  const ModelFamily family = types ? ModelFamily::glassformer : model_family(c);
  Json json = family == ModelFamily::gpt2 ? gpt2_json(c) : family == ModelFamily::llama ? llama_json(c) : glassformer_json(c);
  if (types) json["quantization"] = quantization_json(*types);
  return json.dump(2) + "\n";
}

Expected<ModelConfig> parse_config_json(const std::string& name, std::string_view text, std::vector<std::string>* warnings,
                                        std::optional<QuantizeTypes>* types) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object())
    return unexpected("{}: expected a JSON object, found {}", name, json.is_discarded() ? "something that is no JSON" : "another value");
  JsonFields f(name, json);
  const std::string type = f.word("model_type");
  ModelConfig c;
  if (type == "gpt2") {
    c = read_gpt2(f, name, warnings);
  } else if (type == "llama") {
    c = read_llama(f, name);
  } else if (type == "glassformer") {
    c = read_glassformer(f);
  } else {
    f.fail("model_type", "gpt2, llama or glassformer");
  }
  if (!f.error().empty()) return tl::unexpected(f.error());
  const bool ours = type == "glassformer";
  c.bos = read_id(f, ours ? "bos" : "bos_token_id", c.vocab, name, warnings);
  c.eos = read_id(f, ours ? "eos" : "eos_token_id", c.vocab, name, warnings);
  const auto stored = ours ? read_quantization(f, name) : std::nullopt;
  if (types) *types = stored;
  if (!ours) {
    if (f.find("quantization_config")) f.fail("quantization_config", "none: only our own quantized directories are read");
    // Llama's own tokenizer puts the start token in front; GPT-2's does not.
    c.prepend_bos = f.truth_or("glassformer_prepend_bos", type == "llama" && c.bos >= 0);
    c.embedding_std = f.number_or("glassformer_embedding_std", 0, 1e3, c.init_std);
    c.norm_bias = f.truth_or("glassformer_norm_bias", true);
  }
  if (!f.error().empty()) return tl::unexpected(f.error());
  try {
    return resolved(c);
  } catch (const std::invalid_argument& error) {
    return unexpected("{}: {}", name, error.what());
  }
}

}  // namespace glassformer
