// The steps of reading weights, each before memory is taken for the next.
#pragma once
#include <deque>
#include <functional>

#include "glassformer/io/model_directory.hpp"

namespace glassformer::io {

// Whether the file has every tensor of the model in its shape and no other. `stored`: the types of a quantized file, whose family is
// glassformer. Nothing of the model's size is allocated.
Expected<void> check_weights(const SafetensorsFile&, const ModelConfig&, ModelFamily, const std::optional<QuantizeTypes>& stored = {});
// A GPT-2 whose configuration says that it has no biases, but whose biases are not zeros, has some.
void settle_biases(const SafetensorsFile&, ModelConfig&);
// Checks, and fills the decoder's arena.
template <class S>
Expected<void> read_weights(const SafetensorsFile&, ModelFamily, Decoder<S>&);

// Gives the numbers of one tensor of decoder_layout.
using ReadTensor = std::function<Expected<void>(const TensorInfo&, MatrixView<float>)>;
// The decoder whose numbers `read` gives. With options.quantize each matrix is read, quantized and let go before the next. `ready`: what is
// quantized already. `name` stands first in errors.
Expected<Decoder<float>> fill_decoder(const std::string& name, const ModelConfig&, const LoadOptions&, const ReadTensor& read,
                                      QuantizedTensors ready = {});
// Checks, and reads a decoder from a file.
Expected<Decoder<float>> read_decoder(const SafetensorsFile&, const ModelConfig&, ModelFamily, const std::optional<QuantizeTypes>& stored,
                                      const LoadOptions&);

// The tensors of a quantized model: views, and texts that must live as long.
std::vector<NamedTensor> quantized_model_tensors(const Decoder<float>&, Dtype, std::deque<std::string>& texts);

}  // namespace glassformer::io
