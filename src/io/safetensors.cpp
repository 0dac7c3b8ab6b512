#include "glassformer/io/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "glassformer/core/half.hpp"
#include "io/file.hpp"
#include "io/safetensors_header.hpp"

namespace glassformer {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and is read as it lies");

std::string_view dtype_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::F64:
      return "F64";
    case Dtype::F32:
      return "F32";
    case Dtype::F16:
      return "F16";
    case Dtype::BF16:
      return "BF16";
    case Dtype::I64:
      return "I64";
    case Dtype::I32:
      return "I32";
    case Dtype::U8:
      return "U8";
    case Dtype::I8:
      return "I8";
  }
  return "?";
}

std::size_t dtype_bytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::F64:
    case Dtype::I64:
      return 8;
    case Dtype::F32:
    case Dtype::I32:
      return 4;
    case Dtype::F16:
    case Dtype::BF16:
      return 2;
    case Dtype::U8:
    case Dtype::I8:
      return 1;
  }
  return 1;
}

std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + "]";
}

Index TensorEntry::size() const { return static_cast<Index>(bytes.size() / dtype_bytes(dtype)); }

Expected<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapped = io::map_file(path);
  if (!mapped) return tl::unexpected(mapped.error());
  auto file = parse(path.string(), mapped->bytes);
  if (file) file->mapping_ = mapped->owner;
  return file;
}

Expected<SafetensorsFile> SafetensorsFile::parse(std::string name, std::span<const std::byte> bytes) {
  constexpr std::uint64_t kLongestHeader = 100'000'000;
  std::uint64_t length = 0;
  if (bytes.size() < sizeof length) return unexpected("{}: expected a safetensors file, found {} bytes", name, bytes.size());
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kLongestHeader)
    return unexpected("{}: expected a safetensors header of at most {} bytes, found a length of {}", name, kLongestHeader, length);
  if (length > bytes.size() - sizeof length) {
    return unexpected("{}: expected a safetensors header of {} bytes, found {} (the file is cut)", name, length,
                      bytes.size() - sizeof length);
  }
  const auto data = bytes.subspan(sizeof length + length);
  auto header = io::parse_header({reinterpret_cast<const char*>(bytes.data()) + sizeof length, length});
  if (!header) return unexpected("{}: {}", name, header.error());
  const std::size_t end = header->entries.empty() ? 0 : header->entries.back().end;
  if (end != data.size()) {
    return unexpected("{}: expected {} bytes of tensors, found {}{}", name, end, data.size(),
                      data.size() < end ? " (the file is cut)" : "");
  }
  SafetensorsFile file;
  file.name_ = std::move(name);
  file.metadata_ = std::move(header->metadata);
  for (io::HeaderEntry& entry : header->entries) {
    file.index_[entry.name] = file.tensors_.size();
    file.tensors_.push_back(
        {std::move(entry.name), entry.dtype, std::move(entry.shape), data.subspan(entry.begin, entry.end - entry.begin)});
  }
  return file;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Expected<const TensorEntry*> SafetensorsFile::expect(std::string_view name, std::span<const Index> shape) const {
  const TensorEntry* entry = find(name);
  if (!entry) return unexpected("{}: expected a tensor {} of shape {}, found none", name_, name, shape_text(shape));
  if (!std::ranges::equal(entry->shape, shape)) {
    return unexpected("{}: {}: expected shape {}, found {}", name_, io::printable(name), shape_text(shape), shape_text(entry->shape));
  }
  return entry;
}

namespace {

constexpr std::size_t kReadAtOnce = std::size_t(1) << 16;  // numbers

// out[i] = convert(the i-th T among the bytes), which need not be aligned.
template <class T, class S, class F>
void convert_all(std::span<const std::byte> bytes, std::span<S> out, F convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<S>(convert(value));
  }
}

// Numbers with a point.
bool has_point(Dtype dtype) { return dtype == Dtype::F64 || dtype == Dtype::F32 || dtype == Dtype::F16 || dtype == Dtype::BF16; }

template <class S>
void convert_values(Dtype dtype, std::span<const std::byte> bytes, std::span<S> out) {
  const auto same = [](auto x) { return x; };
  if (dtype == Dtype::F64) convert_all<double>(bytes, out, same);
  if (dtype == Dtype::F32) convert_all<float>(bytes, out, same);
  if (dtype == Dtype::F16) convert_all<std::uint16_t>(bytes, out, f16_to_float);
  if (dtype == Dtype::BF16) convert_all<std::uint16_t>(bytes, out, bf16_to_float);
}

}  // namespace

