#include "io/safetensors_header.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "io/file.hpp"

namespace glassformer::io {
namespace {

using Json = nlohmann::json;
constexpr Dtype kDtypes[] = {Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I64, Dtype::I32, Dtype::U8, Dtype::I8};

// Parses, and refuses what nlohmann lets pass: a repeated key (the last would win), a zero byte (it would end the text).
Expected<Json> parse_strictly(std::string_view text) {
  if (text.empty() || text.front() != '{')
    return unexpected("expected a header that starts with '{{', found {}", text.empty() ? "none" : "another character");
  if (text.find('\0') != text.npos) return unexpected("expected a header of JSON, found a zero byte in it");
  std::vector<std::set<std::string>> keys;
  std::string repeated;
  bool deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) repeated = value.get<std::string>();
    deep = deep || depth > 8;
    return true;
  };
  Json json = Json::parse(text, watch, false);
  if (json.is_discarded() || !json.is_object()) return unexpected("expected a header of valid JSON in UTF-8, found something else");
  if (!repeated.empty() || deep)
    return unexpected("expected a header of tensors, found {}", deep ? "nested values" : "the key " + printable(repeated) + " twice");
  return json;
}

Expected<Dtype> dtype_named(const Json& value) {
  for (const Dtype dtype : kDtypes) {
    if (value.is_string() && value.get_ref<const std::string&>() == dtype_name(dtype)) return dtype;
  }
  return unexpected("expected a dtype among F64, F32, F16, BF16, I64, I32, U8, I8, found {}", printable(value.dump()));
}

// The bytes that a shape takes; what does not fit in an Index is an error.
Expected<std::size_t> shape_bytes(const Json& value, Dtype dtype, std::vector<Index>& shape) {
  if (!value.is_array()) return unexpected("expected a shape, found {}", printable(value.dump()));
  constexpr auto kLimit = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
  std::uint64_t bytes = dtype_bytes(dtype), largest = 1;
  for (const Json& extent : value) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > kLimit)
      return unexpected("expected a shape, found {}", printable(value.dump()));
    const auto n = extent.get<std::uint64_t>();
    shape.push_back(static_cast<Index>(n));
    // A zero elsewhere makes the product zero, but does not excuse a product of the others that overflows.
    if (n != 0 && largest > kLimit / 8 / n) return unexpected("expected a shape that fits in memory, found {}", printable(value.dump()));
    largest *= std::max<std::uint64_t>(n, 1);
    bytes *= n;
  }
  return bytes;
}

Expected<HeaderEntry> parse_entry(const std::string& name, const Json& value) {
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets")) {
    return unexpected("{}: expected dtype, shape and data_offsets, found {}", printable(name), printable(value.dump()));
  }
  HeaderEntry entry{name, Dtype::F32, {}, 0, 0};
  const auto dtype = dtype_named(value["dtype"]);
  if (!dtype) return unexpected("{}: {}", printable(name), dtype.error());
  entry.dtype = *dtype;
  const auto bytes = shape_bytes(value["shape"], *dtype, entry.shape);
  if (!bytes) return unexpected("{}: {}", printable(name), bytes.error());
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    return unexpected("{}: expected two data_offsets, found {}", printable(name), printable(offsets.dump()));
  }
  entry.begin = offsets[0].get<std::size_t>(), entry.end = offsets[1].get<std::size_t>();
  if (entry.end < entry.begin || entry.end - entry.begin != *bytes) {
    return unexpected("{}: expected {} bytes for shape {}, found data_offsets {}", printable(name), *bytes, shape_text(entry.shape),
                      offsets.dump());
  }
  return entry;
}

}  // namespace

Expected<Header> parse_header(std::string_view text) {
  const auto json = parse_strictly(text);
  if (!json) return tl::unexpected(json.error());
  Header header;
  for (const auto& [name, value] : json->items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return unexpected("__metadata__: expected an object, found {}", printable(value.dump()));
      for (const auto& [key, word] : value.items()) {
        if (!word.is_string()) return unexpected("__metadata__: {}: expected a string, found {}", printable(key), printable(word.dump()));
        header.metadata[key] = word.get<std::string>();
      }
      continue;
    }
    auto entry = parse_entry(name, value);
    if (!entry) return tl::unexpected(entry.error());
    header.entries.push_back(std::move(*entry));
  }
  // An empty tensor comes before the one that starts at the same place.
  std::ranges::stable_sort(
      header.entries, [](const HeaderEntry& a, const HeaderEntry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::size_t end = 0;
  for (const HeaderEntry& entry : header.entries) {
    if (entry.begin != end) return unexpected("{}: expected data from byte {} on, found {}", printable(entry.name), end, entry.begin);
    end = entry.end;
  }
  return header;
}

std::string header_json(const Header& header) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) json["__metadata__"] = header.metadata;
  std::string text;
  try {
    for (const HeaderEntry& entry : header.entries) {
      // A plain push into the underlying vector: looking up each key first would take quadratic time.
      nlohmann::ordered_json value;
      value["dtype"] = dtype_name(entry.dtype);
      value["shape"] = entry.shape;
      value["data_offsets"] = {entry.begin, entry.end};
      json.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(entry.name, std::move(value));
    }
    text = json.dump();
  } catch (const nlohmann::json::exception&) {
    throw std::invalid_argument("write_safetensors: expected names and metadata in UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace glassformer::io
