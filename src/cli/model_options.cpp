#include "cli/model_options.hpp"

#include <cmath>
#include <filesystem>

#include "glassformer/model/stretch.hpp"
#include "glassformer/quantize/block.hpp"

namespace glassformer::cli {
namespace {

template <class E>
std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& c : choices<E>()) all.emplace_back(c.name);
  return all;
}

template <class E>
void put(const Options& o, const char* name, E& value) {
  if (o.given(name)) value = checked(choice_named<E>(o.text(name)));
}

}  // namespace

void declare_rope_options(Options& o) {
  o.choice("rope-scaling", names<RopeScaling>(), "how RoPE is changed for a context longer than the trained one");
  o.real("rope-factor", {}, 1, 1e6, "how many times as long");
  o.integer("rope-original-context", {}, 1, "tokens of the context that was trained on, which the two yarns read");
}

RopeStretch rope_options(const Options& o, RopeStretch s) {
  if (o.given("rope-scaling")) {
    s.scaling = checked(choice_named<RopeScaling>(o.text("rope-scaling")));
    if (s.scaling == RopeScaling::none) s.factor = 1;
  }
  require_usage(s.scaling != RopeScaling::none || !o.given("rope-factor"), "--rope-factor: expected --rope-scaling beside it, found none");
  require_usage(is_yarn(s) || !o.given("rope-original-context"),
                "--rope-original-context: expected --rope-scaling yarn or yarn-pairs beside it, found {}", choice_name(s.scaling));
  s.factor = o.real_or("rope-factor", s.factor);
  s.trained_context = o.integer_or("rope-original-context", s.trained_context);
  return s;
}

std::vector<std::string> shape_options_given(const Options& o) {
  std::vector<std::string> given;
  for (const char* name : {"layers", "heads", "kv-heads", "width", "head-dim", "hidden", "position", "rope-base", "norm", "placement",
                           "mlp", "bias", "norm-bias", "tied", "window", "dropout", "init-std"}) {
    if (o.given(name)) given.emplace_back(name);
  }
  return given;
}

void declare_stretch(Options& o, bool with_context) {
  o.group("Longer context");
  if (with_context) o.integer("context", {}, 1, "tokens that are read at once; the model's context unless given");
  declare_rope_options(o);
}

void stretch_model(const Options& o, Decoder<float>& model) {
  const ModelConfig& c = model.config;
  const bool scaled = o.given("rope-scaling") || o.given("rope-factor") || o.given("rope-original-context");
  if (!scaled && !o.given("context")) return;
  const Index context = o.integer_or("context", c.context);
  RopeStretch stretch = rope_options(o, c.rope_stretch);
  if (o.given("rope-scaling") && stretch.scaling != RopeScaling::none && !o.given("rope-factor")) {
    const Index trained = o.integer_or("rope-original-context", is_yarn(c.rope_stretch) ? c.rope_stretch.trained_context : c.context);
    require_usage(context > trained, "--rope-factor: expected a number, or a --context above the trained {}, found none", trained);
    stretch.factor = static_cast<double>(context) / static_cast<double>(trained);
  }
  model = stretched(model, context, stretch);
}

void declare_model_options(Options& o, const std::string& standards) {
  o.group("Model (" + standards + ")");
  o.integer("layers", {}, 1, "blocks");
  o.integer("heads", {}, 1, "attention heads; must divide the width");
  o.integer("kv-heads", {}, 1, "heads of keys and values: as many as heads, fewer (grouped-query) or 1 (multi-query)");
  o.integer("width", {}, 1, "channels of the residual stream");
  o.integer("head-dim", {}, 1, "channels of a head; width/heads unless given");
  o.integer("hidden", {}, 1, "channels inside the MLP; 4·width, with SwiGLU 8/3·width, unless given");
  o.integer("context", {}, 1, "tokens of a sequence");
  o.choice("position", names<Position>(), "how a token knows its place");
  o.positive("rope-base", {}, "RoPE's base of wavelengths");
  declare_rope_options(o);
  o.choice("norm", names<ops::Norm>(), "normalisation");
  o.choice("placement", names<NormPlacement>(), "normalisation before or after each part");
  o.choice("mlp", names<Mlp>(), "the position-wise network");
  o.toggle("bias", "biases of linear layers");
  o.toggle("norm-bias", "biases of LayerNorm");
  o.toggle("tied", "the output head is the token embedding");
  o.integer("window", {}, 0, "keys that a token may attend to; 0: all before it");
  o.real("dropout", {}, 0, 0.999, "share of activations set to zero while training");
  o.real("init-std", {}, 0, 99, "standard deviation of initial weights");
}

