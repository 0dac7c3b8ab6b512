#include "tokenizer/piece_counts.hpp"

#include "glassformer/core/parallel.hpp"
#include "tokenizer/pool.hpp"
#include "tokenizer/pre_tokenizer.hpp"

namespace glassformer::tokenizer {

void PieceCounts::add(std::string_view text) {
  const char* end = text.data() + text.size();
  for_each_pre_token(text, [&](std::string_view piece) {
    if (piece.size() == 1) return;
    if (piece.size() <= ShortPiece::most_bytes)
      ++short_.insert(short_piece(piece, static_cast<std::size_t>(end - piece.data())));
    else
      ++long_.insert(piece).first;
  });
}

void PieceCounts::add(const PieceCounts& other) {
  other.short_.for_each([&](const ShortPiece& piece, Index count) { short_.insert(piece) += count; });
  for (const auto& e : other.long_.entries()) long_.insert(e.piece).first += e.value;
}

PieceCounts count_pieces(std::string_view text, const Spellings& special, int threads) {
  constexpr std::size_t task_bytes = std::size_t{1} << 20;
  std::vector<Segment> segments;
  append_segments(special, text, 0, text.size(), segments);
  const auto add = [&](PieceCounts& counts, const Segment& s) { counts.add(text.substr(s.begin, s.end - s.begin)); };
  PieceCounts sum;
  if (threads <= 1 || text.size() < 2 * task_bytes) {
    for (const Segment& s : segments) add(sum, s);
    return sum;
  }
  segments = cut_segments(text, segments, task_bytes);
  const std::vector<std::size_t> tasks = tasks_of(segments, task_bytes);
  Pool<PieceCounts> pool;
  parallel_for(threads, static_cast<Index>(tasks.size()) - 1, [&](Index i) {
    auto counts = pool.take();
    for (std::size_t s = tasks[static_cast<std::size_t>(i)]; s < tasks[static_cast<std::size_t>(i) + 1]; ++s) add(*counts, segments[s]);
    pool.give(std::move(counts));
  });
  for (const auto& counts : pool.free()) sum.add(*counts);
  return sum;
}

}  // namespace glassformer::tokenizer
