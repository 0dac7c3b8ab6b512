// Between a decoder's arena and the named tensors of a file.
#include "io/weights.hpp"

#include <algorithm>
#include <map>

#include "glassformer/io/model_directory.hpp"
#include "io/file.hpp"
#include "io/quantized_tensors.hpp"
#include "io/tensor_names.hpp"

namespace glassformer {

template <class S>
std::vector<NamedTensor> model_tensors(const Decoder<S>& decoder, Dtype dtype) {
  require(decoder.quantized.empty(), "model_tensors: expected a model in floating point, found a quantized one");
  std::vector<NamedTensor> tensors;
  for (const io::TensorName& t : io::tensor_names(decoder.config, model_family(decoder.config))) {
    const S* data = t.ours.empty() ? nullptr : decoder.arena.view(t.ours).data + t.row_begin * t.cols;
    tensors.push_back({t.theirs, dtype, t.shape(), data, t.transposed});
  }
  return tensors;
}

namespace io {
namespace {

using Entries = std::map<std::string, const TensorEntry*, std::less<>>;  // by canonical name

Expected<Entries> entries_by_name(const SafetensorsFile& file, ModelFamily family) {
  Entries entries;
  for (const TensorEntry& entry : file.tensors()) {
    const std::string name = canonical_name(entry.name, family);
    if (name.empty()) continue;
    if (!entries.emplace(name, &entry).second)
      return unexpected("{}: expected {} once, found it with and without its prefix", file.name(), printable(name));
  }
  return entries;
}

// Whether a tensor says nothing but zero.
bool all_zero(const SafetensorsFile& file, const TensorEntry& entry) {
  std::vector<double> values(static_cast<std::size_t>(entry.size()));
  if (!file.read<double>(entry, values)) return false;
  return std::all_of(values.begin(), values.end(), [](double x) { return x == 0; });
}

// `whole`: the tensor that t is a part of.
template <class S>
Expected<void> read_tensor(const SafetensorsFile& file, const TensorEntry& entry, const TensorName& t, MatrixView<S> whole) {
  if (t.ours.empty()) {
    if (!all_zero(file, entry))
      return unexpected("{}: {}: expected zeros (the model has no bias), found other numbers", file.name(), printable(entry.name));
    return {};
  }
  S* to = whole.data + t.row_begin * t.cols;
  const auto size = static_cast<std::size_t>(t.rows * t.cols);
  if (!t.transposed) return file.read<S>(entry, {to, size});
  Matrix<S> turned(t.cols, t.rows);
  if (auto read = file.read<S>(entry, {turned.data(), size}); !read) return read;
  *MatrixView<S>{to, t.rows, t.cols} = turned.transpose();
  return {};
}

// What a file must have for one line of the table.
std::vector<FileTensor> file_tensors(const TensorName& t, const ArenaLayout& layout, const std::optional<QuantizeTypes>& stored) {
  if (stored) {
    const TensorInfo& info = *layout.find(t.ours);
    if (const auto type = quantized_type(info, *stored)) return quantized_file_tensors(info, *type);
  }
  return {{t.theirs, t.shape()}};
}

Expected<void> expect_tensor(const SafetensorsFile& file, const FileTensor& wanted, Entries& entries) {
  const auto it = entries.find(wanted.name);
  if (it == entries.end())
    return unexpected("{}: expected a tensor {} of shape {}, found none", file.name(), wanted.name, shape_text(wanted.shape));
  const TensorEntry& entry = *it->second;
  const std::vector<Index> any = {entry.shape.empty() ? 0 : entry.shape.front()};
  if (auto right = file.expect(entry.name, wanted.shape.front() < 0 ? any : wanted.shape); !right) return tl::unexpected(right.error());
  entries.erase(it);
  return {};
}

}  // namespace

Expected<void> check_weights(const SafetensorsFile& file, const ModelConfig& config, ModelFamily family,
                             const std::optional<QuantizeTypes>& stored) {
  // A file has a tensor a layer at least: a configuration that claims more need not be laid out.
  if (config.layers > static_cast<Index>(file.tensors().size())) {
    return unexpected("{}: expected the tensors of {} layers, found {} tensors in all", file.name(), config.layers, file.tensors().size());
  }
  auto entries = entries_by_name(file, family);
  if (!entries) return tl::unexpected(entries.error());
  const auto layout = decoder_layout(config);
  for (const TensorName& t : tensor_names(config, family)) {
    for (const FileTensor& wanted : file_tensors(t, *layout, stored)) {
      if (auto right = expect_tensor(file, wanted, *entries); !right) return right;
    }
  }
  // Some tools store the tied head a second time; it must be the embedding then.
  if (const auto head = entries->find("lm_head.weight"); config.tied && head != entries->end()) {
    const char* embed = family == ModelFamily::gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight";
    const TensorEntry* other = nullptr;
    for (const TensorEntry& entry : file.tensors()) {
      if (canonical_name(entry.name, family) == embed) other = &entry;
    }
    if (other && std::ranges::equal(other->bytes, head->second->bytes) && other->dtype == head->second->dtype) entries->erase(head);
  }
  if (!entries->empty()) {
    const TensorEntry& extra = *entries->begin()->second;
    return unexpected("{}: expected only tensors of a {} model with this configuration, found {} of shape {}", file.name(),
                      family_name(family), printable(extra.name), shape_text(extra.shape));
  }
  return {};
}

void settle_biases(const SafetensorsFile& file, ModelConfig& config) {
  for (const TensorEntry& entry : file.tensors()) {
    const std::string name = canonical_name(entry.name, ModelFamily::gpt2);
    if (!name.ends_with(".bias")) continue;
    const bool norm = name.find(".ln_") != name.npos;
    bool& has = norm ? config.norm_bias : config.bias;
    if (!has && !all_zero(file, entry)) has = true;
  }
}

template <class S>
Expected<void> read_weights(const SafetensorsFile& file, ModelFamily family, Decoder<S>& decoder) {
  require(decoder.quantized.empty(), "read_weights: expected a model in floating point, found a quantized one");
  if (auto right = check_weights(file, decoder.config, family); !right) return right;
  const auto entries = entries_by_name(file, family);
  for (const TensorName& t : tensor_names(decoder.config, family)) {
    if (auto read = read_tensor(file, *entries->at(t.theirs), t, decoder.arena.view(t.ours)); !read) return read;
  }
  return {};
}

Expected<Decoder<float>> fill_decoder(const std::string& name, const ModelConfig& config, const LoadOptions& options,
                                      const ReadTensor& read, QuantizedTensors ready) {
  const auto layout = decoder_layout(config);
  for (const TensorInfo& info : layout->tensors()) {
    const auto type = options.quantize ? quantized_type(info, *options.quantize) : std::nullopt;
    if (!type || ready.contains(info.name)) continue;
    Matrix<float> numbers(info.rows, info.cols);
    if (auto done = read(info, {numbers.data(), info.rows, info.cols}); !done) return tl::unexpected(done.error());
    try {
      const auto& w =
          ready.emplace(info.name, std::make_shared<const QuantizedMatrix>(quantize(*type, numbers, options.exec))).first->second;
      if (options.quantized) options.quantized(info, numbers, *w);
    } catch (const std::invalid_argument& error) {  // a number beyond the format
      return unexpected("{}: {}: {}", name, info.name, error.what());
    }
  }
  Decoder<float> decoder = make_decoder<float>(config, std::move(ready));
  for (const TensorInfo& info : decoder.arena.layout().tensors()) {
    if (auto done = read(info, decoder.arena.view(info)); !done) return tl::unexpected(done.error());
  }
  return decoder;
}

Expected<Decoder<float>> read_decoder(const SafetensorsFile& file, const ModelConfig& config, ModelFamily family,
                                      const std::optional<QuantizeTypes>& stored, const LoadOptions& options) {
  if (auto right = check_weights(file, config, family, stored); !right) return tl::unexpected(right.error());
  QuantizedTensors ready;
  const auto layout = decoder_layout(config);
  for (const TensorInfo& info : layout->tensors()) {
    const auto type = stored ? quantized_type(info, *stored) : std::nullopt;
    if (!type) continue;
    auto w = read_quantized(file, info, *type);
    if (!w) return tl::unexpected(w.error());
    ready.emplace(info.name, std::make_shared<const QuantizedMatrix>(std::move(*w)));
  }
  const auto entries = entries_by_name(file, family);
  const std::vector<TensorName> names = tensor_names(config, family);
  const auto read = [&](std::string_view ours, MatrixView<float> to) -> Expected<void> {
    for (const TensorName& t : names) {
      if (t.ours != ours) continue;
      if (auto done = read_tensor(file, *entries->at(t.theirs), t, to); !done) return done;
    }
    return {};
  };
  if (auto zeros = read("", {}); !zeros) return tl::unexpected(zeros.error());  // biases that we do not have
  return fill_decoder(
      file.name(), config, options, [&](const TensorInfo& info, MatrixView<float> to) { return read(info.name, to); }, std::move(ready));
}

std::vector<NamedTensor> quantized_model_tensors(const Decoder<float>& decoder, Dtype dtype, std::deque<std::string>& texts) {
  std::vector<NamedTensor> tensors = arena_tensors(decoder.arena, dtype);
  for (const auto& [name, w] : decoder.quantized) add_quantized(name, *w, tensors, texts);
  return tensors;
}

template Expected<void> read_weights<float>(const SafetensorsFile&, ModelFamily, Decoder<float>&);
template Expected<void> read_weights<double>(const SafetensorsFile&, ModelFamily, Decoder<double>&);

}  // namespace io

template <class S>
Expected<void> read_into(Decoder<S>& decoder, const SafetensorsFile& file) {
  const auto family = io::family_of(file);
  if (!family) return tl::unexpected(family.error());
  if (*family != ModelFamily::glassformer && *family != model_family(decoder.config)) {
    return unexpected("{}: expected the weights of a {} model, found a {}'s", file.name(), family_name(model_family(decoder.config)),
                      family_name(*family));
  }
  return io::read_weights(file, *family, decoder);
}

template std::vector<NamedTensor> model_tensors<float>(const Decoder<float>&, Dtype);
template std::vector<NamedTensor> model_tensors<double>(const Decoder<double>&, Dtype);
template Expected<void> read_into<float>(Decoder<float>&, const SafetensorsFile&);
template Expected<void> read_into<double>(Decoder<double>&, const SafetensorsFile&);

}  // namespace glassformer
