#include "glassformer/core/large_memory.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "core/large_allocations.hpp"

namespace glassformer {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20, kSmall = std::size_t{64} << 10, kRegion = std::size_t{16} << 20;

std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

std::byte* huge_pages(std::size_t bytes) {
  if (bytes > static_cast<std::size_t>(-1) - kHugePage) throw std::bad_alloc();
  const std::size_t size = round_up(bytes, kHugePage);
  void* block = std::aligned_alloc(kHugePage, size);
  if (!block) throw std::bad_alloc();
#if defined(__linux__)
  madvise(block, size, MADV_HUGEPAGE);  // a wish: without it the memory is as good, but slower
#endif
  return static_cast<std::byte*>(block);
}

// What is larger than a page of 4 KiB but smaller than a region shares one, and the region goes when nobody uses it any more.
class Regions {
 public:
  void* take(std::size_t bytes) {
    const std::scoped_lock lock(guard_);
    if (regions_.empty() || regions_.back().used + bytes > kRegion) regions_.push_back({huge_pages(kRegion), 0, 0});
    Region& r = regions_.back();
    void* result = r.data + r.used;
    r.used += bytes;
    ++r.users;
    return result;
  }
  void give_back(void* memory, std::size_t bytes) noexcept {
    const std::scoped_lock lock(guard_);
    const auto r =
        std::find_if(regions_.begin(), regions_.end(), [&](const Region& x) { return memory >= x.data && memory < x.data + kRegion; });
    if (static_cast<std::byte*>(memory) + bytes == r->data + r->used) r->used -= bytes;  // the last one: for the next
    if (--r->users > 0) return;
    std::free(r->data);
    regions_.erase(r);
  }

 private:
  struct Region {
    std::byte* data;
    std::size_t used, users;
  };
  std::mutex guard_;
  std::vector<Region> regions_;
};

Regions& regions() {
  static Regions& all = *new Regions;  // outlives what was allocated from it, whenever that goes
  return all;
}

// Regions where huge pages are to be had; and not where AddressSanitizer watches the borders between allocations.
#if defined(__SANITIZE_ADDRESS__) || !defined(__linux__)
constexpr bool kShare = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kShare = false;
#else
constexpr bool kShare = true;
#endif
#else
constexpr bool kShare = true;
#endif
bool shares(std::size_t bytes) { return kShare && bytes >= kSmall && bytes < kRegion / 2; }

std::atomic<std::uint64_t> allocations = 0;

}  // namespace

std::uint64_t large_allocations() { return allocations; }

void* allocate_large(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (bytes >= kRegion / 2) return huge_pages(bytes);
  if (shares(bytes)) return regions().take(round_up(bytes, 64));
  void* block = std::aligned_alloc(64, round_up(std::max<std::size_t>(bytes, 1), 64));
  if (!block) throw std::bad_alloc();
  return block;
}

void free_large(void* memory, std::size_t bytes) noexcept {
  if (shares(bytes)) return regions().give_back(memory, round_up(bytes, 64));
  std::free(memory);
}

}  // namespace glassformer
