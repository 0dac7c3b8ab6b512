// Scratch memory for one pass: a stack of aligned blocks that keeps its memory, so that after the first step nothing is allocated.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "glassformer/core/large_memory.hpp"
#include "glassformer/core/matrix.hpp"

namespace glassformer {

// Not thread-safe: one workspace a pass. Memory is uninitialised.
class Workspace {
 public:
  // Gives back at its end all that was taken since its beginning.
  class Frame {
   public:
    explicit Frame(Workspace& w) : workspace_(w), chunk_(w.chunk_), used_(w.used_) {}
    ~Frame() { workspace_.chunk_ = chunk_, workspace_.used_ = used_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Workspace& workspace_;
    std::size_t chunk_, used_;
  };

  template <class S> MatrixView<S> matrix(Index rows, Index cols) {
    return {static_cast<S*>(take(static_cast<std::size_t>(rows * cols) * sizeof(S))), rows, cols};
  }
  // `count` of anything that needs no destructor, as their default constructor leaves them: numbers uninitialised.
  template <class T> std::span<T> array(Index count) {
    static_assert(std::is_trivially_destructible_v<T>);
    const auto n = static_cast<std::size_t>(count);
    T* first = static_cast<T*>(take(n * sizeof(T)));
    std::uninitialized_default_construct_n(first, n);
    return {first, n};
  }

 private:
  struct Free {
    std::size_t bytes;
    void operator()(std::byte* p) const { free_large(p, bytes); }
  };
  struct Chunk {
    std::unique_ptr<std::byte, Free> data;
    std::size_t bytes;
  };
  void* take(std::size_t bytes);

  std::vector<Chunk> chunks_;
  std::size_t chunk_ = 0, used_ = 0;
};

// The calling thread's own, for an operation that has no pass at hand: what it takes, it gives back by a Frame.
Workspace& thread_workspace();

}  // namespace glassformer
