// Models that are quantized while they are loaded, and quantized directories.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/quantize/block.hpp"
#include "temporary.hpp"
#if defined(__linux__)
#include <sys/wait.h>
#endif

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

ModelConfig small(const std::function<void(ModelConfig&)>& change = {}) {
  ModelConfig c;
  c.vocab = 256, c.context = 12, c.layers = 2, c.heads = 4, c.width = 64;
  c.position = Position::learned;
  if (change) change(c);
  return resolved(c);
}
void make_llama(ModelConfig& c) {
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.kv_heads = 2, c.hidden = 160, c.tied = false;
}

Decoder<float> drawn(const ModelConfig& config) {
  auto decoder = make_decoder<float>(config);
  initialize(decoder, 7);
  for (const TensorInfo& info : decoder.arena.layout().tensors()) {  // no bias is zero, no gain one
    if (info.kind == ParameterKind::vector) decoder.arena.view(info).data[1] += 0.25f;
  }
  return decoder;
}

bool same_bits(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  const auto same = [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0;
  };
  return a.type == b.type && a.rows == b.rows && a.cols == b.cols && same(a.blocks, b.blocks) && same(a.absmax, b.absmax) &&
         same(a.group_maximum, b.group_maximum) && std::memcmp(&a.offset, &b.offset, sizeof a.offset) == 0;
}
// The same parameters to the bit, quantized or not.
bool same_bits(const Decoder<float>& a, const Decoder<float>& b) {
  if (a.quantized.size() != b.quantized.size() || a.arena.values().size() != b.arena.values().size()) return false;
  for (const auto& [name, w] : a.quantized) {
    if (!b.quantized.contains(name) || !same_bits(*w, *b.quantized.at(name))) return false;
  }
  return std::memcmp(a.arena.values().data(), b.arena.values().data(), a.arena.values().size_bytes()) == 0;
}

const std::vector<QuantizeTypes> kTypes = {QuantizeTypes::all(QuantizedType::q8_0),   QuantizeTypes::all(QuantizedType::q4_0),
                                           QuantizeTypes::all(QuantizedType::int4),   QuantizeTypes::all(QuantizedType::nf4),
                                           {QuantizedType::q4_0, QuantizedType::nf4}, {QuantizedType::nf4, std::nullopt},
                                           {std::nullopt, QuantizedType::q8_0}};

std::vector<ModelConfig> configs() {
  return {small(), small([](auto& c) { c.bias = false, c.norm_bias = false; }), small(make_llama), small([](auto& c) {
            c.placement = NormPlacement::post, c.position = Position::alibi, c.hidden = 96;
          })};  // 96: no block of 64 fits
}

}  // namespace

TEST_CASE("a model that is quantized while it is loaded is the one that is quantized in memory, to the bit") {
  for (const ModelConfig& config : configs()) {
    CAPTURE(config_json(config));
    TemporaryDirectory dir;
    const Decoder<float> full = drawn(config);
    REQUIRE(save_model(dir / "m", full, byte_tokenizer()));
    for (const QuantizeTypes& types : kTypes) {
      CAPTURE(quantize_types_name(types));
      std::size_t seen = 0;
      const auto watch = [&](const TensorInfo& info, ConstMatrixRef<float> numbers, const QuantizedMatrix& w) {
        ++seen;
        CHECK(numbers == *full.arena.view(info.name));
        CHECK(quantized_type(info, types) == w.type);
      };
      const auto loaded = load_model(dir / "m", {.quantize = types, .quantized = watch});
      REQUIRE_MESSAGE(loaded, loaded.error());
      const Decoder<float> expected = quantize_decoder(full, types);
      CHECK(same_bits(loaded->decoder, expected));
      CHECK(seen == expected.quantized.size());
      CHECK(!loaded->stored);
      CHECK(quantize_types(loaded->decoder) == types);
      CHECK(decoder_bytes(loaded->decoder) < decoder_bytes(full));
    }
  }
  const fs::path real = fs::path(GLASSFORMER_SHARED_DIR) / "data/stories260K";  // llama2.c's layout
  if (!fs::exists(real / "model.bin")) {
    MESSAGE("skipped: no " << real.string());
    return;
  }
  const QuantizeTypes types = QuantizeTypes::all(QuantizedType::nf4);
  const auto full = load_model(real), loaded = load_model(real, {.quantize = types});
  REQUIRE(full);
  REQUIRE_MESSAGE(loaded, loaded.error());
  CHECK(loaded->decoder.quantized.size() == 1 + 5 * 3);  // rows of mlp.down have 172 numbers
  CHECK(same_bits(loaded->decoder, quantize_decoder(full->decoder, types)));
}

