// The JSON header of a safetensors file: the only part of it that needs a parser.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/io/safetensors.hpp"

namespace glassformer::io {

struct HeaderEntry {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<Index> shape;
  std::size_t begin = 0, end = 0;  // in bytes from the data's start
};
struct Header {
  std::vector<HeaderEntry> entries;  // by `begin`; without holes or overlap, each as long as its shape
  Metadata metadata;
};

// Errors are what follows "FILE: ".
Expected<Header> parse_header(std::string_view json);
// The JSON, padded with spaces so that 8 + its length is a multiple of 8. Throws std::invalid_argument for names that are not UTF-8.
std::string header_json(const Header&);

}  // namespace glassformer::io
