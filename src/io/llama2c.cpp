#include "io/llama2c.hpp"

#include <array>
#include <cstring>

#include "glassformer/io/safetensors.hpp"
#include "io/file.hpp"

namespace glassformer::io {
namespace {

// The numbers of the file, taken from its beginning on.
struct Floats {
  const std::byte* at;
  void take(float* to, Index count) {
    std::memcpy(to, at, static_cast<std::size_t>(count) * sizeof(float));
    at += static_cast<std::size_t>(count) * sizeof(float);
  }
  void skip(Index count) { at += static_cast<std::size_t>(count) * sizeof(float); }
};

Expected<ModelConfig> read_header(const std::string& name, std::span<const std::byte> bytes) {
  std::array<std::int32_t, 7> h{};
  if (bytes.size() < sizeof h) return unexpected("{}: expected a llama2.c model, found {} bytes", name, bytes.size());
  std::memcpy(h.data(), bytes.data(), sizeof h);
  const auto [dim, hidden, layers, heads, kv_heads, vocab, context] = h;
  const auto within = [](std::int32_t x, std::int32_t most) { return x > 0 && x <= most; };
  if (!within(dim, 1 << 16) || !within(hidden, 1 << 18) || !within(layers, 1 << 10) || !within(heads, dim) || !within(kv_heads, heads) ||
      vocab == std::numeric_limits<std::int32_t>::min() || !within(std::abs(vocab), 1 << 24) || !within(context, 1 << 21)) {
    return unexpected(
        "{}: expected the header of a llama2.c model, found dim {}, hidden {}, layers {}, heads {}, kv_heads {}, vocabulary {}, context {}",
        name, dim, hidden, layers, heads, kv_heads, vocab, context);
  }
  ModelConfig c;
  c.vocab = std::abs(vocab), c.context = context, c.layers = layers, c.heads = heads, c.kv_heads = kv_heads, c.width = dim,
  c.hidden = hidden;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.tied = vocab > 0;
  c.norm_epsilon = 1e-5, c.bos = 1, c.eos = 2, c.prepend_bos = true;
  if (c.vocab < 3) return unexpected("{}: expected a vocabulary with a start and an end token, found {}", name, c.vocab);
  try {
    return resolved(c);
  } catch (const std::invalid_argument& error) {
    return unexpected("{}: {}", name, error.what());
  }
}

// The numbers that a file with this header holds. Every factor is bounded by read_header, so nothing overflows.
std::uint64_t float_count(const ModelConfig& c) {
  const auto C = static_cast<std::uint64_t>(c.width), F = static_cast<std::uint64_t>(c.hidden), L = static_cast<std::uint64_t>(c.layers);
  const auto V = static_cast<std::uint64_t>(c.vocab), D = static_cast<std::uint64_t>(c.head_dim),
             G = static_cast<std::uint64_t>(c.kv_heads);
  return V * C * (c.tied ? 1 : 2) + L * (2 * C + 2 * C * C + 2 * C * G * D + 3 * C * F) + C +
         static_cast<std::uint64_t>(c.context) * (D / 2) * 2;
}

// Row i of a head's first half is row 2i of the file's, row i of its second half 2i+1.
void take_heads(Floats& file, float* to, Index heads, Index head_dim, Index cols) {
  for (Index h = 0; h < heads; ++h) {
    for (Index row = 0; row < head_dim; ++row) file.take(to + (h * head_dim + row % 2 * (head_dim / 2) + row / 2) * cols, cols);
  }
}

void take_weights(Floats file, const ModelConfig& c, const Decoder<float>& d) {
  const Index C = c.width, F = c.hidden, D = c.head_dim, q = c.heads * D, kv = c.kv_heads * D;
  const auto each = [&](auto&& f) {
    for (const BlockParams<float>& block : d.blocks) f(block);
  };
  file.take(d.embed.weight.dense.data, d.embed.weight.size());
  each([&](const auto& b) { file.take(b.ln1.gain.data, C); });
  each([&](const auto& b) { take_heads(file, b.attention.qkv.weight.dense.data, c.heads, D, C); });
  each([&](const auto& b) { take_heads(file, b.attention.qkv.weight.dense.data + q * C, c.kv_heads, D, C); });
  each([&](const auto& b) { file.take(b.attention.qkv.weight.dense.data + (q + kv) * C, kv * C); });
  each([&](const auto& b) { file.take(b.attention.out.weight.dense.data, C * q); });
  each([&](const auto& b) { file.take(b.ln2.gain.data, C); });
  each([&](const auto& b) { file.take(b.mlp.up.weight.dense.data, F * C); });  // w1, the gate
  each([&](const auto& b) { file.take(b.mlp.down.weight.dense.data, C * F); });
  each([&](const auto& b) { file.take(b.mlp.up.weight.dense.data + F * C, F * C); });  // w3
  file.take(d.ln_final.gain.data, C);
  file.skip(c.context * (D / 2) * 2);
  if (!c.tied) file.take(d.unembed.weight.dense.data, d.unembed.weight.size());
}

}  // namespace

Expected<Decoder<float>> read_llama2c(const std::filesystem::path& path) {
  const std::string name = path.string();
  const auto mapped = map_file(path);
  if (!mapped) return tl::unexpected(mapped.error());
  const auto config = read_header(name, mapped->bytes);
  if (!config) return tl::unexpected(config.error());
  const std::uint64_t size = 7 * sizeof(std::int32_t) + float_count(*config) * sizeof(float);
  if (mapped->bytes.size() != size) return unexpected("{}: expected {} bytes by its header, found {}", name, size, mapped->bytes.size());
  Decoder<float> decoder = make_decoder<float>(*config);
  take_weights({mapped->bytes.data() + 7 * sizeof(std::int32_t)}, *config, decoder);
  for (const TensorInfo& info : decoder.arena.layout().tensors()) {
    const auto bad = info.size() - (*decoder.arena.view(info)).array().isFinite().count();
    if (bad)
      return unexpected("{}: {}: expected finite numbers, found {} of {} that are NaN or infinite", name, info.name, bad, info.size());
  }
  return decoder;
}

}  // namespace glassformer::io