TEST_CASE("quantized directories come back to the bit") {
  for (const ModelConfig& config : configs()) {
    CAPTURE(config_json(config));
    for (const QuantizeTypes& types : kTypes) {
      CAPTURE(quantize_types_name(types));
      TemporaryDirectory dir;
      const Decoder<float> decoder = quantize_decoder(drawn(config), types);
      const auto saved = save_model(dir / "m", decoder, byte_tokenizer(), {{"step", "7"}});
      REQUIRE_MESSAGE(saved, saved.error());
      const auto loaded = load_model(dir / "m");
      REQUIRE_MESSAGE(loaded, loaded.error());
      CHECK(loaded->decoder.config == config);
      CHECK(same_bits(loaded->decoder, decoder));
      CHECK(loaded->stored == types);
      CHECK(loaded->metadata.at("step") == "7");
      CHECK(loaded->warnings.empty());
      CHECK(loaded->description.starts_with(
          fmt::format("glassformer in {}: {} parameters", quantize_types_name(types), decoder_parameters(decoder))));
      // Asked to quantize to what it is, it is taken as it is; to anything else, it cannot be.
      const auto same = load_model(dir / "m", {.quantize = types});
      REQUIRE_MESSAGE(same, same.error());
      CHECK(same_bits(same->decoder, decoder));
      const auto other = load_model(dir / "m", {.quantize = QuantizeTypes{QuantizedType::int4, QuantizedType::int4}});
      REQUIRE(!other);
      CHECK(other.error() == fmt::format("{}: expected a model in floating point to quantize to int4, embeddings int4, found one in {}",
                                         (dir / "m/config.json").string(), quantize_types_name(types)));
      REQUIRE(save_weights(dir / "m", decoder, {{"step", "8"}}));
      CHECK(load_model(dir / "m")->metadata.at("step") == "8");
      CHECK(!save_weights(dir / "m", drawn(config)));
    }
  }
}

TEST_CASE("the tensors of a quantized directory: blocks by rows, NF4 as bitsandbytes has it") {
  TemporaryDirectory dir;
  const Decoder<float> decoder = quantize_decoder(drawn(small()), QuantizeTypes::all(QuantizedType::nf4));
  REQUIRE(save_model(dir / "m", decoder, byte_tokenizer()));
  const auto file = SafetensorsFile::open(dir / "m/model.safetensors");
  REQUIRE(file);
  const auto is = [&](const std::string& name, Dtype dtype, const std::vector<Index>& shape) {
    CAPTURE(name);
    const TensorEntry* entry = file->find(name);
    REQUIRE(entry);
    CHECK(entry->dtype == dtype);
    CHECK(entry->shape == shape);
    return entry->bytes;
  };
  is("embed.weight", Dtype::U8, {256, 64 / 32 * 34});
  is("pos_embed.weight", Dtype::F32, {12, 64});
  is("blocks.0.ln1.weight", Dtype::F32, {64});
  const std::string up = "blocks.1.mlp.up.weight";  // [256, 64]: 256 blocks
  const QuantizedMatrix& w = *decoder.quantized.at(up);
  CHECK(std::memcmp(is(up, Dtype::U8, {256 * 64 / 2, 1}).data(), w.blocks.data(), 256 * 32) == 0);
  CHECK(std::memcmp(is(up + ".absmax", Dtype::U8, {256}).data(), w.absmax.data(), 256) == 0);
  CHECK(std::memcmp(is(up + ".nested_absmax", Dtype::F32, {1}).data(), w.group_maximum.data(), 4) == 0);
  CHECK(std::memcmp(is(up + ".quant_map", Dtype::F32, {16}).data(), nf4_levels().data(), 64) == 0);
  CHECK(std::memcmp(is(up + ".nested_quant_map", Dtype::F32, {256}).data(), dynamic_levels().data(), 1024) == 0);
  const TensorEntry* state = file->find(up + ".quant_state.bitsandbytes__nf4");
  REQUIRE(state);
  const auto json = nlohmann::json::parse(std::string(reinterpret_cast<const char*>(state->bytes.data()), state->bytes.size()));
  CHECK(json["nested_offset"].get<float>() == w.offset);
  nlohmann::json rest = json;
  rest.erase("nested_offset");
  CHECK(rest == nlohmann::json::parse(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [256, 64],
                                          "nested_blocksize": 256, "nested_dtype": "float32"})"));
  const auto config = nlohmann::json::parse(slurp(dir / "m/config.json"));
  CHECK(config["model_type"] == "glassformer");
  CHECK(config["quantization"] == nlohmann::json::parse(R"({"linear": "nf4", "embedding": "q8_0"})"));
}

