#include "io/quantized_tensors.hpp"

#include <cmath>

#include "glassformer/quantize/block.hpp"
#include "io/file.hpp"
#include "io/json_fields.hpp"

namespace glassformer::io {
namespace {

using Json = JsonFields::Json;

constexpr Index kGroup = 256;  // absmax that share a float
constexpr const char *kAbsmax = ".absmax", *kGroups = ".nested_absmax", *kLevels = ".quant_map", *kDynamic = ".nested_quant_map",
                     *kState = ".quant_state.bitsandbytes__nf4";

Index absmax_count(const TensorInfo& info) { return info.size() / block_length(QuantizedType::nf4); }

// What bitsandbytes says of a matrix beside its tensors.
Json nf4_state(Index rows, Index cols, float offset) {
  Json json;
  json["quant_type"] = "nf4", json["blocksize"] = block_length(QuantizedType::nf4), json["dtype"] = "float32", json["shape"] = {rows, cols};
  json["nested_blocksize"] = kGroup, json["nested_dtype"] = "float32", json["nested_offset"] = offset;
  return json;
}

// Reads the offset; the other fields must be as we would write them, but for the type that bitsandbytes would turn the numbers to.
Expected<float> read_nf4_state(const SafetensorsFile& file, const TensorInfo& info) {
  const TensorEntry& entry = *file.find(info.name + kState);
  std::string text(entry.bytes.size(), '\0');
  if (auto read = file.read_bytes(entry, std::as_writable_bytes(std::span(text))); !read) return tl::unexpected(read.error());
  const std::string name = fmt::format("{}: {}", file.name(), entry.name);
  const Json found = Json::parse(text, nullptr, false);
  if (!found.is_object()) return unexpected("{}: expected a JSON object, found {}", name, printable(text));
  JsonFields fields(name, found);
  const Json ours = nf4_state(info.rows, info.cols, 0);
  for (const auto& [field, value] : ours.items()) {
    if (field != "dtype" && field != "nested_offset") fields.exactly(field.c_str(), value);
  }
  const double most = std::numeric_limits<float>::max();
  const double offset = fields.number("nested_offset", -most, most);
  if (!fields.error().empty()) return tl::unexpected(fields.error());
  return static_cast<float>(offset);
}

// Levels that the file spells out must be those that we compute with.
template <std::size_t N>
Expected<void> expect_levels(const SafetensorsFile& file, const std::string& name, const std::array<float, N>& levels) {
  std::array<float, N> found;
  if (auto read = file.read<float>(*file.find(name), found); !read) return read;
  for (std::size_t i = 0; i < N; ++i) {
    if (std::abs(found[i] - levels[i]) > 1e-6f)
      return unexpected("{}: {}: expected {} as level {}, found {}", file.name(), name, levels[i], i, found[i]);
  }
  return {};
}

// The scale of every block, which none of the file's numbers may have spoilt.
Expected<void> expect_finite_scales(const SafetensorsFile& file, const std::string& name, const QuantizedMatrix& w) {
  const Index blocks = w.rows * w.cols / block_length(w.type);
  const Index bad = with_block_format(w.type, [&](auto format) {
    Index count = 0;
    for (Index j = 0; j < blocks; ++j) count += !std::isfinite(format.scale(w, j));
    return count;
  });
  if (bad)
    return unexpected("{}: {}: expected finite scales, found {} of {} blocks with one that is NaN or infinite", file.name(), name, bad,
                      blocks);
  return {};
}

Expected<void> read_nf4(const SafetensorsFile& file, const TensorInfo& info, QuantizedMatrix& w) {
  const auto blocks = static_cast<std::size_t>(absmax_count(info));
  w.absmax.resize(blocks);
  w.group_maximum.resize((blocks + kGroup - 1) / kGroup);
  if (auto read = file.read_bytes(*file.find(info.name + kAbsmax), std::as_writable_bytes(std::span(w.absmax))); !read) return read;
  if (auto read = file.read<float>(*file.find(info.name + kGroups), w.group_maximum); !read) return read;
  if (auto right = expect_levels(file, info.name + kLevels, nf4_levels()); !right) return right;
  if (auto right = expect_levels(file, info.name + kDynamic, dynamic_levels()); !right) return right;
  const auto offset = read_nf4_state(file, info);
  if (!offset) return tl::unexpected(offset.error());
  w.offset = *offset;
  return {};
}

}  // namespace

std::vector<FileTensor> quantized_file_tensors(const TensorInfo& info, QuantizedType type) {
  if (type != QuantizedType::nf4) return {{info.name, {info.rows, info.cols / block_length(type) * block_bytes(type)}}};
  const Index blocks = absmax_count(info);
  return {{info.name, {info.size() / 2, 1}}, {info.name + kAbsmax, {blocks}}, {info.name + kGroups, {(blocks + kGroup - 1) / kGroup}},
          {info.name + kLevels, {16}},       {info.name + kDynamic, {256}},   {info.name + kState, {-1}}};
}

Expected<QuantizedMatrix> read_quantized(const SafetensorsFile& file, const TensorInfo& info, QuantizedType type) {
  QuantizedMatrix w{.type = type, .rows = info.rows, .cols = info.cols};
  w.blocks.resize(static_cast<std::size_t>(info.size() / block_length(type) * block_bytes(type)));
  if (auto read = file.read_bytes(*file.find(info.name), w.blocks); !read) return tl::unexpected(read.error());
  if (type == QuantizedType::nf4) {
    if (auto read = read_nf4(file, info, w); !read) return tl::unexpected(read.error());
  }
  if (auto right = expect_finite_scales(file, info.name, w); !right) return tl::unexpected(right.error());
  return w;
}

void add_quantized(const std::string& name, const QuantizedMatrix& w, std::vector<NamedTensor>& tensors, std::deque<std::string>& texts) {
  const auto shapes = quantized_file_tensors({name, w.rows, w.cols}, w.type);
  const auto add_bytes = [&](std::size_t i, const std::byte* bytes) {
    tensors.push_back({shapes[i].name, Dtype::U8, shapes[i].shape, bytes});
  };
  const auto add_floats = [&](std::size_t i, const float* numbers) {
    tensors.push_back({shapes[i].name, Dtype::F32, shapes[i].shape, numbers});
  };
  add_bytes(0, w.blocks.data());
  if (w.type != QuantizedType::nf4) return;
  const std::string& state = texts.emplace_back(nf4_state(w.rows, w.cols, w.offset).dump());
  add_bytes(1, reinterpret_cast<const std::byte*>(w.absmax.data()));
  add_floats(2, w.group_maximum.data());
  add_floats(3, nf4_levels().data());
  add_floats(4, dynamic_levels().data());
  tensors.push_back({shapes[5].name, Dtype::U8, {static_cast<Index>(state.size())}, reinterpret_cast<const std::byte*>(state.data())});
}

}  // namespace glassformer::io
