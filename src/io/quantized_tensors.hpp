// A quantized matrix as tensors of a file.
//   q8_0, q4_0, int4    NAME U8 [rows, bytes of a row]: blocks, each with its scale
//   nf4                 as bitsandbytes writes it: NAME U8 [numbers/2, 1], NAME.absmax U8 [numbers/64], NAME.nested_absmax F32 [groups of 256],
//                       the levels of both (NAME.quant_map F32 [16], NAME.nested_quant_map F32 [256]), and
//                       NAME.quant_state.bitsandbytes__nf4 U8: JSON with the sizes and the offset
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "glassformer/core/arena.hpp"
#include "glassformer/io/safetensors.hpp"
#include "glassformer/quantize/quantized.hpp"

namespace glassformer::io {

// The names and shapes of the tensors of one matrix. A length of −1: any.
struct FileTensor {
  std::string name;
  std::vector<Index> shape;
};
std::vector<FileTensor> quantized_file_tensors(const TensorInfo&, QuantizedType);

// Reads a matrix whose tensors are there in their shapes. Errors name the tensor: another type of number, a scale that is not finite, levels or
// sizes that are not this format's.
Expected<QuantizedMatrix> read_quantized(const SafetensorsFile&, const TensorInfo&, QuantizedType);

// Appends views of the matrix; the JSON goes to `texts`, which must live as long as they do (and keep its elements where they are).
void add_quantized(const std::string& name, const QuantizedMatrix&, std::vector<NamedTensor>&, std::deque<std::string>& texts);

}  // namespace glassformer::io
