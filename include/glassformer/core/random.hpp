// Counter-based random numbers: the i-th draw of a stream is a pure function of (seed, stream, i).
// Nothing has to be carried along, so threads, micro-batches and a resumed run all see the same numbers.
// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace glassformer {

struct RandomStream {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;

  // A stream of its own for a named purpose or a number: stream.at("dropout").at(layer)
  RandomStream at(std::string_view name) const;
  RandomStream at(std::uint64_t number) const;
};

// Ten rounds of Philox on a 128-bit counter under a 64-bit key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

std::uint64_t random_bits(const RandomStream&, std::uint64_t i);
// Uniform in [0, 1) with 53 bits.
double random_uniform(const RandomStream&, std::uint64_t i);
// Uniform integer in [0, n), n > 0, without modulo bias worth naming (64-bit multiply-shift).
std::uint64_t random_below(const RandomStream&, std::uint64_t i, std::uint64_t n);
// Standard normal by Box and Muller.
double random_normal(const RandomStream&, std::uint64_t i);

}  // namespace glassformer
