#include "glassformer/io/adapter_directory.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "glassformer/io/safetensors.hpp"
#include "temporary.hpp"

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

ModelConfig base(bool llama, Position position = Position::learned) {
  ModelConfig c;
  c.vocab = 11, c.context = 8, c.layers = 2, c.heads = 4, c.width = 16, c.position = position;
  if (llama) c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.kv_heads = 2, c.hidden = 24;
  return resolved(c);
}
Adapter<float> filled(const ModelConfig& config, std::vector<std::string> targets, bool rslora = false) {
  LoraConfig lora{.rank = 3, .alpha = 5, .dropout = 0.25, .rank_stabilized = rslora, .targets = std::move(targets)};
  auto adapter = make_adapter<float>(config, lora, 1);
  double x = 0;
  for (const TensorInfo& info : adapter.arena.layout().tensors()) {
    const auto view = adapter.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) view.data[i] = static_cast<float>(std::sin(x += 1));
  }
  return adapter;
}
// The change of all weights that an adapter makes.
std::vector<float> change_of(const ModelConfig& config, const Adapter<float>& adapter) {
  auto decoder = make_decoder<float>(config);
  merge(decoder, adapter, Exec{});
  return {decoder.arena.values().begin(), decoder.arena.values().end()};
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i])));
  return worst;
}
std::string without(const std::string& text, const std::string& field) {
  const auto at = text.find("\"" + field + "\"");
  REQUIRE(at != text.npos);
  std::string out = text;
  return out.replace(at + 1, field.size(), std::string(field.size(), 'x'));
}

}  // namespace

