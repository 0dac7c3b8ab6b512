// For tests of what allocates.
#pragma once
#include <cstdint>

namespace glassformer {

std::uint64_t large_allocations();  // how often allocate_large was called, whether it took new memory or a piece of a region

}  // namespace glassformer