template <class S>
Expected<void> SafetensorsFile::read(const TensorEntry& entry, std::span<S> out) const {
  require(static_cast<Index>(out.size()) == entry.size(), "SafetensorsFile::read: {} has {} values, the output {}", entry.name,
          entry.size(), out.size());
  if (!has_point(entry.dtype))
    return unexpected("{}: {}: expected F64, F32, F16 or BF16, found {}", name_, io::printable(entry.name), dtype_name(entry.dtype));
  const std::size_t size = dtype_bytes(entry.dtype);
  std::ptrdiff_t bad = 0;
  for (std::size_t begin = 0; begin < out.size(); begin += kReadAtOnce) {
    const std::span<S> part = out.subspan(begin, std::min(kReadAtOnce, out.size() - begin));
    const auto bytes = entry.bytes.subspan(begin * size, part.size() * size);
    convert_values(entry.dtype, bytes, part);
    bad += std::ranges::count_if(part, [](S x) { return !std::isfinite(x); });
    if (mapping_) io::release_pages(bytes);
  }
  if (bad) {
    return unexpected("{}: {}: expected finite numbers, found {} of {} that are NaN or infinite", name_, io::printable(entry.name), bad,
                      out.size());
  }
  return {};
}

Expected<void> SafetensorsFile::read_bytes(const TensorEntry& entry, std::span<std::byte> out) const {
  if (entry.dtype != Dtype::U8)
    return unexpected("{}: {}: expected U8, found {}", name_, io::printable(entry.name), dtype_name(entry.dtype));
  require(out.size() == entry.bytes.size(), "SafetensorsFile::read_bytes: {} has {} bytes, the output {}", entry.name, entry.bytes.size(),
          out.size());
  std::ranges::copy(entry.bytes, out.begin());
  if (mapping_) io::release_pages(entry.bytes);
  return {};
}

namespace {

Index value_count(const NamedTensor& tensor) {
  Index count = 1;
  for (const Index n : tensor.shape) {
    require(n >= 0, "write_safetensors: {}: expected a shape, found {}", tensor.name, shape_text(tensor.shape));
    count *= n;
  }
  return count;
}

// Appends values in the tensor's type; false when a finite one does not fit.
template <class S>
bool append(Dtype dtype, std::span<const S> values, std::vector<std::byte>& out) {
  bool fits = true;
  const std::size_t size = dtype_bytes(dtype), start = out.size();
  out.resize(start + values.size() * size);
  std::byte* to = out.data() + start;
  for (std::size_t i = 0; i < values.size(); ++i, to += size) {
    const auto x = static_cast<float>(values[i]);
    float stored = x;
    if (dtype == Dtype::F64) {
      const auto value = static_cast<double>(values[i]);
      std::memcpy(to, &value, size);
      continue;
    }
    if (dtype == Dtype::F32) {
      std::memcpy(to, &x, size);
    } else {
      const std::uint16_t half = dtype == Dtype::F16 ? f16_from_float(x) : bf16_from_float(x);
      std::memcpy(to, &half, size);
      stored = dtype == Dtype::F16 ? f16_to_float(half) : bf16_to_float(half);
    }
    fits = fits && (std::isfinite(stored) || !std::isfinite(values[i]));
  }
  return fits;
}

constexpr Index kChunk = 1 << 16;  // values converted at a time

// Values [begin, end) of the tensor in the file's order, in the type that they have in memory.
template <class S>
void gather(const NamedTensor& tensor, const S* data, Index begin, Index end, std::vector<S>& out) {
  out.assign(static_cast<std::size_t>(end - begin), S(0));
  if (!data) return;
  if (!tensor.transposed) {
    std::copy(data + begin, data + end, out.begin());
    return;
  }
  const Index rows = tensor.shape[0], cols = tensor.shape[1];  // whole rows: (r, c) lies at c·rows + r
  for (Index c = 0; c < cols; ++c) {
    for (Index r = begin / cols; r < end / cols; ++r) out[static_cast<std::size_t>((r * cols + c) - begin)] = data[c * rows + r];
  }
}

template <class S>
Expected<void> write_numbers(io::OutputFile& file, const std::string& path, const NamedTensor& tensor, const S* data) {
  const Index count = value_count(tensor), cols = tensor.transposed ? std::max<Index>(tensor.shape[1], 1) : 1;
  const Index step = std::max<Index>(kChunk / cols, 1) * cols;
  std::vector<S> values;
  std::vector<std::byte> bytes;
  for (Index begin = 0; begin < count; begin += step) {
    gather(tensor, data, begin, std::min(count, begin + step), values);
    bytes.clear();
    if (!append<S>(tensor.dtype, values, bytes)) {
      return unexpected("{}: {}: expected numbers that {} can hold, found a larger one", path, tensor.name, dtype_name(tensor.dtype));
    }
    if (auto written = file.write(bytes); !written) return written;
  }
  return {};
}

Expected<void> write_tensor(io::OutputFile& file, const std::string& path, const NamedTensor& tensor) {
  if (const auto* raw = std::get_if<const std::byte*>(&tensor.data)) {
    return file.write({*raw, static_cast<std::size_t>(value_count(tensor)) * dtype_bytes(tensor.dtype)});
  }
  if (const auto* doubles = std::get_if<const double*>(&tensor.data)) return write_numbers(file, path, tensor, *doubles);
  return write_numbers(file, path, tensor, std::get<const float*>(tensor.data));
}

void check(std::span<const NamedTensor> tensors) {
  std::set<std::string_view> names;
  for (const NamedTensor& tensor : tensors) {
    require(names.insert(tensor.name).second, "write_safetensors: the name {} is there twice", tensor.name);
    require(tensor.name != "__metadata__", "write_safetensors: a tensor cannot be named __metadata__");
    const auto* raw = std::get_if<const std::byte*>(&tensor.data);
    require(raw || has_point(tensor.dtype), "write_safetensors: {}: numbers with a point cannot be written as {}", tensor.name,
            dtype_name(tensor.dtype));
    require(!raw || *raw || value_count(tensor) == 0, "write_safetensors: {}: expected bytes, found none", tensor.name);
    require(!tensor.transposed || (!raw && tensor.shape.size() == 2), "write_safetensors: {}: only a matrix of numbers can be transposed",
            tensor.name);
  }
}

}  // namespace

