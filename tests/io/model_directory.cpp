#include "glassformer/io/model_directory.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "glassformer/io/save.hpp"
#include "temporary.hpp"

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

ModelConfig small(const std::function<void(ModelConfig&)>& change = {}) {
  ModelConfig c;
  c.vocab = 256, c.context = 12, c.layers = 2, c.heads = 4, c.width = 16, c.dropout = 0.1;
  c.position = Position::learned;
  if (change) change(c);
  return resolved(c);
}
ModelConfig small_llama(const std::function<void(ModelConfig&)>& change = {}) {
  return small([&](ModelConfig& c) {
    c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.kv_heads = 2, c.rope_base = 5000,
    c.hidden = 24;
    if (change) change(c);
  });
}

// Every number another one.
template <class S>
Decoder<S> filled(const ModelConfig& config) {
  auto decoder = make_decoder<S>(config);
  double x = 0;
  for (const TensorInfo& info : decoder.arena.layout().tensors()) {
    auto view = decoder.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) view.data[i] = static_cast<S>(std::sin(x += 1));
  }
  return decoder;
}
template <class S>
bool same_bits(const Arena<S>& a, const Arena<S>& b) {
  return a.values().size() == b.values().size() && std::memcmp(a.values().data(), b.values().data(), a.values().size_bytes()) == 0;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  REQUIRE_MESSAGE(mentions(text, from), from << " is not in " << text);
  return text.replace(text.find(from), from.size(), to);
}
std::string config_error(const std::string& text) {
  const auto config = parse_config_json("C", text, nullptr);
  if (config) return "";
  CHECK(config.error().starts_with("C: "));
  return config.error();
}
// The error of loading a directory whose weights were rewritten with a change.
std::string load_error(const fs::path& dir, const Decoder<float>& decoder, const std::function<void(std::vector<NamedTensor>&)>& change) {
  auto tensors = model_tensors(decoder, Dtype::F32);
  change(tensors);
  REQUIRE(write_safetensors(dir / "model.safetensors", tensors));
  const auto loaded = load_model(dir);
  if (loaded) return "";
  CHECK(loaded.error().starts_with((dir / "model.safetensors").string() + ": "));
  CHECK(!mentions(loaded.error(), "\n"));
  return loaded.error();
}
NamedTensor& named(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& t : tensors) {
    if (t.name == name) return t;
  }
  FAIL("no tensor " << name);
  return tensors.front();
}

}  // namespace

TEST_CASE("every combination of choices survives config.json, and the family is right") {
  int families[3] = {};
  for (const auto& position : choices<Position>()) {
    for (const auto& norm : choices<ops::Norm>()) {
      for (const auto& mlp : choices<Mlp>()) {
        for (int bits = 0; bits < 64; ++bits) {
          const ModelConfig c = small([&](ModelConfig& m) {
            m.position = position.value, m.norm = norm.value, m.mlp = mlp.value;
            m.bias = bits & 1, m.tied = bits & 2, m.norm_bias = bits & 4, m.prepend_bos = bits & 8;
            m.placement = bits & 16 ? NormPlacement::post : NormPlacement::pre;
            m.kv_heads = bits & 32 ? 2 : 4;
            m.bos = bits & 8 ? 3 : -1, m.eos = 7, m.embedding_std = bits & 2 ? 0.05 : 0.02, m.rope_base = 12345.5;
            m.window = bits % 5 == 4 ? 5 : 0, m.causal = bits % 7 != 6, m.norm_epsilon = 1e-6;
          });
          const auto back = parse_config_json("C", config_json(c), nullptr);
          REQUIRE_MESSAGE(back, back.error());
          ModelConfig expected = c;
          if (model_family(c) == ModelFamily::gpt2) expected.rope_base = back->rope_base;  // has no meaning there
          if (!(*back == expected)) FAIL("another configuration came back from " << config_json(c));
          ++families[static_cast<int>(model_family(c))];
        }
      }
    }
  }
  CHECK(families[static_cast<int>(ModelFamily::gpt2)] > 10);
  CHECK(families[static_cast<int>(ModelFamily::llama)] > 10);
  CHECK(families[static_cast<int>(ModelFamily::glassformer)] > 1000);
}

