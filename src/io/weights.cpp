// Between a decoder's arena and the named tensors of a file.
#include "io/weights.hpp"

#include <algorithm>
#include <map>

#include "glassformer/io/model_directory.hpp"
#include "io/file.hpp"
#include "io/tensor_names.hpp"

namespace glassformer {

template <class S>
std::vector<NamedTensor> model_tensors(const Decoder<S>& decoder, Dtype dtype) {
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

template <class S>
Expected<void> read_tensor(const SafetensorsFile& file, const TensorEntry& entry, const TensorName& t, const Arena<S>& arena) {
  if (t.ours.empty()) {
    if (!all_zero(file, entry))
      return unexpected("{}: {}: expected zeros (the model has no bias), found other numbers", file.name(), printable(entry.name));
    return {};
  }
  S* to = arena.view(t.ours).data + t.row_begin * t.cols;
  const auto size = static_cast<std::size_t>(t.rows * t.cols);
  if (!t.transposed) return file.read<S>(entry, {to, size});
  Matrix<S> turned(t.cols, t.rows);
  if (auto read = file.read<S>(entry, {turned.data(), size}); !read) return read;
  *MatrixView<S>{to, t.rows, t.cols} = turned.transpose();
  return {};
}

}  // namespace

Expected<void> check_weights(const SafetensorsFile& file, const ModelConfig& config, ModelFamily family) {
  // A file has a tensor a layer at least: a configuration that claims more need not be laid out.
  if (config.layers > static_cast<Index>(file.tensors().size())) {
    return unexpected("{}: expected the tensors of {} layers, found {} tensors in all", file.name(), config.layers, file.tensors().size());
  }
  auto entries = entries_by_name(file, family);
  if (!entries) return tl::unexpected(entries.error());
  for (const TensorName& t : tensor_names(config, family)) {
    const std::vector<Index> shape = t.shape();
    const auto it = entries->find(t.theirs);
    if (it == entries->end())
      return unexpected("{}: expected a tensor {} of shape {}, found none", file.name(), t.theirs, shape_text(shape));
    if (auto right = file.expect(it->second->name, shape); !right) return tl::unexpected(right.error());
    entries->erase(it);
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
  if (auto right = check_weights(file, decoder.config, family); !right) return right;
  const auto entries = entries_by_name(file, family);
  for (const TensorName& t : tensor_names(decoder.config, family)) {
    if (auto read = read_tensor(file, *entries->at(t.theirs), t, decoder.arena); !read) return read;
  }
  return {};
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
