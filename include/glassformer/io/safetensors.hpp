// safetensors: named tensors in one file. u64 little-endian N, N bytes of JSON, then the data.
// Reading checks everything that the header claims before any of it is believed; see docs/checkpoints.md.
#pragma once
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "glassformer/core/arena.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

enum class Dtype { F64, F32, F16, BF16, I64, I32, U8, I8 };
std::string_view dtype_name(Dtype);
std::size_t dtype_bytes(Dtype);

std::string shape_text(std::span<const Index> shape);  // "[2, 3]"

// One tensor of a file: a view that lives as long as the SafetensorsFile or a copy of it. `bytes` need not be aligned.
struct TensorEntry {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<Index> shape;  // row-major; empty for a single number
  std::span<const std::byte> bytes;
  Index size() const;  // number of values
};

using Metadata = std::map<std::string, std::string>;

class SafetensorsFile {
 public:
  // Maps the file into memory. Errors: "FILE: expected …, found …" for anything that is not a whole and valid file.
  static Expected<SafetensorsFile> open(const std::filesystem::path&);
  // The same over bytes in memory, which must outlive the result. `name` stands first in every error.
  static Expected<SafetensorsFile> parse(std::string name, std::span<const std::byte> bytes);

  const std::string& name() const { return name_; }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }  // in the order of their data
  const TensorEntry* find(std::string_view name) const;                 // null when there is none
  const Metadata& metadata() const { return metadata_; }

  // The tensor of this name and shape, or "FILE: NAME: expected shape …, found …".
  Expected<const TensorEntry*> expect(std::string_view name, std::span<const Index> shape) const;
  // Converts a tensor of numbers with a point (F64, F32, F16, BF16) into `out`, which must have its size, S float or double. Errors:
  // another type; NaN or infinity among the values (also a number too large for S), saying how many.
  // What was read of a mapped file is given back to the system: beside `out` only a small part of it is ever resident.
  template <class S>
  Expected<void> read(const TensorEntry&, std::span<S> out) const;
  // The same for U8: the bytes as they are. `out` must have the tensor's size.
  Expected<void> read_bytes(const TensorEntry&, std::span<std::byte> out) const;

 private:
  std::string name_;
  std::shared_ptr<const void> mapping_;
  std::vector<TensorEntry> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  Metadata metadata_;
};

// A tensor to be written. `data` are floats or doubles to be converted to `dtype` (F64, F32, F16, BF16), or bytes that are in it
// already; null is all zeros. `transposed`: the data are [shape[1], shape[0]] and are turned while they are written.
struct NamedTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<Index> shape;
  std::variant<const float*, const double*, const std::byte*> data = static_cast<const float*>(nullptr);
  bool transposed = false;
};

// Streams the file; nothing but a small buffer is held. Use with save_file or save_directory (io/save.hpp), which make it atomic.
// Errors: the file cannot be written (says why); a finite value that `dtype` cannot hold. Throws std::invalid_argument for a
// repeated or invalid name, or numbers to be written as an integer type.
Expected<void> write_safetensors(const std::filesystem::path&, std::span<const NamedTensor>, const Metadata& = {});

// All tensors of an arena under their names, in front of them `prefix`: a vector as [n], a matrix as [rows, cols]. Views of the arena.
template <class S>
std::vector<NamedTensor> arena_tensors(const Arena<S>&, Dtype, std::string_view prefix = {});
// Fills an arena from the tensors with its names behind `prefix`; each must be there in its shape. Others are not looked at.
template <class S>
Expected<void> read_arena(const SafetensorsFile&, std::string_view prefix, Arena<S>&);

}  // namespace glassformer