TEST_CASE("every scaling of RoPE survives config.json, as Hugging Face spells it where it has a word") {
  const auto written = [](const ModelConfig& c) { return nlohmann::json::parse(config_json(c)); };
  for (const auto& scaling : choices<RopeScaling>()) {
    const RopeStretch stretch{scaling.value, scaling.value == RopeScaling::none ? 1 : 2.5, 7};
    const ModelConfig llama = small_llama([&](auto& c) { c.rope_stretch = stretch; });
    const ModelConfig gelu = small([&](auto& c) { c.position = Position::rope, c.rope_stretch = stretch; });
    for (const ModelConfig& c : {llama, gelu}) {
      const auto back = parse_config_json("C", config_json(c), nullptr);
      REQUIRE_MESSAGE(back, back.error());
      CHECK(*back == c);
    }
    CHECK(model_family(gelu) == ModelFamily::glassformer);
    CHECK((model_family(llama) == ModelFamily::llama) == (scaling.value != RopeScaling::yarn));  // Hugging Face's YaRN has another ramp
  }
  const auto llama = [&](const RopeStretch& stretch) { return written(small_llama([&](auto& c) { c.rope_stretch = stretch; })); };
  CHECK(llama({RopeScaling::linear, 4})["rope_scaling"] == nlohmann::json::parse(R"({"rope_type": "linear", "factor": 4.0})"));
  CHECK(llama({RopeScaling::yarn_pairs, 4, 12})["rope_scaling"] ==
        nlohmann::json::parse(R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12, "beta_fast": 32.0, "beta_slow": 1.0})"));
  const auto ntk = llama({RopeScaling::ntk, 4});  // only another base: 5000·4^(4/2)
  CHECK(ntk["rope_scaling"].is_null());
  CHECK(ntk["rope_theta"].get<double>() == doctest::Approx(80000));
  // Who does not know our fields reads the same frequencies.
  CHECK(rope_frequencies(4, ntk["rope_theta"].get<double>())[1] == doctest::Approx(rope_frequencies(4, 5000, {RopeScaling::ntk, 4})[1]).epsilon(1e-14));
}

TEST_CASE("models of the three families come back to the bit, in float and double") {
  std::vector<ModelConfig> configs = {
      small(),
      small([](auto& c) { c.bias = false, c.norm_bias = false; }),
      small([](auto& c) { c.bias = false; }),
      small([](auto& c) { c.tied = false, c.mlp = Mlp::gelu_exact, c.hidden = 40; }),
      small_llama(),
      small_llama([](auto& c) { c.tied = false, c.head_dim = 6, c.kv_heads = 1; }),
      small([](auto& c) { c.position = Position::alibi, c.placement = NormPlacement::post, c.kv_heads = 1; }),
      small([](auto& c) { c.mlp = Mlp::none, c.window = 3; })};
  for (const ModelConfig& config : configs) {
    CAPTURE(config_json(config));
    TemporaryDirectory dir;
    const auto decoder = filled<float>(config);
    const auto saved = save_model(dir / "m", decoder, byte_tokenizer(), {{"step", "7"}});
    REQUIRE_MESSAGE(saved, saved.error());
    const auto loaded = load_model(dir / "m");
    REQUIRE_MESSAGE(loaded, loaded.error());
    ModelConfig expected = config;
    if (model_family(config) == ModelFamily::gpt2) expected.rope_base = loaded->decoder.config.rope_base;
    CHECK(loaded->decoder.config == expected);
    CHECK(same_bits(loaded->decoder.arena, decoder.arena));
    CHECK(loaded->metadata.at("step") == "7");
    CHECK(loaded->warnings.empty());

    const auto exact = filled<double>(config);
    REQUIRE(write_safetensors(dir / "double", model_tensors(exact, Dtype::F64)));
    const auto file = SafetensorsFile::open(dir / "double");
    auto back = make_decoder<double>(config);
    REQUIRE(file);
    const auto read = read_into(back, *file);
    REQUIRE_MESSAGE(read, read.error());
    CHECK(same_bits(back.arena, exact.arena));
  }
}

