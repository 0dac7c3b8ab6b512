// A GGUF file is read back by hand, from the format's description alone.
#include "glassformer/io/gguf.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "glassformer/io/model_directory.hpp"
#include "temporary.hpp"

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

struct Tensor {
  std::vector<std::uint64_t> dims;  // innermost first
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
};

// All that the head says; the data begin at `data`.
struct File {
  std::string bytes;
  std::map<std::string, std::string> keys;  // value as text; of an array its elements joined by '|'
  std::map<std::string, Tensor> tensors;
  std::size_t at = 0, data = 0;

  template <class T>
  T number() {
    T value{};
    REQUIRE(at + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
  }
  std::string string() {
    const auto length = number<std::uint64_t>();
    REQUIRE(at + length <= bytes.size());
    at += length;
    return bytes.substr(at - length, length);
  }
  std::string value(std::uint32_t type) {
    if (type == 4) return std::to_string(number<std::uint32_t>());
    if (type == 5) return std::to_string(number<std::int32_t>());
    if (type == 6) return fmt::format("{:g}", number<float>());
    if (type == 7) return number<std::uint8_t>() ? "true" : "false";
    if (type == 8) return string();
    REQUIRE(type == 9);
    const auto element = number<std::uint32_t>();
    std::string all;
    for (auto n = number<std::uint64_t>(); n > 0; --n) all += value(element) + "|";
    return all;
  }

  explicit File(std::string text) : bytes(std::move(text)) {
    REQUIRE(bytes.substr(0, 4) == "GGUF");
    at = 4;
    REQUIRE(number<std::uint32_t>() == 3);
    const auto tensor_count = number<std::uint64_t>(), key_count = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < key_count; ++i) {
      const std::string key = string();
      keys[key] = value(number<std::uint32_t>());
    }
    std::uint64_t next = 0;
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
      const std::string name = string();
      Tensor& t = tensors[name];
      t.dims.resize(number<std::uint32_t>());
      std::uint64_t count = 1;
      for (auto& d : t.dims) count *= d = number<std::uint64_t>();
      t.type = number<std::uint32_t>();
      t.offset = number<std::uint64_t>();
      REQUIRE(t.offset == next);
      const std::uint64_t size = t.type == 0 ? count * 4 : t.type == 8 ? count / 32 * 34 : count / 32 * 18;
      next += (size + 31) / 32 * 32;
    }
    data = (at + 31) / 32 * 32;
    REQUIRE(data + next == bytes.size());
  }
  std::string row(const std::string& name, std::size_t row, std::size_t row_bytes) const {
    return bytes.substr(data + tensors.at(name).offset + row * row_bytes, row_bytes);
  }
  std::vector<float> floats(const std::string& name, std::size_t r, std::size_t cols) const {
    std::vector<float> out(cols);
    std::memcpy(out.data(), row(name, r, 4 * cols).data(), 4 * cols);
    return out;
  }
};

Decoder<float> small_llama(bool tied = true) {
  ModelConfig c;
  c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 32, c.head_dim = 8, c.hidden = 48, c.vocab = 300, c.context = 24;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.tied = tied;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  return m;
}

File written(const Decoder<float>& m, const Tokenizer& tokenizer) {
  TemporaryDirectory dir;
  const auto saved = save_gguf(dir / "m.gguf", m, tokenizer);
  REQUIRE_MESSAGE(saved, saved.error());
  return File(slurp(dir / "m.gguf"));
}

std::vector<float> row_of(MatrixView<float> m, Index row) { return {m.data + row * m.cols, m.data + (row + 1) * m.cols}; }

const Tokenizer& words() {
  static const Tokenizer t = train_bpe("the cat the cat the hat", {.vocab_size = 262});
  return t;
}

}  // namespace

