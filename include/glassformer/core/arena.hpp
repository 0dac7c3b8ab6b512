// All parameters of a model in one block of memory, with named views. Gradients and moments have the same layout,
// so one pass over the block serves AdamW, the norm, saving, and the exchange between processes.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

// What a parameter is, for those who treat all parameters alike: the optimizer and the initialisation.
enum class ParameterKind {
  hidden,     // a matrix between hidden activations: weight decay, or Muon (without) where chosen
  embedding,  // token or position table, output head: weight decay
  vector,     // gain or bias, one row: no weight decay
};

struct TensorInfo {
  std::string name;
  Index rows = 0, cols = 0;  // [out, in]; a vector is one row
  ParameterKind kind = ParameterKind::hidden;
  Index offset = 0;  // in scalars from the arena's start; a multiple of 16, so every tensor is aligned to 64 bytes
  bool decay() const { return kind != ParameterKind::vector; }
  Index size() const { return rows * cols; }
  Index end() const { return offset + (size() + 15) / 16 * 16; }  // with its padding, which stays zero: where the next one begins
};

class ArenaLayout {
 public:
  // Appends a tensor. Throws std::invalid_argument on a repeated name, a negative size, or one that overflows.
  void add(std::string name, Index rows, Index cols, ParameterKind kind);
  const TensorInfo* find(std::string_view name) const;  // null when there is none
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  Index size() const { return size_; }         // scalars with padding
  Index parameters() const { return count_; }  // scalars without

 private:
  std::vector<TensorInfo> tensors_;
  Index size_ = 0, count_ = 0;
};

// Scalars, zero at first, laid out by an ArenaLayout that several arenas share. Padding stays zero.
template <class S> class Arena {
 public:
  Arena() = default;
  explicit Arena(std::shared_ptr<const ArenaLayout> layout);
  const ArenaLayout& layout() const { return *layout_; }
  std::shared_ptr<const ArenaLayout> shared_layout() const { return layout_; }
  explicit operator bool() const { return layout_ != nullptr; }

  // The named tensor; a null view when the arena is empty or has no such tensor (no bias, say).
  MatrixView<S> view(std::string_view name) const;
  MatrixView<S> view(const TensorInfo&) const;
  std::span<S> values() const { return {data_.get(), static_cast<std::size_t>(layout_ ? layout_->size() : 0)}; }
  void set_zero(int threads = 1);
  Arena clone() const;
  // `count` neighbouring tensors from the `first` on, as an arena of their own that shares this one's memory. Throws when there are fewer.
  Arena slice(std::size_t first, std::size_t count) const;

 private:
  std::shared_ptr<const ArenaLayout> layout_;
  std::shared_ptr<S[]> data_;  // shared so that views stay valid when an arena is moved or handed on
};

extern template class Arena<float>;
extern template class Arena<double>;

}  // namespace glassformer