TEST_CASE("GPT-2's file has GPT-2's names and [in, out]") {
  TemporaryDirectory dir;
  const auto decoder = filled<float>(small());
  REQUIRE(save_model(dir / "m", decoder, byte_tokenizer()));
  const auto file = SafetensorsFile::open(dir / "m/model.safetensors");
  REQUIRE(file);
  CHECK(file->metadata().at("format") == "pt");
  CHECK(file->tensors().size() == 2 + 2 * 12 + 2);
  const auto entry = file->expect("transformer.h.1.attn.c_attn.weight", std::vector<Index>{16, 48});
  REQUIRE_MESSAGE(entry, entry.error());
  Matrix<float> weight(16, 48);
  REQUIRE(file->read<float>(**entry, {weight.data(), 16 * 48}));
  CHECK(weight(3, 40) == (*decoder.blocks[1].attention.qkv.weight)(40, 3));
  CHECK(file->expect("transformer.h.0.mlp.c_fc.weight", std::vector<Index>{16, 64}));
  CHECK(file->expect("transformer.h.0.mlp.c_proj.weight", std::vector<Index>{64, 16}));
  CHECK(file->expect("transformer.h.0.ln_1.bias", std::vector<Index>{16}));
  CHECK(file->expect("transformer.wpe.weight", std::vector<Index>{12, 16}));
  const std::string config = slurp(dir / "m/config.json");
  for (const char* part : {R"("model_type": "gpt2")", R"("n_embd": 16)", R"("activation_function": "gelu_new")", R"("bos_token_id": null)",
                           R"("attn_pdrop": 0.1)"}) {
    CHECK(mentions(config, part));
  }
}

TEST_CASE("Llama's file has q, k, v, gate and up apart") {
  TemporaryDirectory dir;
  const auto decoder = filled<float>(small_llama());
  REQUIRE(write_safetensors(dir / "a", model_tensors(decoder, Dtype::F32)));
  const auto file = SafetensorsFile::open(dir / "a");
  REQUIRE(file);
  const auto row = [&](const char* name, Index rows) {
    const auto entry = file->expect(name, std::vector<Index>{rows, 16});
    REQUIRE_MESSAGE(entry, entry.error());
    Matrix<float> m(rows, 16);
    REQUIRE(file->read<float>(**entry, {m.data(), static_cast<std::size_t>(m.size())}));
    return m.row(0).eval();
  };
  const auto &qkv = *decoder.blocks[0].attention.qkv.weight, &up = *decoder.blocks[0].mlp.up.weight;
  CHECK(row("model.layers.0.self_attn.q_proj.weight", 16) == qkv.row(0));
  CHECK(row("model.layers.0.self_attn.k_proj.weight", 8) == qkv.row(16));
  CHECK(row("model.layers.0.self_attn.v_proj.weight", 8) == qkv.row(24));
  CHECK(row("model.layers.0.mlp.gate_proj.weight", 24) == up.row(0));
  CHECK(row("model.layers.0.mlp.up_proj.weight", 24) == up.row(24));
  CHECK(file->expect("model.norm.weight", std::vector<Index>{16}));
  CHECK(!file->find("lm_head.weight"));
}

