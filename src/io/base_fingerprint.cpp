#include "io/base_fingerprint.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "glassformer/core/hash.hpp"
#include "io/file.hpp"

namespace glassformer::io {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(std::string_view type, std::uint64_t hash) { return fmt::format("{} {:016x}", type, hash); }

std::string fingerprint_of(const QuantizedMatrix& q) {
  std::uint64_t hash = fnv1a(std::as_bytes(std::span(q.blocks)));
  hash = fnv1a(std::as_bytes(std::span(q.absmax)), hash);
  hash = fnv1a(std::as_bytes(std::span(q.group_maximum)), hash);
  if (q.type == QuantizedType::nf4) hash = fnv1a(std::as_bytes(std::span(&q.offset, 1)), hash);
  return text_of(quantized_name(q.type), hash);
}

// Of the tensor as the model has it; "" when it has none of that name.
std::string fingerprint_of(const Decoder<float>& m, const std::string& name) {
  if (const auto q = m.quantized.find(name); q != m.quantized.end()) return fingerprint_of(*q->second);
  const MatrixView<float> x = m.arena.view(name);
  return x ? text_of("f32", fnv1a(std::as_bytes(std::span(x.data, static_cast<std::size_t>(x.size()))))) : "";
}

// One for each name. The tensors are spread over the processors: FNV-1a takes one byte after another.
std::vector<std::string> fingerprints_of(const Decoder<float>& m, const std::vector<std::string>& names) {
  std::vector<std::string> found(names.size());
  parallel_for(available_threads(), static_cast<Index>(names.size()),
               [&](Index i) { found[static_cast<std::size_t>(i)] = fingerprint_of(m, names[static_cast<std::size_t>(i)]); });
  return found;
}

std::string_view type_in(std::string_view fingerprint) { return fingerprint.substr(0, fingerprint.find(' ')); }

// A float tensor of the model, quantized as it was for training: the same fingerprint?
bool same_when_quantized(const Decoder<float>& m, const std::string& name, const std::string& recorded) {
  const auto type = quantized_named(type_in(recorded));
  const MatrixView<float> x = m.arena.view(name);
  if (!type || !x || x.cols % block_length(*type) != 0) return false;
  return fingerprint_of(quantize(*type, *x, {available_threads()})) == recorded;
}

// A base in floating point can be held against an adapter that was trained over it quantized.
bool can_be_quantized(std::string_view found, std::string_view recorded) {
  return type_in(found) == "f32" && quantized_named(type_in(recorded)).has_value();
}

std::string type_warning(const std::string& file, const std::string& recorded, const std::string& found) {
  const std::string text = fmt::format("{}: trained over {}; this base is {}: what the adapter learned to make up for is not the same",
                                       file, printable(std::string(type_in(recorded))), type_in(found));
  return fmt::format("{}{}", text,
                     can_be_quantized(found, recorded) ? ". The weights are: quantized again they give the same bytes"
                                                       : ", and whether the weights are is not known");
}

}  // namespace

std::string base_fingerprint(const Decoder<float>& base, const Adapter<float>& adapter) {
  std::vector<std::string> names;
  if (adapter.targets.empty()) {
    const auto layout = decoder_layout(base.config);
    for (const TensorInfo& info : layout->tensors()) names.push_back(info.name);
  }
  for (const AdapterTarget& t : adapter.targets) {
    if (std::ranges::find(names, t.tensor()) == names.end()) names.push_back(t.tensor());
  }
  const std::vector<std::string> found = fingerprints_of(base, names);
  Json json = Json::object();
  for (std::size_t i = 0; i < names.size(); ++i) json[names[i]] = found[i];
  return json.dump();
}

Expected<void> check_fingerprint(const std::string& file, const std::string& text, const Decoder<float>& base, std::string& warning) {
  const Json json = Json::parse(text, nullptr, false);
  std::vector<std::pair<std::string, std::string>> recorded;
  std::vector<std::string> names;
  const auto wrong = [&] { return unexpected("{}: expected fingerprints of the base in its metadata, found {}", file, printable(text)); };
  if (!json.is_object()) return wrong();
  for (const auto& [name, value] : json.items()) {
    if (!value.is_string()) return wrong();
    recorded.emplace_back(name, value.get<std::string>()), names.push_back(name);
  }
  const std::vector<std::string> found = fingerprints_of(base, names);
  std::vector<std::size_t> other_type;
  std::string first;
  std::size_t different = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::string& was = recorded[i].second;
    const bool other = !found[i].empty() && type_in(found[i]) != type_in(was);
    if (other) other_type.push_back(i);
    const bool differs = other ? can_be_quantized(found[i], was) && !same_when_quantized(base, names[i], was) : found[i] != was;
    if (differs && ++different == 1) first = names[i];
  }
  if (different > 0) {
    return unexpected("{}: expected the base that it was trained over, found another: {} differs{}", file, printable(first),
                      different > 1 ? fmt::format(", and {} more of {} tensors", different - 1, found.size()) : "");
  }
  if (!other_type.empty()) warning = type_warning(file, recorded[other_type[0]].second, found[other_type[0]]);
  return {};
}

}  // namespace glassformer::io