Expected<void> write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors, const Metadata& metadata) {
  check(tensors);
  // Wide types first: every tensor is then aligned, as other readers of the format like it.
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::greater<>(), [](const NamedTensor* t) { return dtype_bytes(t->dtype); });
  io::Header header{{}, metadata};
  std::size_t end = 0;
  for (const NamedTensor* tensor : order) {
    const std::size_t begin = end;
    end += static_cast<std::size_t>(value_count(*tensor)) * dtype_bytes(tensor->dtype);
    header.entries.push_back({tensor->name, tensor->dtype, tensor->shape, begin, end});
  }
  const std::string json = io::header_json(header);
  const std::uint64_t length = json.size();
  auto file = io::OutputFile::create(path);
  if (!file) return tl::unexpected(file.error());
  if (auto written = file->write(std::as_bytes(std::span(&length, 1))); !written) return written;
  if (auto written = file->write(std::as_bytes(std::span(json))); !written) return written;
  for (const NamedTensor* tensor : order) {
    if (auto written = write_tensor(*file, path.string(), *tensor); !written) return written;
  }
  return file->close();
}

namespace {
std::vector<Index> file_shape(const TensorInfo& info) {
  return info.kind == ParameterKind::vector ? std::vector<Index>{info.cols} : std::vector<Index>{info.rows, info.cols};
}
}  // namespace

template <class S>
std::vector<NamedTensor> arena_tensors(const Arena<S>& arena, Dtype dtype, std::string_view prefix) {
  std::vector<NamedTensor> tensors;
  for (const TensorInfo& info : arena.layout().tensors()) {
    tensors.push_back({std::string(prefix) + info.name, dtype, file_shape(info), static_cast<const S*>(arena.view(info).data), false});
  }
  return tensors;
}

template <class S>
Expected<void> read_arena(const SafetensorsFile& file, std::string_view prefix, Arena<S>& arena) {
  for (const TensorInfo& info : arena.layout().tensors()) {
    const auto entry = file.expect(std::string(prefix) + info.name, file_shape(info));
    if (!entry) return tl::unexpected(entry.error());
    const std::span<S> out{arena.view(info).data, static_cast<std::size_t>(info.size())};
    if (auto read = file.read<S>(**entry, out); !read) return read;
  }
  return {};
}

template Expected<void> SafetensorsFile::read<float>(const TensorEntry&, std::span<float>) const;
template Expected<void> SafetensorsFile::read<double>(const TensorEntry&, std::span<double>) const;
template std::vector<NamedTensor> arena_tensors<float>(const Arena<float>&, Dtype, std::string_view);
template std::vector<NamedTensor> arena_tensors<double>(const Arena<double>&, Dtype, std::string_view);
template Expected<void> read_arena<float>(const SafetensorsFile&, std::string_view, Arena<float>&);
template Expected<void> read_arena<double>(const SafetensorsFile&, std::string_view, Arena<double>&);

}  // namespace glassformer
