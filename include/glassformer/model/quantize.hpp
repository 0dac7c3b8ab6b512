// Which tensors of a decoder are kept in few bits, and back. Gains, biases and the position table stay as they are, and so does a matrix
// whose rows are no multiple of the block.
#pragma once
#include <optional>
#include <string>

#include "glassformer/model/decoder.hpp"

namespace glassformer {

struct QuantizeTypes {  // none: these stay in floating point
  std::optional<QuantizedType> linear = QuantizedType::nf4;
  std::optional<QuantizedType> embedding = QuantizedType::q8_0;  // token embedding and head
  static QuantizeTypes all(QuantizedType linear) { return {linear, QuantizedType::q8_0}; }
  bool operator==(const QuantizeTypes&) const = default;
};
std::string quantize_types_name(const QuantizeTypes&);  // "nf4, embeddings q8_0"
// The type meant for one tensor of decoder_layout; and the one that it gets, none where its rows are no multiple of the block.
std::optional<QuantizedType> wanted_type(const TensorInfo&, const QuantizeTypes&);
std::optional<QuantizedType> quantized_type(const TensorInfo&, const QuantizeTypes&);

// The types that a model is quantized with; none: it is in floating point. Throws std::invalid_argument for a mixture that is no QuantizeTypes'.
template <class S> std::optional<QuantizeTypes> quantize_types(const Decoder<S>&);

// The model with its matrices quantized, tensor by tensor; the rest is copied. Throws std::invalid_argument for one that is quantized.
Decoder<float> quantize_decoder(const Decoder<float>&, const QuantizeTypes&, const Exec& = {});
// The same numbers in floating point: what a quantized model computes with. Attached adapters and hooks are not taken along.
template <class S> Decoder<S> dequantize_decoder(const Decoder<S>&);
// Bytes of all parameters in memory: the arena's (without padding) and the quantized tensors'.
template <class S> Index decoder_bytes(const Decoder<S>&);

}  // namespace glassformer
