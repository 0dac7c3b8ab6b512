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

std::string type_warning(const std::string& file, const Decoder<float>& base,
                         const std::vector<std::pair<std::string, std::string>>& recorded, const std::vector<std::string>& found,
                         const std::vector<std::size_t>& other_type) {
  const std::string was(type_in(recorded[other_type[0]].second)), is(type_in(found[other_type[0]]));
  std::string text =
      fmt::format("{}: trained over {}; this base is {}: what the adapter learned to make up for is not the same", file, was, is);
  if (is != "f32" || was == "f32") return text + ", and whether the weights are is not known";
  const auto same =
      std::ranges::count_if(other_type, [&](std::size_t i) { return same_when_quantized(base, recorded[i].first, recorded[i].second); });
  if (same == static_cast<std::ptrdiff_t>(other_type.size()))
    return fmt::format("{}. The weights are: quantized again they give the same bytes", text);
  return fmt::format("{}, and {} of {} tensors are other weights: quantized again they give other bytes", text,
                     static_cast<std::ptrdiff_t>(other_type.size()) - same, other_type.size());
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
  for (const auto& [name, value] : json.items()) {
    if (!json.is_object() || !value.is_string())
      return unexpected("{}: expected fingerprints of the base in its metadata, found {}", file, printable(text));
    recorded.emplace_back(name, value.get<std::string>()), names.push_back(name);
  }
  const std::vector<std::string> found = fingerprints_of(base, names);
  std::vector<std::size_t> other_type;
  std::string first;
  std::size_t different = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!found[i].empty() && type_in(found[i]) != type_in(recorded[i].second)) {
      other_type.push_back(i);
    } else if (found[i] != recorded[i].second && ++different == 1) {
      first = names[i];
    }
  }
  if (different > 0) {
    return unexpected("{}: expected the base that it was trained over, found another: {} differs{}", file, printable(first),
                      different > 1 ? fmt::format(", and {} more of {} tensors", different - 1, found.size()) : "");
  }
  if (!other_type.empty()) warning = type_warning(file, base, recorded, found, other_type);
  return {};
}

}  // namespace glassformer::io
