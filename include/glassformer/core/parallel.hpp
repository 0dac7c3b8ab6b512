// The parallel loop, and how to run.
#pragma once
#include <algorithm>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

// `reference` computes by the formulas of ops/reference, `fused` by the fast kernels; a test holds them equal.
enum class Kernels { fused, reference };
// What a quantized weight is multiplied with: the activations as they are, or in 8 bits a block of 32 (as q8_0), so that a block's product is a
// sum of whole numbers. That is faster where arithmetic is the limit (reading a prompt, several sequences at once) and costs some accuracy.
enum class Activations { exact, int8 };

struct Exec {
  int threads = 1;
  Kernels kernels = Kernels::fused;
  // True while decoding: linear layers then sum every row in one order that does not depend on how many
  // rows there are, so a sequence gets the same bits alone and in a batch.
  bool row_exact = false;
  Activations activations = Activations::exact;
};

// The number of processors this process may use.
int available_threads();

// Calls f(0) … f(tasks-1), each once, on `threads` threads. Work must be cut into tasks by shape alone, never by the number of
// threads: that is what makes results the same for any number of them (a matrix product may be cut anywhere: ops.md). An exception from a task is thrown after the loop.
template <class F> void parallel_for(int threads, Index tasks, F&& f);

// As parallel_for over [0, n) in blocks of `block`: f(begin, end).
template <class F> void parallel_blocks(int threads, Index n, Index block, F&& f) {
  parallel_for(threads, (n + block - 1) / block, [&](Index b) { f(b * block, std::min(n, (b + 1) * block)); });
}

namespace detail {
void parallel_run(int threads, Index tasks, void* context, void (*call)(void*, Index));
}

template <class F> void parallel_for(int threads, Index tasks, F&& f) {
  if (threads <= 1 || tasks <= 1) {
    for (Index i = 0; i < tasks; ++i) f(i);
    return;
  }
  using Function = std::remove_reference_t<F>;
  detail::parallel_run(threads, tasks, const_cast<void*>(static_cast<const void*>(&f)), [](void* context, Index i) { (*static_cast<Function*>(context))(i); });
}

}  // namespace glassformer
