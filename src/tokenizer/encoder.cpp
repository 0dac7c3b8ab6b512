// Encoding of every kind, and of many texts on many threads.
#include "glassformer/tokenizer/encoder.hpp"

#include <exception>

#include "glassformer/core/parallel.hpp"
#include "tokenizer/impl.hpp"
#include "tokenizer/piece_cache.hpp"
#include "tokenizer/pool.hpp"
#include "tokenizer/segments.hpp"
#include "tokenizer/unicode.hpp"

namespace glassformer {

using Kind = TokenizerKind;
using tokenizer::code_point_at;
using tokenizer::CodePoint;
using tokenizer::PieceCache;
using tokenizer::Pool;
using tokenizer::Segment;

namespace {

// `offset`: where the text stands in what the caller gave, for messages.
void encode_characters(const Tokenizer::Impl& t, std::string_view text, std::size_t offset, std::vector<Token>& out) {
  for (std::size_t i = 0; i < text.size();) {
    const Token ascii = t.byte_ids[static_cast<unsigned char>(text[i])];
    if (ascii >= 0) {
      out.push_back(ascii), ++i;
      continue;
    }
    const CodePoint c = code_point_at(text.substr(i));
    const std::string_view bytes = text.substr(i, static_cast<std::size_t>(c.bytes));
    const auto found = t.ids.find(bytes);
    if (found != t.ids.end() && !t.special[static_cast<std::size_t>(found->second)])
      out.push_back(found->second);
    else if (t.unknown)
      out.push_back(*t.unknown);
    else if (c.value < 0)
      require(false, "byte 0x{:02X} at byte {} is not valid UTF-8, which a character tokenizer needs", static_cast<unsigned char>(text[i]),
              offset + i);
    else
      require(false, "character {} (U+{:04X}) at byte {} is not in the vocabulary of {} characters", c.value < 32 ? "" : bytes, c.value,
              offset + i, t.tokens.size());
    i += bytes.size();
  }
}

void encode_plain(const Tokenizer::Impl& t, PieceCache& cache, std::string_view text, std::size_t offset, std::vector<Token>& out) {
  switch (t.kind) {
    case Kind::character:
      return encode_characters(t, text, offset, out);
    case Kind::byte:
      for (const char b : text) out.push_back(t.byte_ids[static_cast<unsigned char>(b)]);
      return;
    case Kind::bpe:
      return tokenizer::encode_bpe(t, cache, text, out);
    case Kind::score:
      return tokenizer::encode_score(t, text, out);
  }
}

void encode_segments(const Tokenizer::Impl& t, PieceCache& cache, std::string_view text, std::span<const Segment> segments,
                     std::vector<Token>& out) {
  for (const Segment& s : segments) {
    if (s.before >= 0) out.push_back(s.before);
    encode_plain(t, cache, text.substr(s.begin, s.end - s.begin), s.begin, out);
  }
}

constexpr std::size_t task_bytes = std::size_t{1} << 18;

std::vector<Token> encode_all(const Tokenizer::Impl& t, std::string_view text, std::vector<Segment> segments, int threads) {
  std::vector<Token> ids;
  if (threads <= 1 || text.size() < 2 * task_bytes) {
    PieceCache cache;
    encode_segments(t, cache, text, segments, ids);
    return ids;
  }
  if (t.kind != Kind::score) segments = cut_segments(text, segments, task_bytes);  // score merges across spaces
  struct Done {
    std::vector<Token> ids;
    std::exception_ptr failure;
  };
  const std::vector<std::size_t> tasks = tasks_of(segments, task_bytes);
  std::vector<Done> done(tasks.size() - 1);
  Pool<PieceCache> caches;
  parallel_for(threads, static_cast<Index>(done.size()), [&](Index i) {
    const auto task = static_cast<std::size_t>(i);
    auto cache = caches.take();
    try {
      encode_segments(t, *cache, text, std::span(segments).subspan(tasks[task], tasks[task + 1] - tasks[task]), done[task].ids);
    } catch (...) {
      done[task].failure = std::current_exception();
    }
    caches.give(std::move(cache));
  });
  std::size_t total = 0;
  for (const Done& task : done) {
    if (task.failure) std::rethrow_exception(task.failure);  // the first of the text, for any number of threads
    total += task.ids.size();
  }
  ids.reserve(total);
  for (const Done& task : done) ids.insert(ids.end(), task.ids.begin(), task.ids.end());
  return ids;
}

}  // namespace

std::vector<Token> encode_parallel(const Tokenizer& tokenizer, std::string_view text, int threads) {
  return encode_all(tokenizer.impl(), text, {{0, text.size()}}, threads);
}

std::vector<Token> encode_with_special_parallel(const Tokenizer& tokenizer, std::string_view text, int threads) {
  std::vector<Segment> segments;
  append_segments(tokenizer.impl().special_spellings, text, 0, text.size(), segments);
  return encode_all(tokenizer.impl(), text, std::move(segments), threads);
}

std::vector<Token> Tokenizer::encode(std::string_view text) const { return encode_parallel(*this, text, 1); }
std::vector<Token> Tokenizer::encode_with_special(std::string_view text) const { return encode_with_special_parallel(*this, text, 1); }

std::vector<Token> encode_documents(const Tokenizer& tokenizer, std::string_view text, std::span<const Index> starts,
                                    std::optional<Token> before_each, int threads) {
  std::vector<Segment> segments;
  for (std::size_t d = 0; d < starts.size(); ++d) {
    const auto begin = static_cast<std::size_t>(starts[d]),
               end = d + 1 < starts.size() ? static_cast<std::size_t>(starts[d + 1]) : text.size();
    require(starts[d] >= 0 && begin <= end && end <= text.size(),
            "encode_documents: expected rising starts within {} bytes, found document {} from {} to {}", text.size(), d, starts[d], end);
    const std::size_t first = segments.size();
    append_segments(tokenizer.impl().special_spellings, text, begin, end, segments);
    if (before_each) segments[first].before = *before_each;
  }
  return encode_all(tokenizer.impl(), text, std::move(segments), threads);
}

Encoder::Encoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)), cache_(std::make_unique<PieceCache>()) {}
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;
Encoder::~Encoder() = default;

void Encoder::append(std::string_view text, std::vector<Token>& ids) { encode_plain(tokenizer_.impl(), *cache_, text, 0, ids); }
Encoder::Work Encoder::work() const { return {cache_->pieces, cache_->merged}; }

}  // namespace glassformer
