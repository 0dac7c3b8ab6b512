// The ids of the pre-tokens that an encoder has met. Bounded: it forgets, and an entry that it has forgotten is made again.
#pragma once
#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <unordered_map>

#include "glassformer/core/matrix.hpp"
#include "tokenizer/short_piece.hpp"

namespace glassformer::tokenizer {

class PieceCache {
 public:
  static constexpr std::size_t inline_ids = 3, long_bytes = 48;  // longer pieces seldom repeat
  static constexpr std::size_t most_slots = std::size_t{1} << 19, most_kept_ids = std::size_t{1} << 20, most_long = std::size_t{1} << 16;

  // Half a cache line, read and written whole.
  struct alignas(32) Entry {
    ShortPiece piece;  // length 0: free
    std::uint32_t count = 0;
    std::array<Token, inline_ids> ids{};  // more than that: ids[0] is their place among the kept ones
  };

  // What the piece becomes, or null.
  const Entry* find(const ShortPiece& piece) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = home(piece);
    for (std::size_t probe = 0; probe < probes; ++probe, i = (i + 1) & mask) {
      if (slots_[i].piece == piece) return &slots_[i];
      if (slots_[i].piece.high == 0) return nullptr;
    }
    return nullptr;
  }
  const Token* ids_of(const Entry& e) const { return e.count <= inline_ids ? e.ids.data() : kept_.data() + e.ids[0]; }

  // For a piece that find() does not know.
  void remember(const ShortPiece& piece, std::span<const Token> ids) {
    if (kept_.size() + ids.size() > most_kept_ids) forget();
    if (2 * (size_ + 1) > slots_.size()) slots_.size() < most_slots ? grow() : forget();
    Entry e{piece, static_cast<std::uint32_t>(ids.size()), {}};
    if (ids.size() <= inline_ids) {
      std::copy(ids.begin(), ids.end(), e.ids.begin());
    } else {
      e.ids[0] = static_cast<Token>(kept_.size());
      kept_.insert(kept_.end(), ids.begin(), ids.end());
    }
    put(e);
  }

  // Pieces of more than ShortPiece::most_bytes. The pointer lives until the next call of remember.
  const std::vector<Token>* find_long(std::string_view piece) const {
    const auto found = long_.find(piece);
    return found == long_.end() ? nullptr : &found->second;
  }
  void remember_long(std::string_view piece, std::span<const Token> ids) {
    if (long_.size() >= most_long) long_.clear();
    long_.emplace(piece, std::vector<Token>(ids.begin(), ids.end()));
  }

  Index pieces = 0, merged = 0;  // looked up so far, and those of them whose ids had to be merged

 private:
  // However a text was made, a look-up costs no more than this: where all places are taken, the last is overwritten.
  static constexpr std::size_t probes = 8;

  std::size_t home(const ShortPiece& piece) const { return static_cast<std::size_t>(piece.hash() >> 20) & (slots_.size() - 1); }
  void put(const Entry& e) {
    std::size_t i = home(e.piece), mask = slots_.size() - 1;
    for (std::size_t probe = 1; probe < probes && slots_[i].piece.high != 0; ++probe) i = (i + 1) & mask;
    size_ += slots_[i].piece.high == 0;
    slots_[i] = e;
  }
  void grow() {
    std::vector<Entry> old(2 * slots_.size());
    old.swap(slots_);
    size_ = 0;
    for (const Entry& e : old)
      if (e.piece.high != 0) put(e);
  }
  void forget() {
    std::fill(slots_.begin(), slots_.end(), Entry{});
    kept_.clear(), size_ = 0;
  }

  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::vector<Entry> slots_ = std::vector<Entry>(256);
  std::size_t size_ = 0;
  std::vector<Token> kept_;
  std::unordered_map<std::string, std::vector<Token>, Hash, std::equal_to<>> long_;
};

}  // namespace glassformer::tokenizer
