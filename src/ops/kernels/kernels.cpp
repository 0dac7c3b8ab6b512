#include "ops/kernels/kernels.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace glassformer::ops::kernels {
namespace {

const Kernels& choose() {
  const char* wanted = std::getenv("GLASSFORMER_SIMD");
  const std::string_view name = wanted ? wanted : "avx512";
  if (name != "avx512" && name != "avx2" && name != "portable") {
    throw std::invalid_argument("GLASSFORMER_SIMD: expected avx512, avx2 or portable, found " + std::string(name));
  }
  if (name == "avx512" && can_run(avx512)) return avx512;
  return name != "portable" && can_run(avx2) ? avx2 : portable;
}

}  // namespace

bool can_run(const Kernels& k) {
  if (!k.name) return false;
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  // All that -march=x86-64-v3 and -v4 let a compiler use, as far as it can be asked for: a virtual machine may hide some of it.
  const bool v3 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (&k == &avx2) return v3;
  if (&k == &avx512) {
    return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vnni");
  }
#endif
  return &k == &portable;
}

const Kernels& chosen() {
  static const Kernels& best = choose();
  return best;
}

}  // namespace glassformer::ops::kernels
