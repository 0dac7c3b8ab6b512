// Adapter directories: to the bit and back, and what does not hold together.
#include <functional>
#include <nlohmann/json.hpp>

#include "adapter_support.hpp"

namespace glassformer {
namespace {
using namespace test;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// The weights that a model has with an adapter.
Matrix<float> merged_weights(const Decoder<float>& base, const Adapter<float>& adapter) {
  Decoder<float> copy = make_decoder<float>(base.config);
  std::copy(base.arena.values().begin(), base.arena.values().end(), copy.arena.values().begin());
  merge(copy, adapter, {});
  return as_row(copy.arena);
}

}  // namespace

TEST_CASE("adapter directories: every kind comes back to the bit; without our own names it computes the same") {
  for (const AdapterCase& c : adapter_cases()) {
    CAPTURE(c.name);
    TemporaryDirectory dir;
    const Decoder<float> m = random_decoder<float>(c.base);
    const Adapter<float> adapter = filled_adapter(m, c.lora);
    const auto saved = save_adapter(dir / "a", adapter, m, "base");
    REQUIRE_MESSAGE(saved, saved.error());
    const auto loaded = load_adapter(dir / "a", m);
    REQUIRE_MESSAGE(loaded, loaded.error());
    CHECK(loaded->base_model == "base");
    CHECK(loaded->warnings.empty());
    const LoraConfig& lora = loaded->adapter.config;
    CHECK(lora.targets == c.lora.targets);
    CHECK(lora.rank == 3);
    CHECK(lora.alpha == 5);
    CHECK(lora.dropout == 0.25);
    CHECK(lora.rank_stabilized == c.lora.rank_stabilized);
    CHECK(lora.dora == c.lora.dora);
    CHECK(lora.rank_pattern == c.lora.rank_pattern);
    CHECK(lora.alpha_pattern == c.lora.alpha_pattern);
    CHECK(same_bits_in(loaded->adapter.arena, adapter.arena));

    forget_own_names(dir / "a/adapter_model.safetensors");
    const auto plain = load_adapter(dir / "a", m);
    REQUIRE_MESSAGE(plain, plain.error());
    const Matrix<float> expected = merged_weights(m, adapter);
    CHECK(largest_difference<float>(expected, as_row(m.arena)) > 0.01);
    CHECK(largest_difference(merged_weights(m, plain->adapter), expected) < 2e-6);
  }
}

TEST_CASE("adapter directories: a setting that was edited counts, for us as for other tools") {
  TemporaryDirectory dir;
  const Decoder<float> m = random_decoder<float>(adapter_base(false));
  REQUIRE(save_adapter(dir / "a", filled_adapter(m, rank_three({"attn.q"})), m, "base"));
  Json json = Json::parse(slurp(dir / "a/adapter_config.json"));
  json["lora_alpha"] = 6;
  spill(dir / "a/adapter_config.json", json.dump());
  const auto loaded = load_adapter(dir / "a", m);
  REQUIRE_MESSAGE(loaded, loaded.error());
  CHECK(loaded->adapter.config.alpha == 6);
  CHECK(loaded->adapter.config.targets == std::vector<std::string>{"attn.qkv"});  // by PEFT's names alone
}

TEST_CASE("adapter directories: a soft prompt comes back to the bit") {
  for (const bool llama : {false, true}) {
    TemporaryDirectory dir;
    const Decoder<float> m = random_decoder<float>(adapter_base(llama));
    const Adapter<float> prompt = make_soft_prompt(m, 5, 3);
    REQUIRE(save_adapter(dir / "a", prompt, m, "base"));
    const auto loaded = load_adapter(dir / "a", m);
    REQUIRE_MESSAGE(loaded, loaded.error());
    CHECK(loaded->adapter.prompt_tokens() == 5);
    CHECK(loaded->base_model == "base");
    CHECK(same_bits_in(loaded->adapter.arena, prompt.arena));

    ModelConfig wider = m.config, shorter = m.config;
    wider.width = 32, wider.head_dim = 0, wider.hidden = 0, shorter.context = 5;
    CHECK(mentions(load_adapter(dir / "a", random_decoder<float>(resolved(wider))).error(),
                   "token_dim: expected 32, the model's width, found 16"));
    const std::string json = slurp(dir / "a/adapter_config.json");
    Json changed = Json::parse(json);
    changed.erase("token_dim");
    spill(dir / "a/adapter_config.json", changed.dump());
    CHECK(mentions(load_adapter(dir / "a", random_decoder<float>(resolved(wider))).error(),
                   "prompt_embeddings: expected shape [5, 32], found [5, 16]"));
    if (llama) CHECK(mentions(load_adapter(dir / "a", random_decoder<float>(shorter)).error(), "soft prompt: expected 1 to 4 tokens"));
    changed["num_virtual_tokens"] = 6;
    spill(dir / "a/adapter_config.json", changed.dump());
    CHECK(mentions(load_adapter(dir / "a", m).error(), "prompt_embeddings: expected shape [6, 16], found [5, 16]"));
  }
}

TEST_CASE("adapter directories: what does not hold together is one line") {
  TemporaryDirectory dir;
  const ModelConfig config = adapter_base(false);
  const Decoder<float> m = random_decoder<float>(config);
  const auto save = [&](const LoraConfig& lora) { REQUIRE(save_adapter(dir / "a", filled_adapter(m, lora), m, "b")); };
  save(rank_three({"attn.qkv"}));
  std::string weights = slurp(dir / "a/adapter_model.safetensors");
  Json json = Json::parse(slurp(dir / "a/adapter_config.json"));
  const auto error = [&](const std::string& text, const std::string& bytes, const ModelConfig& model) {
    spill(dir / "a/adapter_config.json", text);
    spill(dir / "a/adapter_model.safetensors", bytes);
    const auto loaded = load_adapter(dir / "a", random_decoder<float>(model));
    if (loaded) return std::string();
    CHECK(!mentions(loaded.error(), "\n"));
    CHECK(loaded.error().starts_with(dir.path.string()));
    return loaded.error();
  };
  const auto with = [&](const char* field, const Json& value) {
    Json changed = json;
    changed[field] = value;
    return error(changed.dump(), weights, config);
  };
  CHECK(error(json.dump(), weights, config) == "");
  CHECK(mentions(error(json.dump(), weights.substr(0, weights.size() - 1), config), "(the file is cut)"));
  CHECK(mentions(error("", weights, config), "expected a JSON object"));
  CHECK(mentions(with("peft_type", "IA3"), "peft_type: expected \"LORA\" or \"PROMPT_TUNING\", found \"IA3\""));
  CHECK(mentions(with("bias", "all"), "bias: expected \"none\", found \"all\""));
  CHECK(mentions(with("lora_bias", true), "lora_bias: expected false, found true"));
  CHECK(mentions(with("layer_replication", {{0, 1}}), "layer_replication: expected none, found [[0,1]]"));
  CHECK(mentions(with("r", nullptr), "r: expected a whole number from 1 to 1048576, found none"));
  CHECK(mentions(with("r", 0), "r: expected a whole number from 1 to 1048576, found 0"));
  CHECK(mentions(with("r", -1), "r: expected a whole number from 1 to 1048576, found -1"));
  CHECK(mentions(with("r", 17), "LoRA: rank 17 is above that of attn.qkv [48, 16]"));
  CHECK(mentions(with("r", 4), "lora_A.weight: expected shape [4, 16], found [3, 16]"));
  CHECK(mentions(with("rank_pattern", {{"c_attn", 0}}), "rank_pattern: c_attn: expected a whole number from 1 to 1048576, found 0"));
  CHECK(mentions(with("rank_pattern", {{"c_attn", 4}}), "lora_A.weight: expected shape [4, 16], found [3, 16]"));
  CHECK(mentions(with("lora_alpha", 0), "lora_alpha: expected a number from 1e-12 to 1000000000000, found 0"));
  CHECK(mentions(with("lora_alpha", -2), "lora_alpha: expected a number from 1e-12 to 1000000000000, found -2"));
  CHECK(mentions(with("alpha_pattern", {{"c_attn", -1}}), "alpha_pattern: c_attn: expected a number"));
  CHECK(mentions(with("alpha_pattern", {{".*attn", 1}}), "alpha_pattern: expected names of modules (a regular expression is not read)"));
  CHECK(mentions(with("target_modules", {"c_attn", "nonsense"}),
                 "target_modules: expected modules of a gpt2 model (wte, c_attn, attn.c_proj, c_fc, mlp.c_proj, lm_head), found nonsense"));
  CHECK(mentions(with("target_modules", 3), "target_modules: expected a list of names, or one regular expression, found 3"));
  CHECK(mentions(with("target_modules", "all-linear"),
                 "expected a tensor base_model.model.transformer.h.0.attn.c_proj.lora_A.weight of shape [3, 16], found none"));
  CHECK(mentions(with("use_dora", true),
                 "expected a tensor base_model.model.transformer.h.0.attn.c_attn.lora_magnitude_vector of shape [48], found none"));

  CHECK(mentions(
      error(json.dump(), weights, adapter_base(true)),
      "expected modules of a llama model with 2 layers (embed_tokens, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, "
      "lm_head), found base_model.model.transformer.h."));
  ModelConfig wider = config, deeper = config, shallower = config;
  wider.width = 32, wider.head_dim = 0, wider.hidden = 0, deeper.layers = 3, shallower.layers = 1;
  CHECK(mentions(error(json.dump(), weights, resolved(wider)), "expected shape [3, 32], found [3, 16]"));
  CHECK(mentions(error(json.dump(), weights, deeper),
                 "expected a tensor base_model.model.transformer.h.2.attn.c_attn.lora_A.weight of shape [3, 16], found none"));
  CHECK(mentions(error(json.dump(), weights, shallower),
                 "with 1 layers (wte, c_attn, attn.c_proj, c_fc, mlp.c_proj, lm_head), found base_model.model.transformer.h.1"));

  const auto replaced = [](std::string bytes, const std::string& from, const std::string& to) {
    REQUIRE(from.size() == to.size());
    REQUIRE(mentions(bytes, from));
    return bytes.replace(bytes.find(from), from.size(), to);
  };
  CHECK(mentions(error(json.dump(), replaced(weights, "h.1.attn.c_attn.lora_B", "h.1.attn.c_attn.lora_C"), config),
                 "found base_model.model.transformer.h.1.attn.c_attn.lora_C.weight"));
  CHECK(mentions(error(json.dump(), replaced(weights, "h.1.attn.c_attn.lora_A.weight", "h.1.attn.xxxx.an_A_weight.not"), config),
                 "h.1.attn.c_attn.lora_A.weight of shape [3, 16], found none"));
  CHECK(mentions(error(json.dump(), replaced(weights, "\\\"rank\\\":3", "\\\"rank\\\":0"), config),
                 "glassformer.adapter: rank: expected a whole number"));
  CHECK(mentions(error(json.dump(), replaced(weights, "\\\"attn.qkv\\\"", "\\\"attn.qkx\\\""), config),
                 "LoRA: expected targets of attn.qkv, attn.q, "));

  LoraConfig dora = rank_three({"mlp.up"});
  dora.dora = true;
  save(dora);
  json = Json::parse(slurp(dir / "a/adapter_config.json"));
  weights = slurp(dir / "a/adapter_model.safetensors");
  CHECK(mentions(with("use_dora", false), "use_dora: expected true, as "));

  auto adapter = filled_adapter(m, rank_three({"attn.qkv"}));
  adapter.arena.values()[5] = NAN;
  REQUIRE(save_adapter(dir / "nan", adapter, m, "b"));
  CHECK(mentions(load_adapter(dir / "nan", m).error(), "expected finite numbers, found 1 of"));
  fs::remove(dir / "nan/adapter_model.safetensors");
  CHECK(mentions(load_adapter(dir / "nan", m).error(), "could not be read"));
}

TEST_CASE("adapter directories: a tied embedding is adapted with its head or not at all") {
  TemporaryDirectory dir;
  const Decoder<float> m = random_decoder<float>(adapter_base(true));
  REQUIRE(save_adapter(dir / "a", filled_adapter(m, rank_three({"embed"})), m, "b"));
  const auto file = SafetensorsFile::open(dir / "a/adapter_model.safetensors");
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : file->tensors()) {
    values.emplace_back(static_cast<std::size_t>(entry.size()));
    REQUIRE(file->read<float>(entry, values.back()));
    tensors.push_back({entry.name, Dtype::F32, entry.shape, static_cast<const float*>(values.back().data()), false});
  }
  const auto error = [&](const std::vector<NamedTensor>& changed, const Json& targets) {
    REQUIRE(save_file(dir / "new", [&](const fs::path& path) { return write_safetensors(path, changed); }));
    fs::rename(dir / "new", dir / "a/adapter_model.safetensors");
    Json json = Json::parse(slurp(dir / "a/adapter_config.json"));
    json["target_modules"] = targets;
    spill(dir / "a/adapter_config.json", json.dump());
    const auto loaded = load_adapter(dir / "a", m);
    return loaded ? "" : loaded.error();
  };
  CHECK(error(tensors, {"embed_tokens", "lm_head"}) == "");
  std::vector<NamedTensor> one;
  for (const NamedTensor& t : tensors) {
    if (mentions(t.name, "embed_tokens")) one.push_back(t);
  }
  REQUIRE(one.size() == 2);
  CHECK(mentions(error(one, {"embed_tokens"}), "one matrix), found one of model.embed_tokens alone"));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (mentions(tensors[i].name, "lm_head.lora_B")) values[i][4] += 0.5f;
  }
  CHECK(mentions(error(tensors, {"embed_tokens", "lm_head"}), "lm_head: expected the same numbers as in the modules before it"));
}