TEST_CASE("what other tools write: no prefix, old buffers, half precision, a tied head twice") {
  TemporaryDirectory dir;
  const auto decoder = filled<float>(small());
  REQUIRE(save_model(dir / "m", decoder, byte_tokenizer()));
  const std::byte mask[144] = {};
  const auto error = load_error(dir / "m", decoder, [&](auto& tensors) {
    for (NamedTensor& t : tensors) t.name = t.name.substr(std::strlen("transformer."));
    tensors.push_back({"h.0.attn.bias", Dtype::U8, {1, 1, 12, 12}, static_cast<const std::byte*>(mask), false});
    tensors.push_back({"h.0.attn.masked_bias", Dtype::F32, {}, static_cast<const float*>(nullptr), false});
    tensors.push_back({"lm_head.weight", Dtype::F32, {256, 16}, static_cast<const float*>(decoder.embed.weight.dense.data), false});
  });
  CHECK(error == "");
  CHECK(same_bits(load_model(dir / "m")->decoder.arena, decoder.arena));
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    REQUIRE(save_model(dir / "m", decoder, byte_tokenizer(), {}, dtype));
    const auto loaded = load_model(dir / "m");
    REQUIRE_MESSAGE(loaded, loaded.error());
    const double bound = dtype == Dtype::F16 ? 0x1p-11 : 0x1p-8;  // half a unit in the last place, relative
    double worst = 0;
    for (std::size_t i = 0; i < decoder.arena.values().size(); ++i) {
      const double x = decoder.arena.values()[i], y = loaded->decoder.arena.values()[i];
      if (std::abs(x) > 0.01) worst = std::max(worst, std::abs(y - x) / std::abs(x));
    }
    CHECK(worst <= bound);
    CHECK(worst > bound / 4);
  }
}

TEST_CASE("a bias-free GPT-2 whose biases are not zero after all gets them") {
  TemporaryDirectory dir;
  const auto decoder = filled<float>(small([](auto& c) { c.bias = false, c.norm_bias = false; }));
  REQUIRE(save_model(dir / "m", decoder, byte_tokenizer()));
  const std::vector<float> bias(48, 0.5f);
  CHECK(load_error(dir / "m", decoder, [&](auto& t) { named(t, "transformer.h.0.attn.c_attn.bias").data = bias.data(); }) == "");
  const auto loaded = load_model(dir / "m");
  REQUIRE(loaded->decoder.config.bias);
  CHECK(!loaded->decoder.config.norm_bias);
  CHECK((*loaded->decoder.blocks[0].attention.qkv.bias)(0, 47) == 0.5f);
}

TEST_CASE("weights that do not fit the configuration: one line that names the tensor") {
  TemporaryDirectory dir;
  const fs::path m = dir / "m";
  auto decoder = filled<float>(small());
  REQUIRE(save_model(m, decoder, byte_tokenizer()));
  const std::string wpe = "transformer.wpe.weight";
  CHECK(mentions(load_error(m, decoder, [&](auto& t) { std::erase_if(t, [&](auto& x) { return x.name == wpe; }); }),
                 "expected a tensor " + wpe + " of shape [12, 16], found none"));
  CHECK(mentions(load_error(m, decoder,
                            [&](auto& t) {
                              named(t, wpe).shape = {11, 16};
                            }),
                 wpe + ": expected shape [12, 16], found [11, 16]"));
  CHECK(mentions(load_error(m, decoder,
                            [&](auto& t) {
                              t.push_back({"transformer.h.2.ln_1.bias", Dtype::F32, {16}, static_cast<const float*>(nullptr), false});
                            }),
                 "found transformer.h.2.ln_1.bias of shape [16]"));
  CHECK(mentions(load_error(m, decoder,
                            [&](auto& t) {
                              t.push_back({"wpe.weight", Dtype::F32, {12, 16}, static_cast<const float*>(nullptr), false});
                            }),
                 "once"));
  CHECK(mentions(load_error(m, decoder,
                            [&](auto& t) {
                              t.push_back({"lm_head.weight", Dtype::F32, {256, 16}, static_cast<const float*>(nullptr), false});
                            }),
                 "found lm_head.weight"));
  (*decoder.embed.weight)(3, 4) = NAN, (*decoder.embed.weight)(5, 5) = -INFINITY;
  CHECK(mentions(load_error(m, decoder, [](auto&) {}),
                 "transformer.wte.weight: expected finite numbers, found 2 of 4096 that are NaN or infinite"));
  const auto other = small_llama();
  auto into = make_decoder<float>(other);
  CHECK(mentions(read_into(into, *SafetensorsFile::open(m / "model.safetensors")).error(),
                 "expected the weights of a llama model, found a gpt2's"));
  // Sizes that no machine has are refused by the file's shapes, before any memory is asked for.
  spill(m / "config.json", replaced(replaced(slurp(m / "config.json"), "\"vocab_size\": 256", "\"vocab_size\": 16000000"), "\"n_layer\": 2",
                                    "\"n_layer\": 4000"));
  CHECK(mentions(load_model(m).error(), "expected the tensors of 4000 layers"));
}

