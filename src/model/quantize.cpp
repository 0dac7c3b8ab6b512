#include "glassformer/model/quantize.hpp"

#include <algorithm>

namespace glassformer {

std::optional<QuantizedType> wanted_type(const TensorInfo& info, const QuantizeTypes& types) {
  if (info.kind == ParameterKind::vector || info.name == "pos_embed.weight") return std::nullopt;
  return info.kind == ParameterKind::embedding ? types.embedding : types.linear;
}

std::optional<QuantizedType> quantized_type(const TensorInfo& info, const QuantizeTypes& types) {
  const std::optional<QuantizedType> type = wanted_type(info, types);
  if (!type || info.cols % block_length(*type) != 0) return std::nullopt;
  return type;
}

std::string quantize_types_name(const QuantizeTypes& types) {
  const auto name = [](std::optional<QuantizedType> type) { return type ? quantized_name(*type) : "f32"; };
  return fmt::format("{}, embeddings {}", name(types.linear), name(types.embedding));
}

template <class S> std::optional<QuantizeTypes> quantize_types(const Decoder<S>& m) {
  if (m.quantized.empty()) return std::nullopt;
  const auto layout = decoder_layout(m.config);
  const auto type_of = [&](const TensorInfo& info) -> std::optional<QuantizedType> {
    const auto q = m.quantized.find(info.name);
    return q == m.quantized.end() ? std::nullopt : std::optional(q->second->type);
  };
  QuantizeTypes types{std::nullopt, std::nullopt};
  for (const TensorInfo& info : layout->tensors()) {
    if (const auto type = type_of(info)) (info.kind == ParameterKind::embedding ? types.embedding : types.linear) = type;
  }
  for (const TensorInfo& info : layout->tensors()) {
    const auto name = [](std::optional<QuantizedType> type) { return type ? quantized_name(*type) : "floating point"; };
    require(quantized_type(info, types) == type_of(info), "quantized model: expected {} in {}, as the others of its kind, found {}", info.name,
            name(quantized_type(info, types)), name(type_of(info)));
  }
  return types;
}

Decoder<float> quantize_decoder(const Decoder<float>& m, const QuantizeTypes& types, const Exec& exec) {
  require(m.quantized.empty(), "quantize: expected a model in floating point, found a quantized one");
  QuantizedTensors tensors;
  for (const TensorInfo& info : m.arena.layout().tensors()) {
    const auto type = quantized_type(info, types);
    if (type) tensors.emplace(info.name, std::make_shared<const QuantizedMatrix>(quantize(*type, *m.arena.view(info), exec)));
  }
  Decoder<float> small = make_decoder<float>(m.config, std::move(tensors));
  for (const TensorInfo& info : small.arena.layout().tensors()) *small.arena.view(info) = *m.arena.view(info.name);
  return small;
}

template <class S> Decoder<S> dequantize_decoder(const Decoder<S>& m) {
  Decoder<S> full = make_decoder<S>(m.config);
  for (const TensorInfo& info : full.arena.layout().tensors()) {
    const MatrixView<S> to = full.arena.view(info);
    if (const auto q = m.quantized.find(info.name); q != m.quantized.end()) {
      dequantize<S>(*q->second, 0, *to);
    } else {
      *to = *m.arena.view(info.name);
    }
  }
  return full;
}

template <class S> Index decoder_bytes(const Decoder<S>& m) {
  Index bytes = m.arena.layout().parameters() * static_cast<Index>(sizeof(S));
  for (const auto& [name, q] : m.quantized) bytes += q->bytes();
  return bytes;
}

template std::optional<QuantizeTypes> quantize_types<float>(const Decoder<float>&);
template std::optional<QuantizeTypes> quantize_types<double>(const Decoder<double>&);
template Decoder<float> dequantize_decoder<float>(const Decoder<float>&);
template Decoder<double> dequantize_decoder<double>(const Decoder<double>&);
template Index decoder_bytes<float>(const Decoder<float>&);
template Index decoder_bytes<double>(const Decoder<double>&);

}  // namespace glassformer
