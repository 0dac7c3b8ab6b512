// The steps of reading weights, each before memory is taken for the next.
#pragma once
#include "glassformer/io/model_directory.hpp"

namespace glassformer::io {

// Whether the file has every tensor of the model in its shape and no other. Nothing of the model's size is allocated.
Expected<void> check_weights(const SafetensorsFile&, const ModelConfig&, ModelFamily);
// A GPT-2 whose configuration says that it has no biases, but whose biases are not zeros, has some.
void settle_biases(const SafetensorsFile&, ModelConfig&);
// Checks, and fills the decoder's arena.
template <class S>
Expected<void> read_weights(const SafetensorsFile&, ModelFamily, Decoder<S>&);

}  // namespace glassformer::io
