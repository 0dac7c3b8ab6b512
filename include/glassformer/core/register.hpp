// The width of a vector register of the processor that this is compiled for. The kernels that are compiled for several (ops/kernels) state their own.
// Not inline: a program that is compiled for another processor has another width.
#pragma once
#include <cstddef>

namespace glassformer {

#if defined(__AVX512F__)
constexpr std::size_t kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr std::size_t kRegisterBytes = 32;
#else
constexpr std::size_t kRegisterBytes = 16;
#endif

}  // namespace glassformer
