#include "glassformer/core/parallel.hpp"

#include <omp.h>

#include <exception>
#include <mutex>

namespace glassformer {

int available_threads() { return omp_get_num_procs(); }

namespace detail {

void parallel_run(int threads, Index tasks, void* context, void (*call)(void*, Index)) {
  std::exception_ptr failure;
  std::mutex guard;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (Index i = 0; i < tasks; ++i) {
    try {
      call(context, i);
    } catch (...) {  // an exception must not leave a parallel region
      const std::scoped_lock lock(guard);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail
}  // namespace glassformer
