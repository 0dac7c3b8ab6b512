#include "glassformer/quantize/quantized.hpp"

namespace glassformer {
namespace {

struct Format {
  QuantizedType type;
  const char* name;
  Index length, bytes;  // of a block
};
constexpr Format kFormats[] = {{QuantizedType::q8_0, "q8_0", 32, 34}, {QuantizedType::q4_0, "q4_0", 32, 18}, {QuantizedType::int4, "int4", 64, 34}, {QuantizedType::nf4, "nf4", 64, 32}};

const Format& format_of(QuantizedType type) { return kFormats[static_cast<std::size_t>(type)]; }

}  // namespace

std::string_view quantized_name(QuantizedType type) { return format_of(type).name; }
Index block_length(QuantizedType type) { return format_of(type).length; }
Index block_bytes(QuantizedType type) { return format_of(type).bytes; }

Expected<QuantizedType> quantized_named(std::string_view name) {
  for (const Format& f : kFormats) {
    if (name == f.name) return f.type;
  }
  return unexpected("expected one of q8_0, q4_0, int4, nf4, found {}", name);
}

Index QuantizedMatrix::bytes() const {
  return static_cast<Index>(blocks.size() + absmax.size() + group_maximum.size() * sizeof(float) + (absmax.empty() ? 0 : sizeof(float)));
}

}  // namespace glassformer
