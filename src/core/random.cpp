#include "glassformer/core/random.hpp"

#include <cmath>
#include <numbers>

#include "glassformer/core/hash.hpp"

namespace glassformer {
namespace {

__extension__ using Wide = unsigned __int128;

// Steele, Lea, Flood 2014 (SplitMix64's finaliser): spreads every bit of the input over the whole word.
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> x, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = 0xD2511F53ULL * x[0], p1 = 0xCD9E8D57ULL * x[2];
    x = {static_cast<std::uint32_t>(p1 >> 32) ^ x[1] ^ key[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ x[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return x;
}

RandomStream RandomStream::at(std::uint64_t number) const { return {seed, mix(stream + 0x9e3779b97f4a7c15ULL * (number + 1))}; }

RandomStream RandomStream::at(std::string_view name) const { return at(fnv1a(name)); }

std::uint64_t random_bits(const RandomStream& s, std::uint64_t i) {
  const auto x = philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), static_cast<std::uint32_t>(s.stream),
                         static_cast<std::uint32_t>(s.stream >> 32)},
                        {static_cast<std::uint32_t>(s.seed), static_cast<std::uint32_t>(s.seed >> 32)});
  return (static_cast<std::uint64_t>(x[1]) << 32) | x[0];
}

double random_uniform(const RandomStream& s, std::uint64_t i) { return static_cast<double>(random_bits(s, i) >> 11) * 0x1p-53; }

std::uint64_t random_below(const RandomStream& s, std::uint64_t i, std::uint64_t n) {
  return static_cast<std::uint64_t>((static_cast<Wide>(random_bits(s, i)) * n) >> 64);
}

double random_normal(const RandomStream& s, std::uint64_t i) {
  const double u = random_uniform(s, 2 * i), v = random_uniform(s, 2 * i + 1);
  return std::sqrt(-2 * std::log1p(-u)) * std::cos(2 * std::numbers::pi * v);
}

}  // namespace glassformer
