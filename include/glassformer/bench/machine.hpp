// What this machine can do, measured: the limits that everything else is a share of. Timings drift from run to run, on shared machines by
// half, so limits and what they limit are measured in turn in one run.
#pragma once
#include <vector>

#include "glassformer/core/large_memory.hpp"
#include "glassformer/core/parallel.hpp"

namespace glassformer {

// Fused multiply-adds in registers on all threads at once, in GFLOP/s (two operations each), in the widest vectors that the library is
// compiled for: the most that any kernel could reach, unless it was chosen at run time from a wider set (GLASSFORMER_NATIVE=OFF).
double fma_peak_gflops(int threads, double seconds = 0.2);

// The three matrix products of a linear layer with `rows` tokens, `columns` outputs and `inner` inputs.
enum class Product {
  forward,    // y = x·Wᵀ    [rows, inner]·[columns, inner]ᵀ
  input,      // dx = dy·W    [rows, columns]·[columns, inner]
  parameters  // dW += dyᵀ·x  [rows, columns]ᵀ·[rows, inner]
};
// GFLOP/s of the engine's own product of matrices of this shape, the best of as many as fit into `seconds`.
double gemm_gflops(Product, Index rows, Index columns, Index inner, int threads, double seconds = 0.2);

// Reads a buffer much larger than any cache, on all threads at once: the memory limit of decoding, which reads every weight once a token.
class MemoryMeter {
 public:
  explicit MemoryMeter(int threads, Index bytes = Index{1} << 29);
  // The best of `passes` over the buffer, in GB/s (10⁹ bytes).
  double read_gb_per_s(int passes = 4) const;

 private:
  int threads_;
  std::vector<std::byte, LargeAllocator<std::byte>> buffer_;
};

}  // namespace glassformer