TEST_CASE("a quantized directory that is damaged: one line that names the tensor") {
  TemporaryDirectory dir;
  const fs::path m = dir / "m", weights = m / "model.safetensors";
  const auto error_of = [&](std::string part) {
    const auto loaded = load_model(m);
    REQUIRE(!loaded);
    CHECK(loaded.error().find('\n') == std::string::npos);
    CHECK_MESSAGE(loaded.error().find(part) != std::string::npos, loaded.error() << " lacks " << part);
  };
  // Loads a file whose tensors were changed.
  const auto with = [&](const QuantizeTypes& types, const std::function<void(std::vector<NamedTensor>&)>& change, const std::string& part) {
    const Decoder<float> decoder = quantize_decoder(drawn(small()), types);
    REQUIRE(save_model(m, decoder, byte_tokenizer()));
    {
      const std::string bytes = slurp(weights);
      const auto file = SafetensorsFile::parse("f", std::as_bytes(std::span(bytes)));
      std::vector<NamedTensor> tensors;
      for (const TensorEntry& e : file->tensors()) tensors.push_back({e.name, e.dtype, e.shape, e.bytes.data()});
      change(tensors);
      REQUIRE(write_safetensors(weights, tensors));
    }
    error_of(weights.string() + ": " + part);
  };
  const auto named = [](std::vector<NamedTensor>& tensors, const std::string& name) -> NamedTensor& {
    for (NamedTensor& t : tensors) {
      if (t.name == name) return t;
    }
    FAIL("no tensor " << name);
    return tensors.front();
  };
  const QuantizeTypes q4 = QuantizeTypes::all(QuantizedType::q4_0), nf4 = QuantizeTypes::all(QuantizedType::nf4);
  const std::string up = "blocks.1.mlp.up.weight";
  const auto without = [&](const std::string& name) {
    return [name](auto& tensors) { std::erase_if(tensors, [&](auto& t) { return t.name == name; }); };
  };
  const auto shaped = [&](const std::string& name, std::vector<Index> shape) {
    return [=](auto& tensors) { named(tensors, name).shape = shape; };
  };
  const auto floats = [&](const std::string& name, const std::vector<float>& numbers) {
    return [=](auto& tensors) { named(tensors, name).data = numbers.data(), named(tensors, name).dtype = Dtype::F32; };
  };

  with(q4, shaped(up, {256, 35}), up + ": expected shape [256, 36], found [256, 35]");
  with(q4, without(up), "expected a tensor " + up + " of shape [256, 36], found none");
  with(
      q4,
      [&](auto& t) {
        t.push_back({"more", Dtype::U8, {1}, t.front().data});
      },
      "expected only tensors of a glassformer model with this configuration, found more");
  std::vector<std::byte> blocks(256 * 36);
  blocks[36 * 5] = std::byte{0x01}, blocks[36 * 5 + 1] = std::byte{0x7e};        // fp16 NaN
  blocks[36 * 7 + 18] = std::byte{0x00}, blocks[36 * 7 + 19] = std::byte{0xfc};  // fp16 −∞
  with(
      q4, [&](auto& t) { named(t, up).data = blocks.data(); },
      up + ": expected finite scales, found 2 of 512 blocks with one that is NaN or infinite");
  const std::vector<float> zeros(256 * 36, 0);
  with(q4, floats(up, zeros), up + ": expected U8, found F32");

  const std::string groups = up + ".nested_absmax", state = up + ".quant_state.bitsandbytes__nf4";
  for (const std::string& name : {up, up + ".absmax", groups, up + ".quant_map", up + ".nested_quant_map", state})
    with(nf4, without(name), "expected a tensor " + name + " of shape [");
  with(nf4, shaped(up, {64, 128}), up + ": expected shape [8192, 1], found [64, 128]");
  with(nf4, shaped(up + ".absmax", {128}), up + ".absmax: expected shape [256], found [128]");
  with(nf4, floats(groups, {NAN}), groups + ": expected finite numbers, found 1 of 1 that are NaN or infinite");
  std::vector<float> levels(nf4_levels().begin(), nf4_levels().end());
  levels[3] += 1e-3f;
  with(nf4, floats(up + ".quant_map", levels), up + ".quant_map: expected -0.3949175 as level 3, found -0.3939175");
  const auto said = [&](const std::string& text, const std::string& part) {
    with(
        nf4,
        [&](auto& t) {
          named(t, state).data = reinterpret_cast<const std::byte*>(text.data()), named(t, state).shape = {static_cast<Index>(text.size())};
        },
        state + ": " + part);
  };
  const std::string good =
      R"({"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[256,64],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":0.1})";
  const auto changed = [&](const std::string& from, const std::string& to) {
    return std::string(good).replace(good.find(from), from.size(), to);
  };
  const std::string large = changed("0.1", "3e38");  // alone a number, with the group's maximum too large for one
  const std::vector<float> maximum = {3e38f};
  with(
      nf4,
      [&](auto& t) {
        named(t, groups).data = maximum.data();
        named(t, state).data = reinterpret_cast<const std::byte*>(large.data()), named(t, state).shape = {static_cast<Index>(large.size())};
      },
      up + ": expected finite scales, found ");
  said("what?", "expected a JSON object, found what?");
  said("", "expected a JSON object, found ");
  said(changed("\"nf4\"", "\"fp4\""), "quant_type: expected \"nf4\", found \"fp4\"");
  said(changed("\"blocksize\":64", "\"blocksize\":128"), "blocksize: expected 64, found 128");
  said(changed("[256,64]", "[64,256]"), "shape: expected [256,64], found [64,256]");
  said(changed("0.1", "1e39"), "nested_offset: expected a number from ");
  said(changed("0.1", "null"), "nested_offset: expected a number from ");
  said(changed(",\"nested_offset\":0.1", ""), "nested_offset: expected a number from ");

  // Cut short, another type than the file's, and words that are none.
  REQUIRE(save_model(m, quantize_decoder(drawn(small()), nf4), byte_tokenizer()));
  const std::string bytes = slurp(weights), config = slurp(m / "config.json");
  for (const std::size_t kept : {bytes.size() - 1, bytes.size() / 2, std::size_t(100), std::size_t(3)}) {
    spill(weights, bytes.substr(0, kept));
    error_of(weights.string() + ": expected ");
  }
  spill(weights, bytes);
  const auto configured = [&](const std::string& from, const std::string& to, const std::string& part) {
    REQUIRE(config.find(from) != std::string::npos);
    spill(m / "config.json", std::string(config).replace(config.find(from), from.size(), to));
    error_of(part);
  };
  configured("\"nf4\"", "\"q8_0\"", "blocks.0.attn.qkv.weight: expected shape [192, 68], found [6144, 1]");
  configured("\"nf4\"", "\"f32\"", "blocks.0.attn.qkv.weight: expected shape [192, 64], found [6144, 1]");
  configured("\"nf4\"", "\"q5\"", "config.json: quantization: linear: expected one of q8_0, q4_0, int4, nf4, f32, found \"q5\"");
  configured("\"nf4\"", "4", "config.json: quantization: linear: expected ");
  configured("{\n    \"linear\": \"nf4\",\n    \"embedding\": \"q8_0\"\n  }", "\"nf4\"",
             "config.json: quantization: expected an object, found \"nf4\"");
  configured("{\n    \"linear\": \"nf4\",\n    \"embedding\": \"q8_0\"\n  }", "null",
             "expected a tensor transformer.wte.weight of shape [256, 64], found none");
  REQUIRE(save_model(m, drawn(small()), byte_tokenizer()));
  const std::string gpt2 = slurp(m / "config.json");
  spill(m / "config.json", std::string(gpt2).replace(gpt2.find("{"), 1, R"({"quantization_config": {"quant_method": "bitsandbytes"},)"));
  error_of("config.json: quantization_config: expected none: only our own quantized directories are read");
}