TEST_CASE("the keys of a llama, and its tensors") {
  const File file = written(small_llama(), words());
  const auto& k = file.keys;
  CHECK(k.at("general.architecture") == "llama");
  CHECK(k.at("llama.context_length") == "24");
  CHECK(k.at("llama.embedding_length") == "32");
  CHECK(k.at("llama.block_count") == "2");
  CHECK(k.at("llama.feed_forward_length") == "48");
  CHECK(k.at("llama.attention.head_count") == "4");
  CHECK(k.at("llama.attention.head_count_kv") == "2");
  CHECK(k.at("llama.attention.layer_norm_rms_epsilon") == "1e-05");
  CHECK(k.at("llama.rope.dimension_count") == "8");
  CHECK(k.at("llama.rope.freq_base") == "10000");
  CHECK(file.tensors.size() == 2 + 2 * 9);
  CHECK(file.tensors.at("token_embd.weight").dims == std::vector<std::uint64_t>{32, 300});
  CHECK(file.tensors.at("blk.1.attn_k.weight").dims == std::vector<std::uint64_t>{32, 16});
  CHECK(file.tensors.at("blk.0.ffn_down.weight").dims == std::vector<std::uint64_t>{48, 32});
  CHECK(file.tensors.at("output_norm.weight").dims == std::vector<std::uint64_t>{32});
  CHECK_FALSE(file.tensors.contains("output.weight"));
  CHECK(written(small_llama(false), words()).tensors.at("output.weight").dims == std::vector<std::uint64_t>{32, 300});
}

TEST_CASE("rows of q and k are pairs, all others lie as they are") {
  const Decoder<float> m = small_llama();
  const File file = written(m, words());
  const MatrixView<float> qkv = m.arena.view("blocks.1.attn.qkv.weight"), up = m.arena.view("blocks.1.mlp.up.weight");
  // Head 2 of q begins at row 16, of k (1 of 2) at 32 + 8; D/2 = 4: pairs are rows (0, 4), (1, 5), (2, 6), (3, 7)
  const Index order[] = {0, 4, 1, 5, 2, 6, 3, 7};
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(file.floats("blk.1.attn_q.weight", 16 + i, 32) == row_of(qkv, 16 + order[i]));
    CHECK(file.floats("blk.1.attn_k.weight", 8 + i, 32) == row_of(qkv, 32 + 8 + order[i]));
    CHECK(file.floats("blk.1.attn_v.weight", 8 + i, 32) == row_of(qkv, 48 + 8 + static_cast<Index>(i)));
  }
  CHECK(file.floats("blk.1.ffn_gate.weight", 47, 32) == row_of(up, 47));
  CHECK(file.floats("blk.1.ffn_up.weight", 0, 32) == row_of(up, 48));
  CHECK(file.floats("blk.0.attn_norm.weight", 0, 32) == row_of(m.arena.view("blocks.0.ln1.weight"), 0));
}

TEST_CASE("quantized matrices are the same blocks; rows that are no whole blocks stay f32") {
  const Decoder<float> m = quantize_decoder(small_llama(), {QuantizedType::q4_0, QuantizedType::q8_0});
  const File file = written(m, words());
  CHECK(file.tensors.at("token_embd.weight").type == 8);
  CHECK(file.tensors.at("blk.0.attn_q.weight").type == 2);
  CHECK(file.tensors.at("blk.0.ffn_down.weight").type == 0);  // rows of 48
  CHECK(file.tensors.at("blk.0.ffn_norm.weight").type == 0);
  const auto blocks = [&](const char* name, std::size_t row, std::size_t row_bytes) {
    return std::string(reinterpret_cast<const char*>(m.quantized.at(name)->blocks.data()) + row * row_bytes, row_bytes);
  };
  CHECK(file.row("blk.1.attn_q.weight", 3, 18) == blocks("blocks.1.attn.qkv.weight", 5, 18));
  CHECK(file.row("blk.1.ffn_up.weight", 2, 18) == blocks("blocks.1.mlp.up.weight", 50, 18));
  CHECK(file.row("token_embd.weight", 299, 34) == blocks("embed.weight", 299, 34));
}

