// Which weights an adapter was trained over, by a hash of each tensor: a text in the metadata of its file.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/adapter.hpp"

namespace glassformer::io {

// {"blocks.0.attn.qkv.weight": "f32 4f1c…", …}: the tensors that the adapter changes; for a soft prompt, which no tensor has to itself, all
// of the model. FNV-1a (core/hash.hpp) over the float32 numbers as they lie in memory, little-endian, row by row; of a quantized tensor
// over its blocks, and for nf4 the codes of absmax, the groups' maxima and the offset.
std::string base_fingerprint(const Decoder<float>& base, const Adapter<float>&);

// Holds `recorded` against a model. Errors: one line that names the first tensor that differs and says how many do. Tensors of another type
// than recorded are not other weights, but not the same numbers either: `warning` then says so. Where the model is in floating point and
// was quantized for training, its tensors are quantized again to see whether they are the same.
Expected<void> check_fingerprint(const std::string& file, const std::string& recorded, const Decoder<float>& base, std::string& warning);

}  // namespace glassformer::io