TEST_CASE("config.json that says something else: the field, what was expected, what was found") {
  const std::string gpt2 = config_json(small()), llama = config_json(small_llama()),
                    ours = config_json(small([](auto&c) { c.position = Position::alibi; }));
  CHECK(mentions(config_error(""), "expected a JSON object"));
  CHECK(mentions(config_error("[]"), "expected a JSON object"));
  CHECK(mentions(config_error("{}"), "model_type: expected a string, found none"));
  CHECK(mentions(config_error(replaced(gpt2, "\"gpt2\"", "\"bert\"")), "model_type: expected gpt2, llama or glassformer, found \"bert\""));
  CHECK(mentions(config_error(replaced(gpt2, "\"n_layer\": 2", "\"n_layer\": 2.5")),
                 "n_layer: expected a whole number from 1 to 10000, found 2.5"));
  CHECK(mentions(config_error(replaced(gpt2, "\"n_layer\": 2", "\"n_layer\": -1")), "n_layer: expected"));
  CHECK(mentions(config_error(replaced(gpt2, "\"n_layer\": 2", "\"n_layer\": 18446744073709551615")), "n_layer: expected"));
  CHECK(mentions(config_error(replaced(gpt2, "\"n_head\": 4", "\"n_head\": 3")), "3 heads do not divide the width 16"));
  CHECK(mentions(config_error(replaced(gpt2, "gelu_new", "relu")), "activation_function: expected gelu_new or gelu, found \"relu\""));
  const auto rope_error = [&](const char* scaling) { return config_error(replaced(llama, "\"rope_scaling\": null", fmt::format("\"rope_scaling\": {}", scaling))); };
  CHECK(rope_error("4") == "C: rope_scaling: expected an object, found 4");
  CHECK(rope_error(R"({"rope_type": "dynamic", "factor": 2})") == "C: rope_scaling: rope_type: expected default, linear or yarn, found \"dynamic\"");
  CHECK(rope_error(R"({"type": "llama3", "factor": 2})") == "C: rope_scaling: type: expected default, linear or yarn, found \"llama3\"");
  CHECK(rope_error(R"({"rope_type": "linear"})") == "C: rope_scaling: factor: expected a number from 1 to 1000000, found none");
  CHECK(rope_error(R"({"rope_type": "linear", "factor": 0.5})") == "C: rope_scaling: factor: expected a number from 1 to 1000000, found 0.5");
  CHECK(rope_error(R"({"rope_type": "linear", "factor": 1e999})").starts_with("C: expected"));  // no JSON
  CHECK(rope_error(R"({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0})").starts_with("C: rope_scaling: original_max_position_embeddings: expected"));
  CHECK(rope_error(R"({"rope_type": "yarn", "factor": 2, "beta_fast": 16})") == "C: rope_scaling: beta_fast: expected 32, found 16");
  CHECK(rope_error(R"({"rope_type": "yarn", "factor": 2, "beta_slow": 2})") == "C: rope_scaling: beta_slow: expected 1, found 2");
  CHECK(rope_error(R"({"rope_type": "yarn", "factor": 2, "attention_factor": 1.0})") == "C: rope_scaling: attention_factor: expected 1.069315, found 1.0");
  CHECK(rope_error(R"({"rope_type": "yarn", "factor": 2, "mscale": 0.7})") == "C: rope_scaling: mscale: expected none, found 0.7");
  CHECK(rope_error(R"({"rope_type": "yarn", "factor": 2, "truncate": false})") == "C: rope_scaling: truncate: expected true, found false");
  CHECK(mentions(rope_error(R"(null, "glassformer_rope_base": 10000, "glassformer_rope_ntk_factor": 2)"),
                 "glassformer_rope_ntk_factor: expected the factor that makes 5000 of the base 10000, and no rope_scaling beside it, found 2"));
  CHECK(mentions(config_error(replaced(config_json(small([](auto& c) { c.position = Position::rope, c.rope_stretch = {RopeScaling::linear, 2}; })), "\"linear\"", "\"longrope\"")),
                 "rope_scaling: expected one of none, linear, ntk, yarn, yarn-pairs, found \"longrope\""));
  CHECK(mentions(config_error(replaced(llama, "\"silu\"", "\"gelu\"")), "hidden_act: expected \"silu\", found \"gelu\""));
  CHECK(mentions(config_error(replaced(llama, "\"attention_bias\": false", "\"attention_bias\": true")), "attention_bias"));
  CHECK(mentions(config_error(replaced(ours, "\"alibi\"", "\"alibai\"")),
                 "position: expected one of none, sinusoidal, learned, rope, alibi, found \"alibai\""));
  CHECK(
      mentions(config_error(replaced(ours, "\"heads\": 4", "\"headz\": 4")), "heads: expected a whole number from 1 to 10000, found none"));
}

