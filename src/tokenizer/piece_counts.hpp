// How often each distinct pre-token of a text occurs.
#pragma once
#include "tokenizer/piece_map.hpp"
#include "tokenizer/segments.hpp"
#include "tokenizer/short_piece.hpp"

namespace glassformer::tokenizer {

class PieceCounts {
 public:
  void add(std::string_view text);  // which stays where it is: long pieces are views into it
  void add(const PieceCounts&);
  // Calls f(bytes, count) for each distinct piece of more than one byte, in no order that means anything.
  template <class F>
  void for_each(F&& f) const {
    short_.for_each([&](const ShortPiece& piece, Index count) {
      char bytes[16];
      std::memcpy(bytes, &piece.low, 8), std::memcpy(bytes + 8, &piece.high, 8);
      f(std::string_view(bytes, piece.size()), count);
    });
    for (const auto& e : long_.entries()) f(e.piece, e.value);
  }

 private:
  ShortPieceMap<Index> short_;
  PieceMap<Index> long_;
};

// Of the text between spellings of special tokens, counted in parts on several threads: the same counts for any number of them.
PieceCounts count_pieces(std::string_view text, const Spellings& special, int threads);

}  // namespace glassformer::tokenizer