TEST_CASE("what cannot be written or quantized is refused") {
  TemporaryDirectory dir;
  Decoder<float> decoder = drawn(small());
  // Two linear layers of different types have no word in config.json.
  QuantizedTensors mixed;
  for (const auto& [name, type] :
       {std::pair{"blocks.0.mlp.up.weight", QuantizedType::nf4}, {"blocks.1.mlp.up.weight", QuantizedType::q8_0}})
    mixed.emplace(name, std::make_shared<const QuantizedMatrix>(quantize(type, *decoder.arena.view(name))));
  CHECK_THROWS_AS((void)save_model(dir / "m", make_decoder<float>(decoder.config, mixed), byte_tokenizer()), std::invalid_argument);
  CHECK(!fs::exists(dir / "m"));
  CHECK_THROWS_AS((void)model_tensors(quantize_decoder(decoder, {}), Dtype::F32), std::invalid_argument);

  (*decoder.blocks[1].mlp.up.weight)(3, 4) = 1e30f;  // beyond a scale in fp16, not beyond NF4's
  REQUIRE(save_model(dir / "m", decoder, byte_tokenizer()));
  const auto loaded = load_model(dir / "m", {.quantize = QuantizeTypes::all(QuantizedType::q4_0)});
  REQUIRE(!loaded);
  CHECK(loaded.error().find("model.safetensors: blocks.1.mlp.up.weight: quantize: expected finite numbers of magnitude at most") !=
        std::string::npos);
  CHECK(load_model(dir / "m", {.quantize = QuantizeTypes::all(QuantizedType::nf4)}));
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
namespace {

// By how much a load raises the most that a process ever had in memory, in bytes. In a child, whose peak begins with what it has.
long peak_bytes(const fs::path& dir, const LoadOptions& options) {
  const auto peak_kb = [] {
    const std::string status = slurp("/proc/self/status");
    const auto at = status.find("VmHWM:");
    return at == std::string::npos ? -1 : std::atol(status.c_str() + at + 6);
  };
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const long before = peak_kb();
    const bool loaded = load_model(dir, options).has_value();
    const long grown = loaded && before >= 0 ? (peak_kb() - before) * 1024 : -1;
    const bool told = ::write(ends[1], &grown, sizeof grown) == sizeof grown;
    ::_exit(told ? 0 : 1);
  }
  long grown = -1;
  REQUIRE(::read(ends[0], &grown, sizeof grown) == sizeof grown);
  ::close(ends[0]), ::close(ends[1]);
  ::waitpid(child, nullptr, 0);
  return grown;
}

}  // namespace

TEST_CASE("quantizing while loading never holds the float model") {
  TemporaryDirectory dir;
  const ModelConfig config = small([](auto& c) { c.width = 512, c.layers = 5; });
  long size = 0, quantized = 0;
  {
    const Decoder<float> full = drawn(config);
    size = decoder_bytes(full);
    quantized = decoder_bytes(quantize_decoder(full, QuantizeTypes::all(QuantizedType::nf4)));
    REQUIRE(save_model(dir / "m", full, byte_tokenizer()));
  }
  CHECK(size > 60'000'000);
  CHECK(quantized < size / 7);
  const long as_floats = peak_bytes(dir / "m", {}), as_nf4 = peak_bytes(dir / "m", {.quantize = QuantizeTypes::all(QuantizedType::nf4)});
  CAPTURE(size);
  CAPTURE(as_floats);
  CAPTURE(as_nf4);
  CHECK(as_floats > size);             // the measurement sees the model,
  CHECK(as_floats < size + size / 4);  // and the file's pages are given back
  CHECK(as_nf4 > quantized);
  CHECK(as_nf4 < size / 2);
}
#endif
