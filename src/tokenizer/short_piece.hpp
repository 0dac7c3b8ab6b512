// Pieces of up to 15 bytes as two words, so that one comparison decides: most words of a text are that short.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace glassformer::tokenizer {

struct ShortPiece {
  static constexpr std::size_t most_bytes = 15;
  std::uint64_t low = 0, high = 0;  // the bytes, then zeros; the last byte is the length. Never both 0

  std::size_t size() const { return high >> 56; }
  bool operator==(const ShortPiece&) const = default;
  // The high bits of both products depend on every byte.
  std::uint64_t hash() const {
    const std::uint64_t h = low * 0x9E3779B97F4A7C15u + (high ^ low >> 32) * 0xD6E8FEB86659FD93u;
    return h ^ h >> 29;
  }
};

// `readable`: how many bytes may be read from the piece's first on; from 16 on no byte is copied one by one.
inline ShortPiece short_piece(std::string_view piece, std::size_t readable) {
  const std::size_t n = piece.size();
  std::uint64_t words[2] = {0, 0};
  if (readable >= 16)
    std::memcpy(words, piece.data(), 16);
  else
    std::memcpy(words, piece.data(), n);
  const auto kept = [](std::size_t bytes) { return bytes >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * bytes) - 1; };
  return {words[0] & kept(n), (n > 8 ? words[1] & kept(n - 8) : 0) | std::uint64_t{n} << 56};
}

// A map from short pieces to values, in no order. Linear probing at a load of at most one half.
template <class V>
class ShortPieceMap {
 public:
  struct Slot {
    ShortPiece piece;  // length 0: free
    V value{};
  };
  explicit ShortPieceMap(std::size_t slots = 256) : slots_(slots) {}
  std::size_t size() const { return size_; }
  // Calls f(piece, value) for each.
  template <class F>
  void for_each(F&& f) const {
    for (const Slot& s : slots_)
      if (s.piece.high != 0) f(s.piece, s.value);
  }

  // The value of the piece, value-initialised when it is new. The reference lives until the next call.
  V& insert(const ShortPiece& piece) {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = home(piece);; i = (i + 1) & mask) {
      if (slots_[i].piece == piece) return slots_[i].value;
      if (slots_[i].piece.high != 0) continue;
      if (2 * (size_ + 1) > slots_.size()) return grow(), insert(piece);
      ++size_;
      slots_[i].piece = piece;
      return slots_[i].value;
    }
  }

 private:
  std::size_t home(const ShortPiece& piece) const { return static_cast<std::size_t>(piece.hash() >> 20) & (slots_.size() - 1); }
  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    size_ = 0;
    for (const Slot& s : old)
      if (s.piece.high != 0) insert(s.piece) = s.value;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace glassformer::tokenizer
