// Memory for what is large and read from end to end: weights, gradients, moments, the KV cache. It comes in huge pages where the system has
// them: a processor translates addresses page by page and stops looking ahead at a page's end, so that it reads pages of 4 KiB
// more slowly (tests/bench/huge_pages.sh shows by how much). Several tensors share a huge page.
#pragma once
#include <cstddef>
#include <new>

namespace glassformer {

// Uninitialised, at a multiple of 64 bytes. Throws std::bad_alloc. Thread-safe.
void* allocate_large(std::size_t bytes);
void free_large(void* memory, std::size_t bytes) noexcept;  // `bytes` as asked for

// For std::vector, whose new elements then are uninitialised too.
template <class T> struct LargeAllocator {
  using value_type = T;
  LargeAllocator() = default;
  template <class U> LargeAllocator(const LargeAllocator<U>&) noexcept {}
  T* allocate(std::size_t n) {
    if (n > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(allocate_large(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t n) noexcept { free_large(p, n * sizeof(T)); }
  template <class U> void construct(U* p) noexcept { ::new (static_cast<void*>(p)) U; }
  template <class U, class... A> void construct(U* p, A&&... a) { ::new (static_cast<void*>(p)) U(static_cast<A&&>(a)...); }
  bool operator==(const LargeAllocator&) const { return true; }
};

}  // namespace glassformer
