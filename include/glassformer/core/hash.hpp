// FNV-1a in 64 bits (Fowler, Noll, Vo): tells names, texts and tensors apart. Not for secrets: anyone can make two inputs with one hash.
//   h = 0xcbf29ce484222325;   for each byte b:  h = (h xor b)·0x100000001b3  mod 2⁶⁴
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace glassformer {

inline constexpr std::uint64_t kFnv1aStart = 0xcbf29ce484222325ULL;

// The hash of what `hash` is of, followed by `bytes`.
inline std::uint64_t fnv1a(std::span<const std::byte> bytes, std::uint64_t hash = kFnv1aStart) {
  for (const std::byte b : bytes) hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3ULL;
  return hash;
}
inline std::uint64_t fnv1a(std::string_view text) { return fnv1a(std::as_bytes(std::span(text))); }

}  // namespace glassformer
