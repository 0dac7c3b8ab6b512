// An open-addressing map from a pair of tokens to a 32-bit value: the table that every merge step asks.
#pragma once
#include <cstdint>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer::tokenizer {

using PairKey = std::uint64_t;
inline PairKey pair_key(Token left, Token right) { return PairKey(std::uint32_t(left)) << 32 | std::uint32_t(right); }
inline Token left_of(PairKey key) { return Token(key >> 32); }
inline Token right_of(PairKey key) { return Token(key & 0xffffffffu); }

// Linear probing at a load of at most one half. Keys are never removed. The key ~0 (two tokens of −1) is not a pair.
class PairMap {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  explicit PairMap(std::size_t expected = 0) {
    std::size_t slots = 16;
    while (slots < 2 * expected) slots *= 2;
    resize(slots);
  }
  std::size_t size() const { return size_; }

  // The value at the key, or `none`.
  std::uint32_t find(PairKey key) const {
    for (std::size_t i = slot(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].value;
      if (slots_[i].key == empty) return none;
    }
  }
  // The value at the key, put there first if the key is new. The reference lives until the next call.
  std::uint32_t& insert(PairKey key, std::uint32_t value) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    for (std::size_t i = slot(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].value;
      if (slots_[i].key == empty) {
        slots_[i] = {key, value};
        ++size_;
        return slots_[i].value;
      }
    }
  }

 private:
  static constexpr PairKey empty = ~PairKey{0};
  struct Slot {
    PairKey key = empty;
    std::uint32_t value = none;
  };

  std::size_t slot(PairKey key) const { return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> 20) & mask_; }
  void resize(std::size_t slots) { slots_.assign(slots, Slot{}), mask_ = slots - 1, size_ = 0; }
  void grow() {
    std::vector<Slot> old = std::move(slots_);
    resize(2 * old.size());
    for (const Slot& s : old)
      if (s.key != empty) insert(s.key, s.value);
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0, size_ = 0;
};

}  // namespace glassformer::tokenizer
