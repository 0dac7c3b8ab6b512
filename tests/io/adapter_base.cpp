// Which weights an adapter was trained over.
#include "adapter_support.hpp"
#include "glassformer/core/hash.hpp"
#include "glassformer/model/quantize.hpp"

namespace glassformer {
namespace {
using namespace test;

ModelConfig config_of_64() {
  ModelConfig c = adapter_base(true);
  c.width = 64, c.head_dim = 0, c.hidden = 64;  // rows of whole blocks, whatever the type
  return resolved(c);
}

// Of loading what was saved over `trained` for `base`: the error, or the warnings.
std::string outcome(const Adapter<float>& adapter, const Decoder<float>& trained, const Decoder<float>& base) {
  TemporaryDirectory dir;
  const auto saved = save_adapter(dir / "a", adapter, trained, "base");
  REQUIRE_MESSAGE(saved, saved.error());
  const auto loaded = load_adapter(dir / "a", base);
  if (!loaded) {
    CHECK(!mentions(loaded.error(), "\n"));
    CHECK(loaded.error().starts_with((dir / "a/adapter_model.safetensors").string()));
    return loaded.error();
  }
  CHECK(same_bits_in(loaded->adapter.arena, adapter.arena));
  REQUIRE(loaded->warnings.size() <= 1);
  return loaded->warnings.empty() ? "" : loaded->warnings[0];
}

}  // namespace

TEST_CASE("FNV-1a: the published values") {
  CHECK(fnv1a("") == 0xcbf29ce484222325ULL);
  CHECK(fnv1a("a") == 0xaf63dc4c8601ec8cULL);
  CHECK(fnv1a("foobar") == 0x85944171f73967e8ULL);
  CHECK(fnv1a(std::as_bytes(std::span("foobar").subspan(3, 3)), fnv1a("foo")) == fnv1a("foobar"));
}

TEST_CASE("adapter over another base: one line that names the first tensor that differs") {
  const ModelConfig c = adapter_base(false);
  const Decoder<float> m = random_decoder<float>(c);
  const Adapter<float> adapter = filled_adapter(m, rank_three({"attn.q", "mlp.down"}));
  CHECK(outcome(adapter, m, random_decoder<float>(c)) == "");
  CHECK(mentions(outcome(adapter, m, random_decoder<float>(c, 2)),
                 ": expected the base that it was trained over, found another: blocks.0.attn.qkv.weight differs, and 3 more of 4 tensors"));
  Decoder<float> near = random_decoder<float>(c);
  float& x = near.arena.view("blocks.1.mlp.down.weight").data[9];
  x = std::nextafter(x, 2.0f);
  const std::string one = outcome(adapter, m, near);
  CHECK(one.ends_with("found another: blocks.1.mlp.down.weight differs"));
  x = std::nextafter(x, -2.0f);
  CHECK(outcome(adapter, m, near) == "");
  near.arena.view("blocks.1.mlp.up.weight").data[0] += 1;  // a tensor that the adapter has nothing to do with
  CHECK(outcome(adapter, m, near) == "");

  const Adapter<float> prompt = make_soft_prompt(m, 3, 1);  // for the whole model
  CHECK(outcome(prompt, m, random_decoder<float>(c)) == "");
  CHECK(outcome(prompt, m, near).ends_with("found another: blocks.1.mlp.up.weight differs"));
  CHECK(mentions(outcome(prompt, m, random_decoder<float>(c, 2)), "embed.weight differs, and 27 more of 28 tensors"));
}

TEST_CASE("adapter over a base of another type: a warning, unless the weights are known to be others") {
  const ModelConfig c = config_of_64();
  const Decoder<float> m = random_decoder<float>(c), other = random_decoder<float>(c, 2);
  const auto quantized = [](const Decoder<float>& d, QuantizedType type) { return quantize_decoder(d, QuantizeTypes::all(type)); };
  const Decoder<float> nf4 = quantized(m, QuantizedType::nf4);
  const Adapter<float> adapter = filled_adapter(m, rank_three({"attn.q", "mlp.down"}));
  for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4}) {
    const Decoder<float> small = quantized(m, type);
    CAPTURE(quantized_name(type));
    CHECK(outcome(adapter, small, quantized(m, type)) == "");
    CHECK(mentions(outcome(adapter, small, quantized(other, type)),
                   "found another: blocks.0.attn.qkv.weight differs, and 3 more of 4 tensors"));
    CHECK(mentions(outcome(adapter, small, m), fmt::format(": trained over {}; this base is f32: ", quantized_name(type))));
    CHECK(mentions(outcome(adapter, small, m), "The weights are: quantized again they give the same bytes"));
    CHECK(mentions(outcome(adapter, small, other), "found another: blocks.0.attn.qkv.weight differs, and 3 more of 4 tensors"));
  }
  CHECK(mentions(outcome(adapter, m, nf4), ": trained over f32; this base is nf4: "));
  CHECK(mentions(outcome(adapter, m, nf4), "whether the weights are is not known"));
  CHECK(mentions(outcome(adapter, quantized(m, QuantizedType::q8_0), nf4), ": trained over q8_0; this base is nf4: "));
  CHECK(outcome(make_soft_prompt(nf4, 3, 1), nf4, quantized(m, QuantizedType::nf4)) == "");
  // A base that was another model before it was quantized, of which some tensors stay in floating point
  Decoder<float> changed = quantized(m, QuantizedType::nf4);
  changed.arena.view("ln_final.weight").data[0] += 1;
  CHECK(outcome(make_soft_prompt(nf4, 3, 1), nf4, changed).ends_with("found another: ln_final.weight differs"));
}

TEST_CASE("adapter whose file says nothing of a base, or nothing that can be read") {
  TemporaryDirectory dir;
  const Decoder<float> m = random_decoder<float>(adapter_base(false)), other = random_decoder<float>(adapter_base(false), 2);
  REQUIRE(save_adapter(dir / "a", filled_adapter(m, rank_three({"attn.q"})), m, "base"));
  std::string bytes = slurp(dir / "a/adapter_model.safetensors");
  const auto at = bytes.find("glassformer.base");
  REQUIRE(at != bytes.npos);
  spill(dir / "a/adapter_model.safetensors", std::string(bytes).replace(at, 11, "xlassformer"));
  const auto loaded = load_adapter(dir / "a", other);
  REQUIRE_MESSAGE(loaded, loaded.error());
  CHECK(loaded->warnings.empty());
  spill(dir / "a/adapter_model.safetensors", bytes.replace(at + 19, 1, "["));
  CHECK(mentions(load_adapter(dir / "a", m).error(), "expected fingerprints of the base in its metadata, found ["));
}

}  // namespace glassformer