TEST_CASE("Hugging Face's own spellings") {
  std::vector<std::string> warnings;
  const auto gpt2 =
      parse_config_json("C", R"({"model_type":"gpt2","vocab_size":100,"n_ctx":32,"n_embd":8,"n_layer":1,"n_head":2,"n_inner":null,
    "bos_token_id":50256,"eos_token_id":[5,6],"resid_pdrop":0.1,"attn_pdrop":0.2})",
                        &warnings);
  REQUIRE_MESSAGE(gpt2, gpt2.error());
  CHECK(gpt2->hidden == 32);
  CHECK(gpt2->context == 32);
  CHECK(gpt2->tied);
  CHECK(gpt2->bos == -1);
  CHECK(gpt2->eos == 5);
  CHECK(!gpt2->prepend_bos);
  CHECK(warnings.size() == 2);
  const auto llama =
      parse_config_json("C", R"({"model_type":"llama","vocab_size":100,"hidden_size":8,"intermediate_size":20,"num_hidden_layers":1,
    "num_attention_heads":2,"rope_parameters":{"rope_theta":500000.0,"rope_type":"default"},"rms_norm_eps":1e-6,"bos_token_id":1})",
                        &warnings);
  REQUIRE_MESSAGE(llama, llama.error());
  CHECK(llama->rope_base == 500000);
  CHECK(llama->kv_heads == 2);
  CHECK(llama->head_dim == 4);
  CHECK(!llama->tied);
  CHECK(llama->norm_epsilon == 1e-6);
  CHECK(llama->prepend_bos);
  const auto rope = [](const char* fields) {
    return parse_config_json("C", fmt::format(R"({{"model_type":"llama","vocab_size":100,"hidden_size":8,"intermediate_size":20,"num_hidden_layers":1,
      "num_attention_heads":2,"max_position_embeddings":4096,{}}})", fields), nullptr);
  };
  const auto linear = rope(R"("rope_theta":10000.0,"rope_scaling":{"type":"linear","factor":2.0})");
  REQUIRE_MESSAGE(linear, linear.error());
  CHECK(linear->rope_stretch == RopeStretch{RopeScaling::linear, 2});
  const auto yarn = rope(R"("rope_parameters":{"rope_type":"yarn","rope_theta":1000000.0,"factor":4.0,"original_max_position_embeddings":1024,"attention_factor":1.1386294361119891})");
  REQUIRE_MESSAGE(yarn, yarn.error());
  CHECK(yarn->rope_base == 1000000);
  CHECK(yarn->rope_stretch == RopeStretch{RopeScaling::yarn_pairs, 4, 1024});
  CHECK(rope(R"("rope_scaling":{"rope_type":"yarn","factor":4.0})")->rope_stretch.trained_context == 4096);
}