TEST_CASE("adapters come back to the bit; other tools, which know no glassformer fields, compute the same change") {
  const std::vector<std::pair<ModelConfig, std::vector<std::string>>> cases = {
      {base(false), {"attn.qkv", "attn.out", "mlp.up", "mlp.down"}},
      {base(false), {"attn.q", "attn.v"}},
      {base(false), {"attn.q", "mlp.down"}},
      {base(true), {"attn.q", "attn.k", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down"}},
      {base(true), {"attn.qkv", "mlp.gate_up"}},
      {base(false, Position::alibi), {"attn.q", "mlp.up"}}};
  for (const auto& [config, targets] : cases) {
    for (const bool rslora : {false, true}) {
      CAPTURE(targets.front());
      TemporaryDirectory dir;
      const auto adapter = filled(config, targets, rslora);
      const auto saved = save_adapter(dir / "a", adapter, make_decoder<float>(config), "base");
      REQUIRE_MESSAGE(saved, saved.error());
      const auto loaded = load_adapter(dir / "a", make_decoder<float>(config));
      REQUIRE_MESSAGE(loaded, loaded.error());
      CHECK(loaded->base_model == "base");
      CHECK(loaded->warnings.empty());
      CHECK(loaded->adapter.config.targets == targets);
      CHECK(loaded->adapter.config.rank == 3);
      CHECK(loaded->adapter.config.alpha == 5);
      CHECK(loaded->adapter.config.dropout == 0.25);
      CHECK(loaded->adapter.config.rank_stabilized == rslora);
      REQUIRE(loaded->adapter.arena.values().size() == adapter.arena.values().size());
      CHECK(std::memcmp(loaded->adapter.arena.values().data(), adapter.arena.values().data(), adapter.arena.values().size_bytes()) == 0);

      spill(dir / "a/adapter_config.json", without(slurp(dir / "a/adapter_config.json"), "glassformer_targets"));
      const auto plain = load_adapter(dir / "a", make_decoder<float>(config));
      REQUIRE_MESSAGE(plain, plain.error());
      const auto change = change_of(config, adapter);
      CHECK(distance(change, std::vector<float>(change.size(), 0)) > 0.1);
      CHECK(distance(change_of(config, plain->adapter), change) < 1e-5);
    }
  }
}

TEST_CASE("names and shapes are PEFT's") {
  TemporaryDirectory dir;
  REQUIRE(save_adapter(dir / "gpt2", filled(base(false), {"attn.qkv"}), make_decoder<float>(base(false)), "gpt2"));
  const auto gpt2 = SafetensorsFile::open(dir / "gpt2/adapter_model.safetensors");
  REQUIRE(gpt2);
  CHECK(gpt2->tensors().size() == 4);
  CHECK(gpt2->expect("base_model.model.transformer.h.1.attn.c_attn.lora_A.weight", std::vector<Index>{3, 16}));
  CHECK(gpt2->expect("base_model.model.transformer.h.1.attn.c_attn.lora_B.weight", std::vector<Index>{48, 3}));
  CHECK(mentions(slurp(dir / "gpt2/adapter_config.json"), "\"fan_in_fan_out\": true"));
  REQUIRE(save_adapter(dir / "llama", filled(base(true), {"attn.k", "mlp.gate"}), make_decoder<float>(base(true)), "llama"));
  const auto llama = SafetensorsFile::open(dir / "llama/adapter_model.safetensors");
  REQUIRE(llama);
  CHECK(llama->expect("base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight", std::vector<Index>{8, 3}));
  CHECK(llama->expect("base_model.model.model.layers.0.mlp.gate_proj.lora_B.weight", std::vector<Index>{24, 3}));
  CHECK(mentions(slurp(dir / "llama/adapter_config.json"), "\"fan_in_fan_out\": false"));
}

TEST_CASE("an adapter that does not hold together: one line") {
  TemporaryDirectory dir;
  const ModelConfig config = base(false);
  REQUIRE(save_adapter(dir / "a", filled(config, {"attn.qkv"}), make_decoder<float>(config), "b"));
  const std::string json = slurp(dir / "a/adapter_config.json"), weights = slurp(dir / "a/adapter_model.safetensors");
  const auto error = [&](const std::string& text, const std::string& bytes, const ModelConfig& model) {
    spill(dir / "a/adapter_config.json", text);
    spill(dir / "a/adapter_model.safetensors", bytes);
    const auto loaded = load_adapter(dir / "a", make_decoder<float>(model));
    if (loaded) return std::string();
    CHECK(!mentions(loaded.error(), "\n"));
    CHECK(loaded.error().starts_with(dir.path.string()));
    return loaded.error();
  };
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = json;
    REQUIRE(mentions(text, from));
    return text.replace(text.find(from), from.size(), to);
  };
  CHECK(error(json, weights, config) == "");
  CHECK(mentions(error(json, weights.substr(0, weights.size() - 1), config), "(the file is cut)"));
  CHECK(mentions(error("", weights, config), "expected a JSON object"));
  CHECK(mentions(error(changed("\"LORA\"", "\"IA3\""), weights, config), "peft_type: expected \"LORA\", found \"IA3\""));
  CHECK(mentions(error(changed("\"use_dora\": false", "\"use_dora\": true"), weights, config), "use_dora"));
  CHECK(mentions(error(changed("\"rank_pattern\": {}", "\"rank_pattern\": {\"c_attn\": 4}"), weights, config), "rank_pattern"));
  CHECK(mentions(error(changed("\"bias\": \"none\"", "\"bias\": \"all\""), weights, config), "bias: expected \"none\""));
  CHECK(mentions(error(without(json, "r"), weights, config), "r: expected a whole number"));
  CHECK(mentions(error(without(changed("\"r\": 3", "\"r\": 4"), "glassformer_targets"), weights, config),
                 "lora_A.weight: expected shape [4, 16], found [3, 16]"));
  CHECK(mentions(error(json, weights, base(true)),
                 "expected modules of a llama model with 2 layers, found base_model.model.transformer.h.0.attn.c_attn.lora_"));
  ModelConfig wider = config;
  wider.width = 32, wider.head_dim = 0, wider.hidden = 0;
  CHECK(mentions(error(json, weights, wider), "expected shape [3, 32], found [3, 16]"));
  ModelConfig deeper = config, shallower = config;
  deeper.layers = 3, shallower.layers = 1;
  CHECK(mentions(error(json, weights, deeper),
                 "expected a tensor base_model.model.transformer.h.2.attn.c_attn.lora_A.weight of shape [3, 16], found none"));
  CHECK(mentions(error(json, weights, shallower), "with 1 layers, found base_model.model.transformer.h.1"));

  auto adapter = filled(config, {"attn.qkv"});
  adapter.arena.values()[5] = NAN;
  REQUIRE(save_adapter(dir / "nan", adapter, make_decoder<float>(config), "b"));
  CHECK(mentions(load_adapter(dir / "nan", make_decoder<float>(config)).error(), "expected finite numbers, found 1 of"));
  fs::remove(dir / "nan/adapter_model.safetensors");
  CHECK(mentions(load_adapter(dir / "nan", make_decoder<float>(config)).error(), "could not be read"));
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
