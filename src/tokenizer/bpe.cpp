// Byte-level BPE encoding: pre-tokens, and within each the adjacent pair of the lowest rank merges until none has a rank.
#include "tokenizer/impl.hpp"
#include "tokenizer/merge.hpp"
#include "tokenizer/piece_cache.hpp"
#include "tokenizer/pre_tokenizer.hpp"

namespace glassformer::tokenizer {
namespace {

constexpr std::size_t short_piece_bytes = 24;  // up to this many a scan beats a heap

std::uint32_t rank_of(const Tokenizer::Impl& t, Token left, Token right) { return t.ranks.find(pair_key(left, right)); }

// Short pieces: find the lowest rank (the leftmost of equal ones) by a scan, merge, update the two neighbours, again.
void merge_short(const Tokenizer::Impl& t, std::string_view piece, std::vector<Token>& out) {
  Token ids[short_piece_bytes];
  std::uint32_t ranks[short_piece_bytes];  // ranks[i]: of the pair (ids[i], ids[i+1])
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

template <class G = NobodyLooks>
void merge_by_rank(const Tokenizer::Impl& t, std::vector<Token>& ids, G&& on_merge = {}) {
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

void encode_bpe(const Tokenizer::Impl& t, PieceCache& cache, std::string_view text, std::vector<Token>& out) {
  std::vector<Token> merged;  // of one piece
  const auto merge = [&](std::string_view piece) {
    ++cache.merged;
    merged.clear();
    piece.size() <= short_piece_bytes ? merge_short(t, piece, merged) : merge_long(t, piece, merged);
    return std::span<const Token>(merged);
  };
  // Ids gather in a buffer of fixed size, which needs no look at the vector for each.
  std::array<Token, 2048> ids;
  std::size_t count = 0;
  const auto append = [&](const Token* begin, std::size_t n) {
    out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
    out.insert(out.end(), begin, begin + n);
    count = 0;
  };
  for_each_pre_token(text, [&](std::string_view piece) {
    ++cache.pieces;
    if (piece.size() <= ShortPiece::most_bytes) {
      const ShortPiece key = short_piece(piece, static_cast<std::size_t>(text.data() + text.size() - piece.data()));
      const PieceCache::Entry* known = cache.find(key);
      if (known == nullptr) {
        const auto found = merge(piece);
        cache.remember(key, found);
        append(found.data(), found.size());
      } else if (known->count <= PieceCache::inline_ids) {
        std::copy(known->ids.begin(), known->ids.end(), ids.begin() + static_cast<std::ptrdiff_t>(count));
        count += known->count;
        if (count > ids.size() - PieceCache::inline_ids) append(nullptr, 0);
      } else {
        append(cache.ids_of(*known), known->count);
      }
      return;
    }
    if (const auto* known = piece.size() <= PieceCache::long_bytes ? cache.find_long(piece) : nullptr)
      return append(known->data(), known->size());
    const auto found = merge(piece);
    if (piece.size() <= PieceCache::long_bytes) cache.remember_long(piece, found);
    append(found.data(), found.size());
  });
  append(nullptr, 0);
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
