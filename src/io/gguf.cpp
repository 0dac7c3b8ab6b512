// Legend: D head width, I inputs of a matrix.
#include "glassformer/io/gguf.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/io/save.hpp"
#include "glassformer/tokenizer/utf8.hpp"
#include "io/file.hpp"
#include "io/tensor_names.hpp"

namespace glassformer {
namespace {

namespace fs = std::filesystem;
static_assert(std::endian::native == std::endian::little, "the format is little-endian and is written as it lies");

constexpr std::size_t kAlignment = 32;
std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

enum class ValueType : std::uint32_t { u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9 };
enum class TensorType : std::uint32_t { f32 = 0, q4_0 = 2, q8_0 = 8 };
enum class TokenType : std::int32_t { normal = 1, unknown = 2, control = 3, unused = 5, byte = 6 };

// Bytes of the file's head, number by number.
class Bytes {
 public:
  template <class T>
  void number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(std::string_view s) { number<std::uint64_t>(s.size()), text_ += s; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Keys and their values, and how many.
class Keys {
 public:
  void add(std::string_view key, std::uint32_t value) { begin(key, ValueType::u32), bytes_.number(value); }
  void add(std::string_view key, Index value) { add(key, static_cast<std::uint32_t>(value)); }
  void add(std::string_view key, float value) { begin(key, ValueType::f32), bytes_.number(value); }
  void add(std::string_view key, bool value) { begin(key, ValueType::boolean), bytes_.number<std::uint8_t>(value); }
  void add(std::string_view key, std::string_view value) { begin(key, ValueType::string), bytes_.string(value); }
  void add(std::string_view key, const std::vector<std::string>& values) {
    begin_array(key, ValueType::string, values.size());
    for (const std::string& value : values) bytes_.string(value);
  }
  void add(std::string_view key, const std::vector<float>& values) {
    begin_array(key, ValueType::f32, values.size());
    for (const float value : values) bytes_.number(value);
  }
  void add(std::string_view key, const std::vector<TokenType>& values) {
    begin_array(key, ValueType::i32, values.size());
    for (const TokenType value : values) bytes_.number(value);
  }
  std::uint64_t count() const { return count_; }
  const std::string& text() const { return bytes_.text(); }

 private:
  void begin(std::string_view key, ValueType type) { ++count_, bytes_.string(key), bytes_.number(type); }
  void begin_array(std::string_view key, ValueType type, std::size_t size) {
    begin(key, ValueType::array), bytes_.number(type), bytes_.number<std::uint64_t>(size);
  }
  Bytes bytes_;
  std::uint64_t count_ = 0;
};

// Rows of a matrix of ours that become one tensor.
struct Tensor {
  std::string name;
  TensorType type = TensorType::f32;
  Index rows = 0, cols = 0;
  bool vector = false;
  const std::byte* data = nullptr;
  std::size_t row_bytes = 0;
  Index interleaved = 0;  // D of the heads whose rows are put into pairs; 0: as they lie
  std::size_t bytes() const { return static_cast<std::size_t>(rows) * row_bytes; }

  // Row `row` of the file: of a head, pair i is our rows i and i + D/2.
  const std::byte* row(Index row) const {
    if (interleaved > 0) {
      const Index r = row % interleaved;
      row += r % 2 * (interleaved / 2) + r / 2 - r;
    }
    return data + static_cast<std::size_t>(row) * row_bytes;
  }
};

// "model.layers.3.self_attn.q_proj.weight" is "blk.3.attn_q.weight".
std::string gguf_name(std::string_view theirs) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kNames = {{{"model.embed_tokens.", "token_embd."},
                                                                                            {"model.norm.", "output_norm."},
                                                                                            {"lm_head.", "output."},
                                                                                            {"input_layernorm.", "attn_norm."},
                                                                                            {"self_attn.q_proj.", "attn_q."},
                                                                                            {"self_attn.k_proj.", "attn_k."},
                                                                                            {"self_attn.v_proj.", "attn_v."},
                                                                                            {"self_attn.o_proj.", "attn_output."},
                                                                                            {"post_attention_layernorm.", "ffn_norm."},
                                                                                            {"mlp.gate_proj.", "ffn_gate."},
                                                                                            {"mlp.up_proj.", "ffn_up."},
                                                                                            {"mlp.down_proj.", "ffn_down."}}};
  constexpr std::string_view kLayers = "model.layers.";
  std::string prefix;
  if (theirs.starts_with(kLayers)) {
    theirs.remove_prefix(kLayers.size());
    prefix = fmt::format("blk.{}.", theirs.substr(0, theirs.find('.')));
    theirs.remove_prefix(theirs.find('.') + 1);
  }
  for (const auto& [hugging_face, gguf] : kNames) {
    if (theirs.starts_with(hugging_face)) return fmt::format("{}{}{}", prefix, gguf, theirs.substr(hugging_face.size()));
  }
  throw std::logic_error(fmt::format("gguf: a tensor without a name: {}", theirs));
}

std::vector<Tensor> tensors_of(const Decoder<float>& m) {
  std::vector<Tensor> tensors;
  for (const io::TensorName& line : io::tensor_names(m.config, ModelFamily::llama)) {
    Tensor t{.name = gguf_name(line.theirs), .rows = line.rows, .cols = line.cols, .vector = line.vector};
    if (const auto q = m.quantized.find(line.ours); q != m.quantized.end()) {
      t.type = q->second->type == QuantizedType::q8_0 ? TensorType::q8_0 : TensorType::q4_0;
      t.row_bytes = q->second->blocks.size() / static_cast<std::size_t>(q->second->rows);
      t.data = q->second->blocks.data();
    } else {
      t.row_bytes = static_cast<std::size_t>(line.cols) * sizeof(float);
      t.data = reinterpret_cast<const std::byte*>(m.arena.view(line.ours).data);
    }
    t.data += static_cast<std::size_t>(line.row_begin) * t.row_bytes;
    if (t.name.ends_with("attn_q.weight") || t.name.ends_with("attn_k.weight")) t.interleaved = m.config.head_dim;
    tensors.push_back(std::move(t));
  }
  return tensors;
}

std::string replaced(std::string text, char what, std::string_view by) {
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + by.size())) text.replace(at, 1, by);
  return text;
}

// Ids of llama2.c's tokenizer: <unk>, start, end, the 256 bytes, and then text.
constexpr Token kFirstByte = 3, kFirstText = kFirstByte + 256;

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<TokenType> types;
  std::vector<float> scores;        // "llama"
  std::vector<std::string> merges;  // "gpt2"
  std::optional<Token> bos, eos;
};

