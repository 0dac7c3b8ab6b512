#include "glassformer/model/quantize.hpp"

#include <algorithm>

namespace glassformer {

std::optional<QuantizedType> quantized_type(const TensorInfo& info, const QuantizeTypes& types) {
  if (info.kind == ParameterKind::vector || info.name == "pos_embed.weight") return std::nullopt;
  const QuantizedType type = info.kind == ParameterKind::embedding ? types.embedding : types.linear;
  if (info.cols % block_length(type) != 0) return std::nullopt;
  return type;
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

template Decoder<float> dequantize_decoder<float>(const Decoder<float>&);
template Decoder<double> dequantize_decoder<double>(const Decoder<double>&);
template Index decoder_bytes<float>(const Decoder<float>&);
template Index decoder_bytes<double>(const Decoder<double>&);

}  // namespace glassformer
