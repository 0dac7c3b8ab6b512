#include "glassformer/bench/machine.hpp"

#include <numeric>
#include <vector>

#include "bench/timing.hpp"
#include "glassformer/core/register.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"

namespace glassformer {
namespace {

typedef float Lanes __attribute__((vector_size(kRegisterBytes)));

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
constexpr Index kStripe = kLoads * Index{kRegisterBytes};

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
  constexpr double kFlops = 2.0 * (kRegisterBytes / sizeof(float)) * kChains * kIterations;
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

double gemm_gflops(Product product, Index rows, Index columns, Index inner, int threads, double seconds) {
  const auto filled = [](Index r, Index c) { return Matrix<float>(Matrix<float>::Constant(r, c, 0.5F)); };
  const Matrix<float> x = filled(rows, inner), w = filled(columns, inner), dy = filled(rows, columns);
  Matrix<float> y(rows, columns), dx(rows, inner), dw = filled(columns, inner);
  Exec exec;
  exec.threads = threads;
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto began = Clock::now();
    if (product == Product::forward) ops::multiply_nt<float>(1, x, w, 0, y, exec);
    if (product == Product::input) ops::multiply_nn<float>(1, dy, w, 0, dx, exec);
    if (product == Product::parameters) ops::multiply_tn<float>(1, dy, x, 1, dw, exec);
    best = std::max(best, 2e-9 * static_cast<double>(rows * columns * inner) / seconds_since(began));
  } while (seconds_since(start) < seconds);
  return best;
}

MemoryMeter::MemoryMeter(int threads, Index bytes) : threads_(threads) {
  require(threads > 0 && bytes > 0, "memory: expected threads and bytes above 0, found {} and {}", threads, bytes);
  buffer_.resize(static_cast<std::size_t>(bytes));
  std::ranges::fill(buffer_, std::byte{0});  // or the system would have every page read be one and the same
}

double MemoryMeter::read_gb_per_s(int passes) const {
  const Index stripes = static_cast<Index>(buffer_.size()) / kStripe / threads_;  // of one thread
  std::vector<float> keep(static_cast<std::size_t>(threads_));
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const auto start = Clock::now();
    parallel_for(threads_, threads_,
                 [&](Index t) { keep[static_cast<std::size_t>(t)] += read_all(buffer_.data() + t * stripes * kStripe, stripes); });
    best = std::max(best, 1e-9 * static_cast<double>(stripes * kStripe * threads_) / seconds_since(start));
  }
  require(std::accumulate(keep.begin(), keep.end(), 0.0F) == 0, "unreachable: keeps the sums alive");
  return best;
}

}  // namespace glassformer