Vocabulary vocabulary_of(const Tokenizer& tokenizer, const ModelConfig& config) {
  Vocabulary v;
  const bool score = tokenizer.kind() == TokenizerKind::score;
  const auto spelling = [&](Token id) -> std::string {
    const std::string bytes(tokenizer.token_bytes(id));
    if (!score) return tokenizer.is_special(id) ? bytes : tokenizer::bytes_to_visible(bytes);
    if (id < kFirstByte) return std::array{"<unk>", "<s>", "</s>"}[static_cast<std::size_t>(id)];
    return id < kFirstText ? fmt::format("<0x{:02X}>", id - kFirstByte) : replaced(bytes, ' ', "\u2581");
  };
  for (Token id = 0; id < static_cast<Token>(tokenizer.vocab_size()); ++id) {
    v.tokens.push_back(spelling(id));
    const bool is_byte = score && id >= kFirstByte && id < kFirstText, is_unknown = score && id == 0;
    v.types.push_back(is_unknown                 ? TokenType::unknown
                      : tokenizer.is_special(id) ? TokenType::control
                      : is_byte                  ? TokenType::byte
                                                 : TokenType::normal);
  }
  for (const auto& [left, right] : tokenizer.merges()) v.merges.push_back(fmt::format("{} {}", spelling(left), spelling(right)));
  v.scores = tokenizer.scores();
  v.bos = config.bos >= 0 ? std::optional(config.bos) : tokenizer.bos();
  v.eos = config.eos >= 0 ? std::optional(config.eos) : tokenizer.eos();
  while (static_cast<Index>(v.tokens.size()) < config.vocab) {
    if (!v.eos) v.eos = static_cast<Token>(v.tokens.size());
    v.tokens.push_back(fmt::format("[PAD{}]", v.tokens.size()));
    v.types.push_back(TokenType::unused);
    if (score) v.scores.push_back(-1e4F);
  }
  if (!v.bos) v.bos = v.eos;
  return v;
}