TEST_CASE("a tokenizer that does not fit") {
  TemporaryDirectory dir;
  const auto decoder = filled<float>(small([](auto& c) { c.vocab = 300; }));
  CHECK_THROWS_AS((void)save_model(dir / "m", decoder, byte_tokenizer()), std::invalid_argument);
  CHECK_THROWS_AS((void)save_model(dir / "m", decoder, character_tokenizer("abc")), std::invalid_argument);
  CHECK(!fs::exists(dir / "m"));
  const std::string text = "the cat and the dog and the cat and the dog";
  const Tokenizer bpe = train_bpe(text, {.vocab_size = 260, .special = {"<|endoftext|>"}, .on_merge = {}});
  REQUIRE(bpe.vocab_size() == 260);
  REQUIRE(save_model(dir / "m", decoder, bpe));  // padded embeddings
  const auto loaded = load_model(dir / "m");
  REQUIRE_MESSAGE(loaded, loaded.error());
  CHECK(loaded->warnings.size() == 1);
  CHECK(loaded->tokenizer.encode(text) == bpe.encode(text));
  const auto smaller = filled<float>(small());
  REQUIRE(save_model(dir / "n", smaller, byte_tokenizer()));
  REQUIRE(fs::copy_file(dir / "m/tokenizer.json", dir / "n/tokenizer.json", fs::copy_options::overwrite_existing));
  CHECK(mentions(load_model(dir / "n").error(), "n: expected a tokenizer of 256 tokens, as the model has, found 260"));
  fs::remove(dir / "n/tokenizer.json");
  CHECK(!load_model(dir / "n"));
}

TEST_CASE("weights alone are replaced, where the configuration is the model's") {
  TemporaryDirectory dir;
  auto decoder = filled<float>(small());
  REQUIRE(save_model(dir / "m", decoder, byte_tokenizer()));
  (*decoder.embed.weight)(0, 0) = 42;
  REQUIRE(save_weights(dir / "m", decoder, {{"step", "9"}}));
  CHECK((*load_model(dir / "m")->decoder.embed.weight)(0, 0) == 42);
  CHECK(load_model(dir / "m")->metadata.at("step") == "9");
  CHECK(mentions(save_weights(dir / "m", filled<float>(small_llama())).error(), "config.json: expected the configuration of the model"));
  CHECK(!save_weights(dir / "none", decoder));
}

TEST_CASE("paths that are no model") {
  TemporaryDirectory dir;
  CHECK(mentions(load_model(dir / "none").error(), "expected a model, found nothing there"));
  CHECK(mentions(load_model(dir.path).error(), "expected a model's config.json and model.safetensors, or model.bin, found neither"));
  spill(dir / "x.txt", "hello");
  CHECK(mentions(load_model(dir / "x.txt").error(), "expected a model directory or a .bin file"));
  spill(dir / "x.bin", "hello");
  CHECK(mentions(load_model(dir / "x.bin").error(), "expected a llama2.c model, found 5 bytes"));
  spill(dir / "x.bin", std::string(1000, '\xff'));
  CHECK(mentions(load_model(dir / "x.bin").error(), "expected the header of a llama2.c model, found dim -1"));
}
