// Adapter directories as PEFT documents them: what its formulas make of the files, computed here from the names, shapes and settings in
// them (LoraConfig and the LoRA guide of huggingface.co/docs/peft), is what our merged model is.
#include <nlohmann/json.hpp>
#include <regex>

#include "adapter_support.hpp"

namespace glassformer {
namespace {
using namespace test;
using Json = nlohmann::ordered_json;

using Named = std::map<std::string, Matrix<double>>;

Matrix<double> matrix_of(const SafetensorsFile& file, const TensorEntry& entry) {
  Matrix<double> x(entry.shape.size() == 1 ? 1 : entry.shape.at(0), entry.shape.back());
  REQUIRE(file.read<double>(entry, {x.data(), static_cast<std::size_t>(x.size())}));
  return x;
}
Named tensors_in(const std::filesystem::path& path) {
  const auto file = SafetensorsFile::open(path);
  REQUIRE_MESSAGE(file, file.error());
  Named tensors;
  for (const TensorEntry& entry : file->tensors()) tensors[entry.name] = matrix_of(*file, entry);
  return tensors;
}
Named hugging_face_weights(const Decoder<float>& m) {
  TemporaryDirectory dir;
  REQUIRE(write_safetensors(dir / "w", model_tensors(m, Dtype::F32)));
  return tensors_in(dir / "w");
}

// get_pattern_key of PEFT: the first key that, as a regular expression, is the end of the module's name.
double pattern_value(const Json& pattern, const std::string& module, double usual) {
  for (const auto& [key, value] : pattern.items()) {
    if (std::regex_match(module, std::regex("(.*\\.)?(" + key + ")"))) return value.get<double>();
  }
  return usual;
}

// The weights W' by PEFT's formulas.
Named peft_merged(const Named& base, const Named& adapter, const Json& config, bool tied) {
  Named weights = base;
  const bool dora = config.at("use_dora");
  std::set<std::string> modules;
  for (const auto& [name, x] : adapter) modules.insert(name.substr(17, name.find(".lora_") - 17));
  for (const std::string& module : modules) {
    const std::string prefix = "base_model.model." + module + ".";
    CHECK(std::any_of(config.at("target_modules").begin(), config.at("target_modules").end(),
                      [&](const std::string& t) { return module == t || module.ends_with("." + t); }));
    const double r = pattern_value(config.at("rank_pattern"), module, config.at("r")),
                 alpha = pattern_value(config.at("alpha_pattern"), module, config.at("lora_alpha"));
    const double scale = config.at("use_rslora") ? alpha / std::sqrt(r) : alpha / r;
    const bool embedding = adapter.count(prefix + "lora_embedding_A") > 0;
    const Matrix<double> a = adapter.at(prefix + (embedding ? "lora_embedding_A" : "lora_A.weight")),
                         b = adapter.at(prefix + (embedding ? "lora_embedding_B" : "lora_B.weight"));
    CHECK(a.rows() == r);
    CHECK(b.cols() == r);
    std::string name = module + ".weight";
    if (tied && module == "lm_head") {  // the same weight under another name
      weights[name] = base.at(base.count("transformer.wte.weight") ? "transformer.wte.weight" : "model.embed_tokens.weight");
    }
    Matrix<double>& w = weights.at(name);
    Matrix<double> delta = scale * b * a;
    if (embedding || (config.at("fan_in_fan_out") && module != "lm_head")) delta.transposeInPlace();  // Conv1D is [in, out]
    w += delta;
    if (dora) {
      const Matrix<double> m = adapter.at(prefix + "lora_magnitude_vector");
      if (config.at("fan_in_fan_out")) w.transposeInPlace();
      for (Index o = 0; o < w.rows(); ++o) w.row(o) *= m(0, o) / w.row(o).norm();
      if (config.at("fan_in_fan_out")) w.transposeInPlace();
    }
  }
  return weights;
}

}  // namespace

TEST_CASE("adapter directories: by PEFT's formulas they are the merged model") {
  for (const AdapterCase& c : adapter_cases()) {
    if (model_family(c.base) == ModelFamily::glassformer) continue;
    CAPTURE(c.name);
    TemporaryDirectory dir;
    Decoder<float> m = random_decoder<float>(c.base);
    const Adapter<float> adapter = filled_adapter(m, c.lora);
    REQUIRE(save_adapter(dir / "a", adapter, m, "base"));
    const Json config = Json::parse(slurp(dir / "a/adapter_config.json"));
    const Named peft = peft_merged(hugging_face_weights(m), tensors_in(dir / "a/adapter_model.safetensors"), config, c.base.tied);
    merge(m, adapter, {});
    Named merged = hugging_face_weights(m);
    if (peft.count("lm_head.weight") && c.base.tied) {  // the head and the embedding are one, and changed alike
      merged["lm_head.weight"] = merged.at(merged.count("transformer.wte.weight") ? "transformer.wte.weight" : "model.embed_tokens.weight");
    }
    REQUIRE(merged.size() == peft.size());
    for (const auto& [name, w] : merged) {
      CAPTURE(name);
      CHECK((w - peft.at(name)).cwiseAbs().maxCoeff() < 2e-6);
    }
  }
}

TEST_CASE("adapter directories: names and shapes are PEFT's") {
  TemporaryDirectory dir;
  const auto saved = [&](const ModelConfig& base, LoraConfig lora) {
    const Decoder<float> m = random_decoder<float>(base);
    REQUIRE(save_adapter(dir / "a", filled_adapter(m, lora), m, "base"));
    return *SafetensorsFile::open(dir / "a/adapter_model.safetensors");
  };
  const auto json = [&] { return Json::parse(slurp(dir / "a/adapter_config.json")); };
  LoraConfig lora = rank_three({"attn.qkv", "embed"});
  const auto gpt2 = saved(adapter_base(false), lora);
  CHECK(gpt2.tensors().size() == 8);
  CHECK(gpt2.expect("base_model.model.transformer.h.1.attn.c_attn.lora_A.weight", std::vector<Index>{3, 16}));
  CHECK(gpt2.expect("base_model.model.transformer.h.1.attn.c_attn.lora_B.weight", std::vector<Index>{48, 3}));
  CHECK(gpt2.expect("base_model.model.transformer.wte.lora_embedding_A", std::vector<Index>{3, 21}));
  CHECK(gpt2.expect("base_model.model.transformer.wte.lora_embedding_B", std::vector<Index>{16, 3}));
  CHECK(gpt2.expect("base_model.model.lm_head.lora_A.weight", std::vector<Index>{3, 16}));  // the tied head has the same
  CHECK(gpt2.expect("base_model.model.lm_head.lora_B.weight", std::vector<Index>{21, 3}));
  CHECK(json().at("fan_in_fan_out") == true);
  CHECK(json().at("target_modules") == Json{"c_attn", "lm_head", "wte"});
  CHECK_FALSE(mentions(json().dump(), "glassformer"));  // older PEFT takes no unknown fields

  lora = rank_three({"attn.k", "mlp.gate"});
  lora.dora = true, lora.rank_pattern = {{"blocks.0.attn.k", 2}}, lora.alpha_pattern = {{"mlp.gate", 1}};
  const auto llama = saved(adapter_base(true), lora);
  CHECK(llama.expect("base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight", std::vector<Index>{8, 2}));
  CHECK(llama.expect("base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight", std::vector<Index>{8, 3}));
  CHECK(llama.expect("base_model.model.model.layers.0.mlp.gate_proj.lora_B.weight", std::vector<Index>{24, 3}));
  CHECK(llama.expect("base_model.model.model.layers.0.mlp.gate_proj.lora_magnitude_vector", std::vector<Index>{24}));
  CHECK(json().at("fan_in_fan_out") == false);
  CHECK(json().at("use_dora") == true);
  CHECK(json().at("r") == 3);
  CHECK(json().at("rank_pattern") == Json{{"model.layers.0.self_attn.k_proj", 2}});
  CHECK(json().at("lora_alpha") == 5);
  CHECK(json().at("alpha_pattern") == Json{{"gate_proj", 1.0}});

  const Decoder<float> m = random_decoder<float>(adapter_base(true));
  REQUIRE(save_adapter(dir / "a", make_soft_prompt(m, 5, 1), m, "base"));
  CHECK(SafetensorsFile::open(dir / "a/adapter_model.safetensors")->expect("prompt_embeddings", std::vector<Index>{5, 16}));
  CHECK(json().at("peft_type") == "PROMPT_TUNING");
  CHECK(json().at("num_virtual_tokens") == 5);
  CHECK(json().at("token_dim") == 16);
}

// An adapter by another hand: PEFT's files without anything of ours, and with forms that we do not write.
TEST_CASE("adapter directories: what PEFT writes and we do not") {
  TemporaryDirectory dir;
  const Decoder<float> m = random_decoder<float>(adapter_base(true));
  const Adapter<float> adapter = filled_adapter(m, rank_three({"attn.q", "attn.v"}));
  REQUIRE(save_adapter(dir / "a", adapter, m, "base"));
  const std::filesystem::path config = dir / "a/adapter_config.json";
  forget_own_names(dir / "a/adapter_model.safetensors");
  Json json = Json::parse(slurp(config));
  const auto reads = [&](const Json& changed) {
    spill(config, changed.dump());
    const auto loaded = load_adapter(dir / "a", m);
    REQUIRE_MESSAGE(loaded, loaded.error());
    CHECK(loaded->warnings.empty());
    CHECK(loaded->adapter.config.targets == std::vector<std::string>{"attn.q", "attn.v"});
    CHECK(same_bits_in(loaded->adapter.arena, adapter.arena));
    return loaded->adapter.config;
  };
  const auto with = [&](const char* field, const Json& value) {
    Json changed = json;
    changed[field] = value;
    return changed;
  };
  reads(json);
  reads(with("target_modules", ".*\\.self_attn\\.(q|v)_proj"));
  reads(with("target_modules", nullptr));
  reads(with("target_modules", {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "v_proj"}));
  CHECK(reads(with("alpha_pattern", {{"layers.1.self_attn.v_proj", 2}, {"v_proj", 3}, {"o_proj", 9}})).alpha_pattern ==
        std::map<std::string, double>{{"blocks.0.attn.v", 3}, {"blocks.1.attn.v", 2}});
  CHECK(reads(with("alpha_pattern", {{"^model\\.layers\\.1\\.self_attn\\.q_proj", 2}})).alpha_pattern ==
        std::map<std::string, double>{{"blocks.1.attn.q", 2}});
  CHECK(reads(with("alpha_pattern", {{"^self_attn.q_proj", 2}, {"proj", 2}})).alpha_pattern.empty());
  Json by_shape = with("rank_pattern", {{".*(q|v)_proj", 3}});
  by_shape["r"] = 7;
  const LoraConfig ranks = reads(by_shape);
  CHECK(ranks.rank == 7);
  CHECK(ranks.rank_pattern == std::map<std::string, Index>{{"attn.q", 3}, {"attn.v", 3}});

  // layers_to_transform: the file has some of what target_modules names
  REQUIRE(save_adapter(dir / "b", filled_adapter(m, rank_three({"blocks.1.attn.q"})), m, "base"));
  forget_own_names(dir / "b/adapter_model.safetensors");
  json = Json::parse(slurp(dir / "b/adapter_config.json"));
  json["target_modules"] = {"q_proj"};
  spill(dir / "b/adapter_config.json", json.dump());
  CHECK(mentions(load_adapter(dir / "b", m).error(),
                 "expected a tensor base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight of shape [3, 16], found none"));
  json["layers_to_transform"] = {1};
  spill(dir / "b/adapter_config.json", json.dump());
  CHECK(load_adapter(dir / "b", m)->adapter.config.targets == std::vector<std::string>{"blocks.1.attn.q"});
}

// With save_embedding_layers PEFT stores the embedding beside its adapter.
TEST_CASE("adapter directories: a copy of the model's embedding is passed over in silence, a trained one refused") {
  TemporaryDirectory dir;
  const Decoder<float> m = random_decoder<float>(adapter_base(true));
  REQUIRE(save_adapter(dir / "a", filled_adapter(m, rank_three({"embed"})), m, "base"));
  const auto file = SafetensorsFile::open(dir / "a/adapter_model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : file->tensors()) tensors.push_back({entry.name, entry.dtype, entry.shape, entry.bytes.data(), false});
  const auto with = [&](const char* name, const float* data, std::vector<Index> shape) {
    std::vector<NamedTensor> more = tensors;
    more.push_back({name, Dtype::F32, std::move(shape), data, false});
    REQUIRE(save_file(dir / "new", [&](const std::filesystem::path& path) { return write_safetensors(path, more, file->metadata()); }));
    std::filesystem::rename(dir / "new", dir / "a/adapter_model.safetensors");
    const auto loaded = load_adapter(dir / "a", m);
    return !loaded ? loaded.error() : loaded->warnings.empty() ? "" : loaded->warnings.back();
  };
  const float* embed = m.arena.view("embed.weight").data;
  CHECK(with("base_model.model.model.embed_tokens.base_layer.weight", embed, {21, 16}) == "");
  CHECK(with("base_model.model.lm_head.base_layer.weight", embed, {21, 16}) == "");
  std::vector<float> trained(embed, embed + 21 * 16);
  trained[7] += 1;
  const char* refusal = "expected changes of low rank alone, found base_model.model.";
  CHECK(mentions(with("base_model.model.lm_head.weight", trained.data(), {21, 16}), refusal));
  CHECK(mentions(with("base_model.model.model.embed_tokens.weight", embed, {20, 16}), refusal));
  CHECK(mentions(with("base_model.model.model.norm.weight", embed, {16}), refusal));
  CHECK(mentions(with("base_model.model.score.weight", embed, {2, 16}), "score.weight is no part of a LoRA adapter: passed over"));
  CHECK(mentions(with("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", embed, {16}),
                 "found base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias"));
}

}  // namespace glassformer
