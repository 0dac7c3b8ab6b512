#include "glassformer/core/arena.hpp"

#include <algorithm>
#include <limits>

#include "glassformer/core/large_memory.hpp"
#include "glassformer/core/parallel.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

void ArenaLayout::add(std::string name, Index rows, Index cols, ParameterKind kind) {
  require(find(name) == nullptr, "tensor {} exists already", name);
  require(rows > 0 && cols > 0, "tensor {}: expected a positive shape, found [{}, {}]", name, rows, cols);
  constexpr Index kLimit = std::numeric_limits<Index>::max() / 64;
  require(rows <= kLimit / cols && size_ <= kLimit - rows * cols, "tensor {}: shape [{}, {}] is too large", name, rows, cols);
  TensorInfo info{std::move(name), rows, cols, kind, size_};
  size_ = info.end();
  count_ += info.size();
  tensors_.push_back(std::move(info));
}

const TensorInfo* ArenaLayout::find(std::string_view name) const {
  const auto it = std::ranges::find(tensors_, name, &TensorInfo::name);
  return it == tensors_.end() ? nullptr : &*it;
}

template <class S> Arena<S>::Arena(std::shared_ptr<const ArenaLayout> layout) : layout_(std::move(layout)) {
  const auto bytes = static_cast<std::size_t>(std::max<Index>(layout_->size(), 16)) * sizeof(S);
  data_ = std::shared_ptr<S[]>(static_cast<S*>(allocate_large(bytes)), [bytes](S* p) { free_large(p, bytes); });
  set_zero();
}

template <class S> MatrixView<S> Arena<S>::view(std::string_view name) const {
  const TensorInfo* info = layout_ ? layout_->find(name) : nullptr;
  return info ? view(*info) : MatrixView<S>{};
}

template <class S> MatrixView<S> Arena<S>::view(const TensorInfo& info) const { return {data_.get() + info.offset, info.rows, info.cols}; }

template <class S> void Arena<S>::set_zero(int threads) {
  const std::span<S> all = values();
  parallel_blocks(threads, static_cast<Index>(all.size()), Index{1} << 16, [&](Index begin, Index end) { std::fill(all.begin() + begin, all.begin() + end, S(0)); });
}

template <class S> Arena<S> Arena<S>::clone() const {
  Arena copy(layout_);
  std::ranges::copy(values(), copy.values().begin());
  return copy;
}

template <class S> Arena<S> Arena<S>::slice(std::size_t first, std::size_t count) const {
  const auto& all = layout_->tensors();
  require(count > 0 && first <= all.size() && count <= all.size() - first, "arena: expected tensors within {}, found {} from {} on", all.size(), count, first);
  auto layout = std::make_shared<ArenaLayout>();
  for (std::size_t i = first; i < first + count; ++i) layout->add(all[i].name, all[i].rows, all[i].cols, all[i].kind);
  Arena part;
  part.layout_ = std::move(layout);
  part.data_ = std::shared_ptr<S[]>(data_, data_.get() + all[first].offset);  // offsets are multiples of 16 in both
  return part;
}

template class Arena<float>;
template class Arena<double>;

}  // namespace glassformer
