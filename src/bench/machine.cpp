#include "glassformer/bench/machine.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "bench/timing.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"

namespace glassformer {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef float Lanes __attribute__((vector_size(kVectorBytes)));

// Enough independent chains to fill two multiply-add units of four cycles' latency.
constexpr int kChains = 12;

float multiply_adds(Index iterations, float x) {
  Lanes sum[kChains], factor = Lanes{} + x, term = Lanes{} + 1e-3F;
  for (int c = 0; c < kChains; ++c) sum[c] = Lanes{} + static_cast<float>(c);
  for (Index i = 0; i < iterations; ++i) {
    for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * factor + term;
  }
  float total = 0;
  for (const Lanes& s : sum) total += s[0] + s[3];
  return total;
}

constexpr int kLoads = 8;  // independent sums
constexpr Index kStripe = kLoads * kVectorBytes;

float read_all(const std::byte* data, Index stripes) {
  Lanes sum[kLoads] = {};
  for (Index i = 0; i < stripes; ++i) {
    const auto* lanes = reinterpret_cast<const Lanes*>(data + i * kStripe);
    for (int k = 0; k < kLoads; ++k) sum[k] += lanes[k];
  }
  for (int k = 1; k < kLoads; ++k) sum[0] += sum[k];
  return sum[0][0];
}

}  // namespace

double fma_peak_gflops(int threads, double seconds) {
  constexpr Index kIterations = 1 << 16;
  constexpr double kFlops = 2.0 * (kVectorBytes / 4) * kChains * kIterations;
  std::vector<double> done(static_cast<std::size_t>(threads)), took(done.size());
  std::vector<float> keep(done.size());
  parallel_for(threads, threads, [&](Index t) {
    const auto at = static_cast<std::size_t>(t);
    const auto start = Clock::now();
    while (took[at] < seconds) {
      keep[at] +=
          multiply_adds(kIterations, static_cast<float>(0.999 - 1e-3 * took[at]));  // another factor each time, or it is computed once
      done[at] += kFlops;
      took[at] = seconds_since(start);
    }
  });
  require(std::accumulate(keep.begin(), keep.end(), 0.0F) != 0.5F, "unreachable: keeps the sums alive");
  double rate = 0;
  for (std::size_t t = 0; t < done.size(); ++t) rate += done[t] / took[t] / 1e9;
  return rate;
}

double gemm_gflops(Index rows, Index columns, Index inner, int threads, double seconds) {
  const Matrix<float> a = Matrix<float>::Constant(rows, inner, 0.5F), b = Matrix<float>::Constant(columns, inner, 0.25F);
  Matrix<float> c(rows, columns);
  Exec exec;
  exec.threads = threads;
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto began = Clock::now();
    ops::multiply_nt<float>(1, a, b, 0, c, exec);
    best = std::max(best, 2e-9 * static_cast<double>(rows * columns * inner) / seconds_since(began));
  } while (seconds_since(start) < seconds);
  return best;
}

void MemoryMeter::Free::operator()(void* p) const { std::free(p); }

MemoryMeter::MemoryMeter(int threads, Index bytes) : threads_(threads), bytes_(bytes) {
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  require(threads > 0 && bytes > 0, "memory: expected threads and bytes above 0, found {} and {}", threads, bytes);
  const auto size = (static_cast<std::size_t>(bytes) + kHugePage - 1) / kHugePage * kHugePage;
  buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, size)));
  if (!buffer_) throw std::bad_alloc();
#if defined(__linux__)
  madvise(buffer_.get(), size, MADV_HUGEPAGE);  // fewer misses of address translation: the limit is the memory's. May be refused
#endif
  std::memset(buffer_.get(), 0, size);
}

double MemoryMeter::read_gb_per_s(int passes) const {
  const Index stripes = bytes_ / kStripe / threads_;  // of one thread
  std::vector<float> keep(static_cast<std::size_t>(threads_));
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const auto start = Clock::now();
    parallel_for(threads_, threads_,
                 [&](Index t) { keep[static_cast<std::size_t>(t)] += read_all(buffer_.get() + t * stripes * kStripe, stripes); });
    best = std::max(best, 1e-9 * static_cast<double>(stripes * kStripe * threads_) / seconds_since(start));
  }
  require(std::accumulate(keep.begin(), keep.end(), 0.0F) == 0, "unreachable: keeps the sums alive");
  return best;
}

}  // namespace glassformer