Keys keys_of(const Decoder<float>& m, const Tokenizer& tokenizer, const Vocabulary& v) {
  const ModelConfig& c = m.config;
  Keys keys;
  keys.add("general.architecture", std::string_view("llama"));
  keys.add("general.name", std::string_view("glassformer"));
  keys.add("general.alignment", static_cast<std::uint32_t>(kAlignment));
  keys.add("llama.context_length", c.context);
  keys.add("llama.embedding_length", c.width);
  keys.add("llama.block_count", c.layers);
  keys.add("llama.feed_forward_length", c.hidden);
  keys.add("llama.attention.head_count", c.heads);
  keys.add("llama.attention.head_count_kv", c.kv_heads);
  keys.add("llama.attention.key_length", c.head_dim);
  keys.add("llama.attention.value_length", c.head_dim);
  keys.add("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_epsilon));
  keys.add("llama.rope.dimension_count", c.head_dim);
  keys.add("llama.rope.freq_base", static_cast<float>(c.rope_base));
  keys.add("llama.vocab_size", c.vocab);
  const bool score = tokenizer.kind() == TokenizerKind::score;
  keys.add("tokenizer.ggml.model", std::string_view(score ? "llama" : "gpt2"));
  keys.add("tokenizer.ggml.tokens", v.tokens);
  keys.add("tokenizer.ggml.token_type", v.types);
  if (score) {
    keys.add("tokenizer.ggml.scores", v.scores);
    keys.add("tokenizer.ggml.unknown_token_id", std::uint32_t{0});
  } else {
    keys.add("tokenizer.ggml.pre", std::string_view("gpt-2"));
    keys.add("tokenizer.ggml.merges", v.merges);
  }
  keys.add("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(*v.bos));
  keys.add("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(*v.eos));
  keys.add("tokenizer.ggml.add_bos_token", c.prepend_bos);
  return keys;
}

std::string head_of(const Keys& keys, const std::vector<Tensor>& tensors) {
  Bytes head;
  for (const char letter : std::string_view("GGUF")) head.number(letter);
  head.number<std::uint32_t>(3);
  head.number<std::uint64_t>(tensors.size());
  head.number(keys.count());
  Bytes infos;
  std::size_t offset = 0;
  for (const Tensor& t : tensors) {
    infos.string(t.name);
    infos.number<std::uint32_t>(t.vector ? 1 : 2);
    infos.number<std::uint64_t>(static_cast<std::uint64_t>(t.cols));  // innermost first
    if (!t.vector) infos.number<std::uint64_t>(static_cast<std::uint64_t>(t.rows));
    infos.number(t.type);
    infos.number<std::uint64_t>(offset);
    offset += aligned(t.bytes());
  }
  std::string text = head.text() + keys.text() + infos.text();
  text.resize(aligned(text.size()), '\0');
  return text;
}

Expected<void> write_tensor(io::OutputFile& out, const Tensor& t) {
  constexpr std::size_t kAtOnce = std::size_t{1} << 20;
  std::vector<std::byte> buffer;
  for (Index row = 0; row < t.rows; ++row) {
    const std::byte* bytes = t.row(row);
    buffer.insert(buffer.end(), bytes, bytes + t.row_bytes);
    if (row + 1 == t.rows) buffer.resize(buffer.size() + aligned(t.bytes()) - t.bytes());
    if (row + 1 < t.rows && buffer.size() < kAtOnce) continue;
    if (auto done = out.write(buffer); !done) return done;
    buffer.clear();
  }
  return {};
}

// What keeps this model from being a llama.cpp llama; nothing when it is one.
std::string obstacle(const Decoder<float>& m, const Tokenizer& tokenizer) {
  const ModelConfig& c = m.config;
  if (model_family(c) != ModelFamily::llama)
    return fmt::format("expected a model of the family llama, found {}", family_name(model_family(c)));
  if (c.rope_stretch.factor != 1) return fmt::format("expected RoPE that is not stretched, found a factor of {:g}", c.rope_stretch.factor);
  if (m.adapters > 0 || m.prompt) return "expected a model without adapters, found some attached: merge them first";
  for (const auto& [name, q] : m.quantized) {
    if (q->type != QuantizedType::q8_0 && q->type != QuantizedType::q4_0)
      return fmt::format("expected matrices in f32, q8_0 or q4_0, found {} in {}", name, quantized_name(q->type));
  }
  if (tokenizer.kind() != TokenizerKind::score && tokenizer.kind() != TokenizerKind::bpe)
    return "expected a tokenizer of byte-level BPE or llama2.c's, found one of characters or bytes";
  if (tokenizer.vocab_size() == c.vocab && !tokenizer.eos() && c.eos < 0) return "expected a tokenizer with an end token, found none";
  return "";
}

}  // namespace

Expected<void> save_gguf(const fs::path& file, const Decoder<float>& decoder, const Tokenizer& tokenizer) {
  if (const std::string why = obstacle(decoder, tokenizer); !why.empty()) return unexpected("{}: {}", file.string(), why);
  if (auto fits = check_tokenizer(file.string(), tokenizer, decoder.config); !fits) return fits;
  const std::vector<Tensor> tensors = tensors_of(decoder);
  const std::string head = head_of(keys_of(decoder, tokenizer, vocabulary_of(tokenizer, decoder.config)), tensors);
  return save_file(file, [&](const fs::path& path) -> Expected<void> {
    auto out = io::OutputFile::create(path);
    if (!out) return tl::unexpected(out.error());
    if (auto done = out->write(std::as_bytes(std::span(head))); !done) return done;
    for (const Tensor& t : tensors) {
      if (auto done = write_tensor(*out, t); !done) return done;
    }
    return out->close();
  });
}

}  // namespace glassformer
