// Byte-level BPE encoding: pre-tokens, and within each the adjacent pair of the lowest rank merges until none has a rank.
#include "tokenizer/impl.hpp"
#include "tokenizer/merge.hpp"
#include "tokenizer/piece_map.hpp"
#include "tokenizer/pre_tokenizer.hpp"

namespace glassformer::tokenizer {
namespace {

constexpr std::size_t short_piece = 24;   // up to this many bytes a scan beats a heap
constexpr std::size_t cached_piece = 48;  // longer pieces seldom repeat

std::uint32_t rank_of(const Tokenizer::Impl& t, Token left, Token right) { return t.ranks.find(pair_key(left, right)); }

// Short pieces: find the lowest rank (the leftmost of equal ones) by a scan, merge, update the two neighbours, again.
void merge_short(const Tokenizer::Impl& t, std::string_view piece, std::vector<Token>& out) {
  Token ids[short_piece];
  std::uint32_t ranks[short_piece];  // ranks[i]: of the pair (ids[i], ids[i+1])
  std::size_t n = piece.size();
  for (std::size_t i = 0; i < n; ++i) ids[i] = t.byte_ids[static_cast<unsigned char>(piece[i])];
  for (std::size_t i = 0; i + 1 < n; ++i) ranks[i] = rank_of(t, ids[i], ids[i + 1]);
  while (n > 1) {
    const auto best = static_cast<std::size_t>(std::min_element(ranks, ranks + n - 1) - ranks);
    if (ranks[best] == PairMap::none) break;
    ids[best] = t.merged[ranks[best]];
    std::copy(ids + best + 2, ids + n, ids + best + 1);
    std::copy(ranks + best + 1, ranks + n - 1, ranks + best);
    --n;
    if (best > 0) ranks[best - 1] = rank_of(t, ids[best - 1], ids[best]);
    if (best + 1 < n) ranks[best] = rank_of(t, ids[best], ids[best + 1]);
  }
  out.insert(out.end(), ids, ids + n);
}

std::vector<Token> bytes_of(const Tokenizer::Impl& t, std::string_view piece) {
  std::vector<Token> ids;
  ids.reserve(piece.size());
  for (const char b : piece) ids.push_back(t.byte_ids[static_cast<unsigned char>(b)]);
  return ids;
}

template <class G = NobodyLooks> void merge_by_rank(const Tokenizer::Impl& t, std::vector<Token>& ids, G&& on_merge = {}) {
  const auto candidate = [&](Token left, Token right) {
    const std::uint32_t rank = rank_of(t, left, right);
    return rank == PairMap::none ? Candidate{} : Candidate{rank, t.merged[rank]};
  };
  merge_with_heap(ids, candidate, on_merge);
}

void merge_long(const Tokenizer::Impl& t, std::string_view piece, std::vector<Token>& out) {
  std::vector<Token> ids = bytes_of(t, piece);
  merge_by_rank(t, ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

}  // namespace

void encode_bpe(const Tokenizer::Impl& t, std::string_view text, std::vector<Token>& out) {
  struct Place {
    std::size_t begin, count;  // where `out` holds the ids of a piece seen before
  };
  PieceMap<Place> seen;
  for_each_pre_token(text, [&](std::string_view piece) {
    if (piece.size() == 1) return out.push_back(t.byte_ids[static_cast<unsigned char>(piece[0])]);
    if (piece.size() > cached_piece) return merge_long(t, piece, out);
    const auto [place, is_new] = seen.insert(piece);
    if (is_new) {
      place.begin = out.size();
      piece.size() <= short_piece ? merge_short(t, piece, out) : merge_long(t, piece, out);
      place.count = out.size() - place.begin;
    } else {
      const std::size_t size = out.size();
      out.resize(size + place.count);
      std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(place.begin), place.count, out.begin() + static_cast<std::ptrdiff_t>(size));
    }
  });
}

std::vector<EncodedPiece> explain_bpe(const Tokenizer::Impl& t, std::string_view text) {
  std::vector<EncodedPiece> pieces;
  for (; !text.empty(); text.remove_prefix(pieces.back().bytes.size())) {
    const PreTokenMatch match = match_pre_token(text);
    EncodedPiece piece{std::string(text.substr(0, match.length)), match.rule, {}, {}, {}};
    piece.symbols = piece.ids = bytes_of(t, piece.bytes);
    merge_by_rank(t, piece.ids, [&](std::uint32_t at, Token left, Token right, Token merged) {
      piece.steps.push_back({static_cast<Index>(at), left, right, merged, static_cast<Index>(rank_of(t, left, right)), 0});
    });
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

}  // namespace glassformer::tokenizer
