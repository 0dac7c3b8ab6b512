// llama2.c's tokenizer (karpathy/llama2.c, run.c): SentencePiece's BPE as exported with a score a token, and its file tokenizer.bin.
#include <bit>
#include <cmath>
#include <cstring>

#include "tokenizer/impl.hpp"
#include "tokenizer/merge.hpp"

namespace glassformer::tokenizer {
namespace {

constexpr std::size_t header_tokens = std::size_t{score_first_byte} + 256;  // <unk>, start, end, 256 bytes

// Higher scores first, as an integer that grows where the score falls.
std::uint32_t priority_of(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // −0 becomes 0
  const std::uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

// As run.c splits: a byte and up to three continuation bytes that follow it, valid or not.
std::size_t character_length(std::string_view text) {
  std::size_t n = 1;
  while (n < 4 && n < text.size() && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) ++n;
  return n;
}

void append_characters(const Tokenizer::Impl& t, std::string_view text, std::vector<Token>& ids) {
  while (!text.empty()) {
    const std::string_view character = text.substr(0, character_length(text));
    const auto found = t.mergeable.find(character);
    if (found != t.mergeable.end())
      ids.push_back(found->second);
    else
      for (const char b : character) ids.push_back(t.byte_ids[static_cast<unsigned char>(b)]);
    text.remove_prefix(character.size());
  }
}

std::string byte_spelling(std::size_t byte) { return fmt::format("<0x{:02X}>", byte); }

template <class T>
T read_le(std::string_view bytes, std::size_t at) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

void append_le(std::string& out, const void* value) { out.append(static_cast<const char*>(value), 4); }

}  // namespace

namespace {

template <class G = NobodyLooks> void merge_by_score(const Tokenizer::Impl& t, std::vector<Token>& ids, G&& on_merge = {}) {
  PairMap known;  // (left, right) → the token they make, or none
  std::string both;
  const auto candidate = [&](Token left, Token right) {
    std::uint32_t merged = known.find(pair_key(left, right));
    if (merged == PairMap::none) {
      both = t.spellings[static_cast<std::size_t>(left)];
      both += t.spellings[static_cast<std::size_t>(right)];
      const auto found = t.mergeable.find(both);
      merged = known.insert(pair_key(left, right), found == t.mergeable.end() ? 0u : static_cast<std::uint32_t>(found->second));
    }
    if (merged == 0) return Candidate{};  // 0 is <unk>, which nothing merges into
    return Candidate{priority_of(t.scores[merged]), static_cast<Token>(merged)};
  };
  merge_with_heap(ids, candidate, on_merge);
}

std::vector<Token> characters_of(const Tokenizer::Impl& t, std::string_view text) {
  std::vector<Token> ids;
  append_characters(t, " ", ids);
  append_characters(t, text, ids);
  return ids;
}

}  // namespace

void encode_score(const Tokenizer::Impl& t, std::string_view text, std::vector<Token>& out) {
  if (text.empty()) return;
  std::vector<Token> ids = characters_of(t, text);
  merge_by_score(t, ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

EncodedPiece explain_score(const Tokenizer::Impl& t, std::string_view text) {
  EncodedPiece piece{fmt::format(" {}", text), {}, characters_of(t, text), {}, {}};
  std::vector<Index> begins = {0};  // of each symbol, in bytes
  for (const Token id : piece.symbols) begins.push_back(begins.back() + static_cast<Index>(t.tokens[static_cast<std::size_t>(id)].size()));
  piece.ids = piece.symbols;
  merge_by_score(t, piece.ids, [&](std::uint32_t at, Token left, Token right, Token merged) {
    piece.steps.push_back({begins[at], left, right, merged, -1, static_cast<double>(t.scores[static_cast<std::size_t>(merged)])});
  });
  return piece;
}

std::string decode_score(const Tokenizer::Impl& t, std::span<const Token> ids) {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i == 0 && ids[0] == score_bos) continue;  // run.c never prints the token it starts from
    std::string_view piece = t.tokens[static_cast<std::size_t>(ids[i])];
    if (i > 0 && ids[i - 1] == score_bos && piece.starts_with(' ')) piece.remove_prefix(1);
    text += piece;
  }
  return text;
}

Expected<Tokenizer> parse_tokenizer_bin(const std::string& name, std::string_view bytes) {
  auto t = std::make_shared<Tokenizer::Impl>();
  t->kind = TokenizerKind::score;
  if (bytes.size() < 4) return unexpected("{}: expected a llama2.c tokenizer of at least 4 bytes, found {}", name, bytes.size());
  t->longest = read_le<std::uint32_t>(bytes, 0);
  for (std::size_t at = 4; at < bytes.size();) {
    const std::size_t id = t->spellings.size();
    if (bytes.size() - at < 8)
      return unexpected("{}: expected 8 bytes of score and length for token {}, found the file's end after {}", name, id,
                        bytes.size() - at);
    const auto score = read_le<float>(bytes, at);
    const auto length = read_le<std::int32_t>(bytes, at + 4);
    at += 8;
    if (!std::isfinite(score)) return unexpected("{}: expected a finite score of token {}, found {}", name, id, score);
    if (length < 1 || static_cast<std::uint32_t>(length) > t->longest)
      return unexpected("{}: expected a length of token {} from 1 to {}, found {}", name, id, t->longest, length);
    if (static_cast<std::size_t>(length) > bytes.size() - at)
      return unexpected("{}: expected {} bytes of token {}, found the file's end after {}", name, length, id, bytes.size() - at);
    t->spellings.emplace_back(bytes.substr(at, static_cast<std::size_t>(length)));
    t->scores.push_back(score);
    at += static_cast<std::size_t>(length);
  }
  if (t->spellings.size() < header_tokens)
    return unexpected("{}: expected at least {} tokens (<unk>, start, end, 256 bytes), found {}", name, header_tokens, t->spellings.size());
  t->tokens = t->spellings;
  for (std::size_t b = 0; b < 256; ++b) {
    const std::size_t id = b + std::size_t{score_first_byte};
    if (t->spellings[id] != byte_spelling(b))
      return unexpected("{}: expected token {} to be \"{}\", found another", name, id, byte_spelling(b));
    t->tokens[id] = std::string(1, static_cast<char>(b));
  }
  t->special.assign(t->tokens.size(), false);
  t->special[0] = t->special[1] = t->special[2] = true;
  t->bos = score_bos, t->eos = score_eos;
  for (std::size_t id = header_tokens; id < t->spellings.size(); ++id) t->mergeable.emplace(t->spellings[id], static_cast<Token>(id));
  return Tokenizer::Impl::build(std::move(t));
}

}  // namespace glassformer::tokenizer

namespace glassformer {

std::string tokenizer_bin(const Tokenizer& tokenizer) {
  require(tokenizer.kind() == TokenizerKind::score, "tokenizer.bin holds only llama2.c's score tokenizer: use tokenizer_json");
  const Tokenizer::Impl& t = tokenizer.impl();
  std::string out;
  tokenizer::append_le(out, &t.longest);
  for (std::size_t id = 0; id < t.spellings.size(); ++id) {
    const auto length = static_cast<std::int32_t>(t.spellings[id].size());
    tokenizer::append_le(out, &t.scores[id]);
    tokenizer::append_le(out, &length);
    out += t.spellings[id];
  }
  return out;
}

}  // namespace glassformer
