#include "glassformer/core/large_memory.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "core/large_allocations.hpp"
#include "glassformer/core/parallel.hpp"

using namespace glassformer;

TEST_CASE("large memory: aligned, apart from each other, and given back in any order, from several threads") {
  struct Piece {
    unsigned char* data;
    std::size_t bytes;
  };
  parallel_for(4, 4, [](Index t) {
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < 60; ++i) {  // below, within and above what shares a region
      const std::size_t bytes = i % 20 == 19 ? (std::size_t{9} << 20) + i : std::size_t{1} << (i % 23);
      pieces.push_back({static_cast<unsigned char*>(allocate_large(bytes)), bytes});
      REQUIRE(reinterpret_cast<std::uintptr_t>(pieces.back().data) % 64 == 0);
      std::memset(pieces.back().data, static_cast<int>(16 * t + static_cast<Index>(i) % 16), bytes);
      if (i % 3 != 2) continue;
      const std::size_t goes = (7 * i) % pieces.size();
      free_large(pieces[goes].data, pieces[goes].bytes);
      pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(goes));
    }
    for (const Piece& p : pieces) {
      bool same = true;
      for (std::size_t k = 1; k < p.bytes; ++k) same &= p.data[k] == p.data[0];
      CHECK(same);
      free_large(p.data, p.bytes);
    }
  });
}

TEST_CASE("large memory: more than there is") {
  CHECK_THROWS_AS(allocate_large(static_cast<std::size_t>(-1) - 100), std::bad_alloc);
  CHECK_THROWS_AS((LargeAllocator<double>().allocate(static_cast<std::size_t>(-1) / 4)), std::bad_alloc);
  std::vector<int, LargeAllocator<int>> x(3, 7);
  x.resize(100000);
  CHECK(x[2] == 7);
}

TEST_CASE("large memory: each allocation is counted, from a region that is there already too") {
  const std::uint64_t before = large_allocations();
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100} << 10, std::size_t{100} << 10, std::size_t{9} << 20}) free_large(allocate_large(bytes), bytes);
  CHECK(large_allocations() == before + 4);
}