ModelConfig model_options(const Options& o, ModelConfig c) {
  if (!o.given("hidden") && (o.given("width") || o.given("mlp"))) c.hidden = 0;
  c.layers = o.integer_or("layers", c.layers);
  c.heads = o.integer_or("heads", c.heads);
  c.kv_heads = o.integer_or("kv-heads", c.kv_heads);
  c.width = o.integer_or("width", c.width);
  c.head_dim = o.integer_or("head-dim", c.head_dim);
  c.hidden = o.integer_or("hidden", c.hidden);
  c.context = o.integer_or("context", c.context);
  c.window = o.integer_or("window", c.window);
  put(o, "position", c.position);
  put(o, "norm", c.norm);
  put(o, "placement", c.placement);
  put(o, "mlp", c.mlp);
  c.rope_base = o.real_or("rope-base", c.rope_base);
  c.rope_stretch = rope_options(o, c.rope_stretch);
  c.bias = o.toggled("bias").value_or(c.bias);
  c.norm_bias = o.toggled("norm-bias").value_or(c.norm_bias);
  c.tied = o.toggled("tied").value_or(c.tied);
  c.dropout = o.real_or("dropout", c.dropout);
  if (o.given("init-std")) c.init_std = c.embedding_std = o.real("init-std");
  return c;
}

void declare_adapters(Options& o) {
  o.list("adapter", "DIR[=WEIGHT]", "adapter to put on it; several are added up, each times its weight (1)");
}

AdaptedModel load_adapted_model(const Options& o) {
  struct Wanted {
    std::string dir;
    double weight = 1;
  };
  std::vector<Wanted> wanted;
  for (const std::string& text : o.texts("adapter")) {
    std::error_code error;
    const auto equals = text.rfind('=');
    if (equals == std::string::npos || std::filesystem::exists(text, error)) {
      wanted.push_back({text});
      continue;
    }
    const auto weight = number<double>(std::string_view(text).substr(equals + 1));
    require_usage(weight && std::isfinite(static_cast<float>(*weight)),
                  "--adapter: expected DIR or DIR=WEIGHT with a finite weight, found {}", text);
    wanted.push_back({text.substr(0, equals), *weight});
  }

  AdaptedModel m{checked(load_model(o.text("model"))), {}, {}, {}};
  for (const auto& [dir, weight] : wanted) {
    AdapterFiles files = checked(load_adapter(dir, m.decoder));
    try {
      attach(m.decoder, files.adapter, weight);
    } catch (const std::invalid_argument& error) {
      throw Failure(fmt::format("{}: {}", dir, error.what()));
    }
    m.warnings.insert(m.warnings.end(), files.warnings.begin(), files.warnings.end());
    m.adapters.push_back(std::move(files)), m.names.push_back(dir), m.weights.push_back(weight);
  }
  return m;
}

bool rounds_activations(const Exec& exec, const Decoder<float>& model) {
  return exec.activations == Activations::int8 &&
         std::ranges::any_of(model.quantized, [](const auto& tensor) { return takes_int8_activations(tensor.second->type); });
}

bool rounds_activations(const Options& o, const Decoder<float>& model, const std::string& name) {
  const bool rounds = rounds_activations(o.exec(), model);
  if (o.text("activations") == "int8" && !rounds)
    fmt::print(stderr, "note: --activations int8 changes nothing in {}: no matrix is in q8_0 or q4_0\n", name);
  return rounds;
}

void require_free(const std::string& out, bool overwrite) {
  std::error_code ignored;
  if (!overwrite && std::filesystem::exists(out, ignored) && !std::filesystem::is_empty(out, ignored))
    throw Failure(fmt::format("{}: expected a new or empty directory, found something in it; give --overwrite", out));
}

void require_new_file(const std::string& out, bool overwrite) {
  std::error_code ignored;
  if (!overwrite && std::filesystem::exists(out, ignored))
    throw Failure(fmt::format("{}: expected a new file, found one; give --overwrite", out));
}

void require_apart(const std::string& out, const std::string& read) {
  std::error_code error;
  std::filesystem::path target = std::filesystem::weakly_canonical(out, error);
  const std::filesystem::path source = std::filesystem::weakly_canonical(read, error);
  if (!target.has_filename()) target = target.parent_path();  // "out/"
  const auto rest = std::mismatch(target.begin(), target.end(), source.begin(), source.end()).first;
  require_usage(rest != target.end(), "--out: expected a directory apart from {}, which stays as it is, found {}", read, out);
}

}  // namespace glassformer::cli
