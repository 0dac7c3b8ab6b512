// A map from pieces of a text (views into it) to values, in the order in which they came.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace glassformer::tokenizer {

template <class V>
class PieceMap {
 public:
  struct Entry {
    std::string_view piece;
    std::uint64_t hash;
    V value;
  };

  const std::vector<Entry>& entries() const { return entries_; }

  // The value of the piece, value-initialised when it is new (`second` is then true). The reference lives until the next call.
  std::pair<V&, bool> insert(std::string_view piece) {
    if (2 * (entries_.size() + 1) > slots_.size()) grow();
    const std::uint64_t hash = hash_of(piece);
    std::size_t i = hash & (slots_.size() - 1);
    for (; slots_[i] != 0; i = (i + 1) & (slots_.size() - 1)) {
      Entry& e = entries_[slots_[i] - 1];
      if (e.hash == hash && e.piece == piece) return {e.value, false};
    }
    entries_.push_back({piece, hash, V{}});
    slots_[i] = static_cast<std::uint32_t>(entries_.size());
    return {entries_.back().value, true};
  }

 private:
  // Eight bytes at a time: xor, multiply, fold the high half down.
  static std::uint64_t hash_of(std::string_view s) {
    std::uint64_t h = s.size() * 0x9E3779B97F4A7C15u;
    const auto mix = [&h](std::uint64_t word) { h = (h ^ word) * 0xD6E8FEB86659FD93u, h ^= h >> 32; };
    for (; s.size() >= 8; s.remove_prefix(8)) {
      std::uint64_t word;
      std::memcpy(&word, s.data(), 8);
      mix(word);
    }
    std::uint64_t word = 0;
    std::memcpy(&word, s.data(), s.size());
    mix(word);
    return h;
  }
  void grow() {
    slots_.assign(slots_.empty() ? 1024 : 2 * slots_.size(), 0);
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      std::size_t i = entries_[e].hash & (slots_.size() - 1);
      while (slots_[i] != 0) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = static_cast<std::uint32_t>(e + 1);
    }
  }

  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;  // 1 + place in entries_, 0 = free; a power of two, at most half full
};

}  // namespace glassformer::tokenizer