TEST_CASE("a real adapter by others") {
  const fs::path path = fs::path(GLASSFORMER_SHARED_DIR) / "data/peft_gpt2_c_attn";
  if (!fs::exists(path)) {
    MESSAGE("skipped: no " << path.string());
    return;
  }
  ModelConfig config = *model_preset("gpt2");
  config.vocab = 16, config.context = 8, config.hidden = 16;  // the adapter is of c_attn alone
  const auto loaded = load_adapter(path, make_decoder<float>(config));
  REQUIRE_MESSAGE(loaded, loaded.error());
  CHECK(loaded->base_model == "gpt2");
  CHECK(loaded->adapter.config.targets == std::vector<std::string>{"attn.qkv"});
  CHECK(loaded->adapter.config.scale() == 1);
  CHECK(loaded->adapter.arena.layout().parameters() == 12 * 8 * (768 + 2304));
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(mentions(loaded->warnings[0], "score.weight is no part of a LoRA adapter"));
  const auto file = SafetensorsFile::open(path / "adapter_model.safetensors");
  std::vector<float> b(2304 * 8);
  REQUIRE(file->read<float>(*file->find("base_model.model.transformer.h.11.attn.c_attn.lora_B.weight"), b));
  CHECK(std::memcmp(loaded->adapter.arena.view("blocks.11.attn.qkv.lora_B").data, b.data(), b.size() * sizeof(float)) == 0);
}

}  // namespace glassformer