TEST_CASE("byte-level BPE: visible spellings, merges, unused ids up to the vocabulary") {
  const File file = written(small_llama(), words());
  CHECK(file.keys.at("tokenizer.ggml.model") == "gpt2");
  const std::string& tokens = file.keys.at("tokenizer.ggml.tokens");
  CHECK(tokens.starts_with("!|\"|#|"));
  CHECK(tokens.find(fmt::format("|<|endoftext|>|[PAD{}]|", words().vocab_size())) != std::string::npos);
  CHECK(tokens.ends_with("[PAD299]|"));
  CHECK(file.keys.at("tokenizer.ggml.merges").find("\u0120") != std::string::npos);  // a space is Ġ
  CHECK(file.keys.at("tokenizer.ggml.eos_token_id") == std::to_string(*words().eos()));
  CHECK(file.keys.at("tokenizer.ggml.token_type").find("1|3|5|5|") != std::string::npos);
}

TEST_CASE("stories260K: score-merge tokens as SentencePiece spells them") {
  const fs::path path = fs::path(GLASSFORMER_SHARED_DIR) / "data/stories260K";
  if (!fs::exists(path / "model.bin")) {
    MESSAGE("skipped: no " << path.string());
    return;
  }
  const auto model = load_model(path);
  REQUIRE_MESSAGE(model, model.error());
  const File file = written(model->decoder, model->tokenizer);
  CHECK(file.keys.at("tokenizer.ggml.model") == "llama");
  CHECK(file.keys.at("tokenizer.ggml.tokens").starts_with("<unk>|<s>|</s>|<0x00>|<0x01>|"));
  CHECK(file.keys.at("tokenizer.ggml.tokens").find("|\u2581t|") != std::string::npos);
  CHECK(file.keys.at("tokenizer.ggml.token_type").starts_with("2|3|3|6|6|"));
  CHECK(file.keys.at("tokenizer.ggml.bos_token_id") == "1");
  CHECK(file.keys.at("tokenizer.ggml.eos_token_id") == "2");
  CHECK(file.keys.at("tokenizer.ggml.add_bos_token") == "true");
  // llama2.c's own file has the pairs already: the same bytes come back
  const std::string original = slurp(path / "model.bin");
  const std::size_t wq = 28 + 4 * (512 * 64 + 5 * 64);  // header, embedding, five gains
  CHECK(file.row("blk.0.attn_q.weight", 0, 64 * 64 * 4) == original.substr(wq, 64 * 64 * 4));
  const std::size_t wk = wq + 4 * 5 * 64 * 64;
  CHECK(file.row("blk.0.attn_k.weight", 0, 32 * 64 * 4) == original.substr(wk, 32 * 64 * 4));
}

TEST_CASE("what llama.cpp's llama is not, is refused, and nothing is written") {
  TemporaryDirectory dir;
  const fs::path path = dir / "m.gguf";
  spill(path, "old");
  const auto error = [&](const Decoder<float>& m, const Tokenizer& t) {
    const auto saved = save_gguf(path, m, t);
    REQUIRE_FALSE(saved);
    CHECK(slurp(path) == "old");
    return saved.error();
  };
  const std::string name = path.string();
  ModelConfig c = small_llama().config;
  c.width = 64, c.head_dim = 16;
  CHECK(error(quantize_decoder(make_decoder<float>(c), {QuantizedType::q8_0, QuantizedType::nf4}), words()) ==
        name + ": expected matrices in f32, q8_0 or q4_0, found embed.weight in nf4");
  c = small_llama().config;
  c.rope_stretch = {RopeScaling::linear, 2, 0};
  CHECK(error(make_decoder<float>(c), words()) == name + ": expected RoPE that is not stretched, found a factor of 2");
  c = small_llama().config;
  c.position = Position::alibi;
  CHECK(error(make_decoder<float>(c), words()) == name + ": expected a model of the family llama, found glassformer");
  CHECK(error(small_llama(), byte_tokenizer()) ==
        name + ": expected a tokenizer of byte-level BPE or llama2.c's, found one of characters or bytes");
  c = small_llama().config;
  c.vocab = 256;
  CHECK(error(make_decoder<float>(c), train_bpe("a", {.vocab_size = 256, .special = {}})) ==
        name + ": expected a tokenizer with an end token, found none");
  CHECK(error(make_decoder<float>(c), words()).find("expected a tokenizer of 256 tokens") != std::string::npos);
}
