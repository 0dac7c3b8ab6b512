#include "glassformer/core/parallel.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace glassformer;

TEST_CASE("every task runs once, for any number of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    for (const Index tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> count(static_cast<std::size_t>(tasks));
      parallel_for(threads, tasks, [&](Index i) { ++count[static_cast<std::size_t>(i)]; });
      for (const auto& c : count) CHECK(c == 1);
    }
  }
}

TEST_CASE("blocks cover the range without overlap") {
  std::vector<int> seen(1001);
  parallel_blocks(4, 1001, 16, [&](Index begin, Index end) {
    CHECK(end - begin <= 16);
    for (Index i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
  });
  CHECK(std::accumulate(seen.begin(), seen.end(), 0) == 1001);
  CHECK(*std::min_element(seen.begin(), seen.end()) == 1);
}

TEST_CASE("an exception from a task comes out after the loop, and the pool goes on") {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> ran = 0;
    CHECK_THROWS_AS(parallel_for(3, 20, [&](Index i) {
                      ++ran;
                      if (i == 5) throw std::runtime_error("task");
                    }),
                    std::runtime_error);
    CHECK(ran == 20);
  }
}

TEST_CASE("a loop within a loop, and loops from several threads at once") {
  std::atomic<int> count = 0;
  parallel_for(2, 4, [&](Index) { parallel_for(2, 5, [&](Index) { ++count; }); });
  CHECK(count == 20);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) callers.emplace_back([&] { for (int r = 0; r < 200; ++r) parallel_for(2, 3, [&](Index) { ++count; }); });
  for (auto& t : callers) t.join();
  CHECK(count == 20 + 4 * 200 * 3);
}

TEST_CASE("at least one thread is available") { CHECK(available_threads() >= 1); }
