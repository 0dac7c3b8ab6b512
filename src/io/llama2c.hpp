// llama2.c's legacy .bin: seven numbers, then the weights of a Llama in 32-bit floats.
#pragma once
#include <filesystem>

#include "glassformer/io/model_directory.hpp"

namespace glassformer::io {

// The size must be the header's to the byte. Rows of q and k are turned from interleaved pairs (2i, 2i+1) to half-splits (i, i + D/2).
Expected<Decoder<float>> read_llama2c(const std::filesystem::path&, const LoadOptions&);

}  // namespace glassformer::io
