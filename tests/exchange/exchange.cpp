// What several processes find together. Alone (as ctest runs it first) there is nothing to join and these cases pass over it;
// CMakeLists.txt has it started by mpirun, and says in TEST_RANKS how many there must be.
#include "glassformer/exchange/exchange.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <thread>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/random.hpp"

namespace {
constexpr std::size_t kLarge = 3000;    // bytes
std::atomic<std::size_t> allocated{0};  // by pieces of at least kLarge
std::atomic<std::size_t> refused_from{std::numeric_limits<std::size_t>::max()};
}  // namespace

// This program's memory, so that it can be counted and run out. Not inlined: GCC 12 would take malloc and delete for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (bytes >= kLarge) allocated += bytes;
  void* memory = bytes >= refused_from ? nullptr : std::malloc(bytes);
  if (!memory) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace glassformer {
namespace {

// One for all cases: a process joins once.
Exchange* joined() {
  static const std::unique_ptr<Exchange> exchange = Exchange::join();
  if (const char* ranks = std::getenv("TEST_RANKS")) {
    REQUIRE(exchange != nullptr);
    REQUIRE(exchange->ranks() == std::atoi(ranks));
  }
  return exchange.get();
}

template <class S>
Arena<S> arena_of(Index numbers, std::uint64_t stream) {
  auto layout = std::make_shared<ArenaLayout>();
  layout->add("x", 1, numbers, ParameterKind::hidden);
  Arena<S> arena(layout);
  for (Index i = 0; i < numbers; ++i)
    arena.values()[static_cast<std::size_t>(i)] = static_cast<S>(random_normal({7, stream}, static_cast<std::uint64_t>(i)));
  return arena;
}

// The sum of the leaves of a node by one process, in the tree's order.
template <class S>
Arena<S> alone(Leaves node, Index numbers) {
  if (node.size() == 1) return arena_of<S>(numbers, static_cast<std::uint64_t>(node.begin));
  const Index split = tree_split(node);
  Arena<S> sum = alone<S>({node.begin, split}, numbers);
  add_to<S>(sum.values(), alone<S>({split, node.end}, numbers).values(), 1);
  return sum;
}

template <class S>
void check_sums(Exchange& exchange, Index each) {
  constexpr Index kNumbers = 3000;
  const auto tree = std::make_shared<SharedTree>(each * exchange.ranks(), exchange.ranks());
  std::vector<Arena<S>> parts;
  for (const Leaves piece : tree->pieces(exchange.rank())) parts.push_back(alone<S>(piece, kNumbers));
  exchange.begin_sum(tree, parts, 2999, kNumbers);  // fewer numbers than processes
  exchange.begin_sum(tree, parts, 1000, 2999);      // two at a time
  exchange.begin_sum(tree, parts, 0, 1000);
  exchange.wait();
  const Arena<S> expected = alone<S>({0, each * exchange.ranks()}, kNumbers);
  CHECK(std::ranges::equal(parts[0].values(), expected.values()));
}

}  // namespace

TEST_CASE("ranks: sums have the bits of one process that adds in the tree's order") {
  Exchange* exchange = joined();
  if (!exchange) return;
  for (const Index each : {1, 2, 3, 4}) {
    check_sums<float>(*exchange, each);
    check_sums<double>(*exchange, each);
  }
}

TEST_CASE("ranks: values are gathered in order") {
  Exchange* exchange = joined();
  if (!exchange) return;
  const auto numbers = exchange->gather<std::int64_t>(100 + exchange->rank());
  REQUIRE(numbers.size() == static_cast<std::size_t>(exchange->ranks()));
  for (int rank = 0; rank < exchange->ranks(); ++rank) CHECK(numbers[static_cast<std::size_t>(rank)] == 100 + rank);
  const std::vector<double> mine{0.5 * exchange->rank(), -1};
  CHECK(exchange->gather_all<double>(mine)[static_cast<std::size_t>(2 * (exchange->ranks() - 1))] == 0.5 * (exchange->ranks() - 1));
  CHECK(exchange->any(exchange->rank() == exchange->ranks() - 1));
  CHECK_FALSE(exchange->any(false));
}

TEST_CASE("ranks: a sum goes on while nobody waits for it, and the time in the exchange has its name") {
  Exchange* exchange = joined();
  if (!exchange) return;
  const auto tree = std::make_shared<SharedTree>(exchange->ranks(), exchange->ranks());
  const Index numbers = 1 << 16;
  const std::vector<Arena<float>> parts{arena_of<float>(numbers, 1)};
  const auto summed = [&] { return exchange->statistics().summed_bytes; };
  bool early = false;
  for (int milliseconds = 1; !early && milliseconds <= 4096; milliseconds *= 4) {  // how long it takes depends on what else the machine does
    const double early_before = exchange->statistics().early_bytes, before = summed();
    exchange->begin_sum(tree, parts, 0, numbers);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    Profile profile;
    exchange->wait();
    profile.stop();
    CHECK(profile.seconds(Operation::exchange) > 0);
    CHECK(summed() - before == 4 * numbers);
    early = !exchange->any(exchange->statistics().early_bytes - early_before != 4 * numbers);
  }
  CHECK(early);
  Profile profile;
  exchange->gather(1);
  profile.stop();
  CHECK(profile.seconds(Operation::exchange) > 0);
}

TEST_CASE("ranks: what is received takes no more memory than one step's parts, in whatever order and number they are under way") {
  Exchange* exchange = joined();
  if (!exchange) return;
  const int ranks = exchange->ranks();
  const auto tree = std::make_shared<SharedTree>(ranks, ranks);
  const Index unit = Index{ranks} * 4096, numbers = 64 * unit;  // segments of 4096 numbers
  const std::vector<Arena<float>> parts{arena_of<float>(numbers, 1)};
  exchange->any(false);
  allocated = 0;
  for (int step = 0; step < 20; ++step) {
    Index end = numbers;
    for (const Index units : {1, 30, 2, 20, 11}) {
      exchange->begin_sum(tree, parts, end - units * unit, end);
      end -= units * unit;
      if (step % 2 == 0) exchange->wait();  // one after another
    }
    exchange->wait();
  }
  CHECK(allocated > 0);
  CHECK(allocated <= static_cast<std::size_t>(ranks - 1) * static_cast<std::size_t>(numbers / ranks) * sizeof(float));
}

TEST_CASE("failing: memory that runs out while one process receives is its own failure, and the others are told") {
  Exchange* exchange = joined();
  if (!exchange) return;
  const int fails = exchange->ranks() - 1;
  const auto tree = std::make_shared<SharedTree>(exchange->ranks(), exchange->ranks());
  const Index numbers = 1 << 20;
  const std::vector<Arena<float>> parts{arena_of<float>(numbers, 1)};
  if (exchange->rank() == fails) refused_from = 100000;
  exchange->begin_sum(tree, parts, numbers / 2, numbers);
  exchange->begin_sum(tree, parts, 0, numbers / 2);
  if (exchange->rank() == fails) {
    CHECK_THROWS_AS(exchange->wait(), std::bad_alloc);
    exchange->begin_sum(tree, parts, 0, numbers);  // comes to nothing
    CHECK_THROWS_AS(exchange->gather(1), std::bad_alloc);
    CHECK(exchange->fail("no memory"));
  } else {
    const std::string why = exchange->name(fails) + ": no memory";
    CHECK_THROWS_WITH_AS(exchange->wait(), why.c_str(), RankFailed);
  }
}

// Not a test: what the cost model of docs/scaling.md needs to know of these processes and what lies between them. tests/bench/scaling.sh
TEST_CASE("probe: seconds of sums of few and of many numbers" * doctest::skip()) {
  Exchange* exchange = joined();
  REQUIRE(exchange != nullptr);
  const auto tree = std::make_shared<SharedTree>(exchange->ranks(), exchange->ranks());
  const auto seconds = [&](Index numbers, int repeats) {
    const std::vector<Arena<float>> parts{arena_of<float>(numbers, 1)};
    double least = 1e9;
    for (int i = 0; i < repeats; ++i) {
      exchange->any(false);  // all begin together
      const auto start = std::chrono::steady_clock::now();
      exchange->begin_sum(tree, parts, 0, numbers);
      exchange->wait();
      least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return least;
  };
  const double few = seconds(16, 200), many = seconds(Index{1} << 22, 12);
  if (exchange->is_first())
    std::printf("{\"ranks\":%d,\"few_seconds\":%.9f,\"many_bytes\":%d,\"many_seconds\":%.9f}\n", exchange->ranks(), few, 1 << 24, many);
}

}  // namespace glassformer
