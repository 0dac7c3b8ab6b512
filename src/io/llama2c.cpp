#include "io/llama2c.hpp"

#include <array>
#include <cstring>

#include "glassformer/io/safetensors.hpp"
#include "io/file.hpp"
#include "io/weights.hpp"

namespace glassformer::io {
namespace {

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

// Rows [begin, begin + rows) of the tensor `ours`, as they lie in the file.
struct Part {
  std::string ours;
  Index begin = 0, rows = 0, cols = 0;
  Index heads = 0;  // whose rows are interleaved: row i of a head's first half is row 2i of the file's, row i of its second half 2i+1
  std::span<const std::byte> bytes = {};

  void read(MatrixView<float> tensor) const {
    const Index head_dim = heads ? rows / heads : rows;
    const auto row_bytes = static_cast<std::size_t>(cols) * sizeof(float);
    for (Index row = 0; row < rows; ++row) {
      const Index r = row % head_dim, to = heads ? row - r + r % 2 * (head_dim / 2) + r / 2 : row;
      std::memcpy(tensor.data + (begin + to) * cols, bytes.data() + static_cast<std::size_t>(row) * row_bytes, row_bytes);
    }
    release_pages(bytes);
  }
};

// All of the file behind its header, in its order.
std::vector<Part> parts_of(std::span<const std::byte> bytes, const ModelConfig& c) {
  const Index C = c.width, F = c.hidden, D = c.head_dim, q = c.heads * D, kv = c.kv_heads * D;
  std::vector<Part> parts;
  const auto take = [&](Part part) {
    const auto size = static_cast<std::size_t>(part.rows * part.cols) * sizeof(float);
    part.bytes = bytes.first(size), bytes = bytes.subspan(size);
    parts.push_back(std::move(part));
  };
  const auto each = [&](const char* module, Index begin, Index rows, Index cols, Index heads = 0) {
    for (Index i = 0; i < c.layers; ++i) take({fmt::format("blocks.{}.{}.weight", i, module), begin, rows, cols, heads});
  };
  take({"embed.weight", 0, c.vocab, C});
  each("ln1", 0, 1, C);
  each("attn.qkv", 0, q, C, c.heads);
  each("attn.qkv", q, kv, C, c.kv_heads);
  each("attn.qkv", q + kv, kv, C);
  each("attn.out", 0, C, q);
  each("ln2", 0, 1, C);
  each("mlp.up", 0, F, C);  // w1, the gate
  each("mlp.down", 0, C, F);
  each("mlp.up", F, F, C);  // w3
  take({"ln_final.weight", 0, 1, C});
  take({"", 0, 2 * c.context, D / 2});  // cosines and sines, which we compute
  if (!c.tied) take({"unembed.weight", 0, c.vocab, C});
  return parts;
}

}  // namespace

Expected<Decoder<float>> read_llama2c(const std::filesystem::path& path, const LoadOptions& options) {
  const std::string name = path.string();
  const auto mapped = map_file(path);
  if (!mapped) return tl::unexpected(mapped.error());
  const auto config = read_header(name, mapped->bytes);
  if (!config) return tl::unexpected(config.error());
  const std::uint64_t size = 7 * sizeof(std::int32_t) + float_count(*config) * sizeof(float);
  if (mapped->bytes.size() != size) return unexpected("{}: expected {} bytes by its header, found {}", name, size, mapped->bytes.size());
  const std::vector<Part> parts = parts_of(mapped->bytes.subspan(7 * sizeof(std::int32_t)), *config);
  return fill_decoder(name, *config, options, [&](const TensorInfo& info, MatrixView<float> to) -> Expected<void> {
    for (const Part& part : parts) {
      if (part.ours == info.name) part.read(to);
    }
    const auto bad = info.size() - (*to).array().isFinite().count();
    if (bad)
      return unexpected("{}: {}: expected finite numbers, found {} of {} that are NaN or infinite", name, info.name, bad, info.size());
    return {};
  });
}

}  // namespace glassformer::io
