// Which tensor of a file is which part of our arena.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/io/model_directory.hpp"

namespace glassformer::io {

// One tensor of a file: rows [row_begin, row_begin + rows) of the arena's tensor `ours`, or zeros when `ours` is empty.
struct TensorName {
  std::string theirs, ours;
  Index row_begin = 0, rows = 0, cols = 0;
  bool vector = false, transposed = false;  // [cols] · [cols, rows] in the file
  std::vector<Index> shape() const;         // in the file
};
// In the order of the arena. `config` must be resolved.
std::vector<TensorName> tensor_names(const ModelConfig&, ModelFamily);

// The family whose names these are.
Expected<ModelFamily> family_of(const SafetensorsFile&);
// Names as tensor_names has them, of a file's: with the prefix that our writer uses, whatever the file has. Empty for what is no parameter.
std::string canonical_name(std::string_view theirs, ModelFamily);

}  // namespace glassformer::io
