#include "glassformer/core/workspace.hpp"

#include <algorithm>

namespace glassformer {

void* Workspace::take(std::size_t bytes) {
  bytes = std::max<std::size_t>((bytes + 63) / 64 * 64, 64);
  while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].bytes) ++chunk_, used_ = 0;
  if (chunk_ == chunks_.size()) {
    std::size_t size = std::max<std::size_t>(bytes, std::size_t{4} << 20);  // at least double what there is, so that a pass that grows allocates seldom
    for (const Chunk& c : chunks_) size = std::max(size, 2 * c.bytes);
    chunks_.push_back({{static_cast<std::byte*>(allocate_large(size)), Free{size}}, size});
    used_ = 0;
  }
  void* result = chunks_[chunk_].data.get() + used_;
  used_ += bytes;
  return result;
}

Workspace& thread_workspace() {
  thread_local Workspace workspace;
  return workspace;
}

}  // namespace glassformer
