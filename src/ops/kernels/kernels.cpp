#include "ops/kernels/kernels.hpp"

#include <cstdlib>
#include <string_view>

namespace glassformer::ops::kernels {
namespace {

const Kernels& choose() {
  const char* wanted = std::getenv("GLASSFORMER_SIMD");
  const std::string_view name = wanted ? wanted : "";
  if (name != "portable" && name != "avx2" && can_run(avx512)) return avx512;
  return name != "portable" && can_run(avx2) ? avx2 : portable;
}

}  // namespace

bool can_run(const Kernels& k) {
  if (!k.name) return false;
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (&k == &avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  if (&k == &avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
  return &k == &portable;
}

const Kernels& chosen() {
  static const Kernels& best = choose();
  return best;
}

}  // namespace glassformer::ops::kernels
