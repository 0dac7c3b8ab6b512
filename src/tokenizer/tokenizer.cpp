#include "glassformer/tokenizer/tokenizer.hpp"

#include <algorithm>

#include "tokenizer/impl.hpp"
#include "tokenizer/pre_tokenizer.hpp"
#include "tokenizer/unicode.hpp"

namespace glassformer {

using Kind = TokenizerKind;
using tokenizer::append_utf8;
using tokenizer::code_point_at;
using tokenizer::CodePoint;

Tokenizer Tokenizer::Impl::build(std::shared_ptr<Impl> p) {
  Impl& t = *p;
  t.special.resize(t.tokens.size(), false);
  t.ids.reserve(t.tokens.size());
  for (const bool specials : {false, true})
    for (std::size_t id = 0; id < t.tokens.size(); ++id) {
      if (t.special[id] != specials) continue;
      t.ids.emplace(t.tokens[id], static_cast<Token>(id));
      if (specials && !t.tokens[id].empty()) t.special_spellings.add(t.tokens[id], static_cast<Token>(id));
    }
  for (std::size_t b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const auto found = t.ids.find(std::string_view(&byte, 1));
    if (t.kind == Kind::score)
      t.byte_ids[b] = tokenizer::score_first_byte + static_cast<Token>(b);
    else if (t.kind != Kind::character)
      t.byte_ids[b] = t.ids.at(std::string_view(&byte, 1));
    else
      t.byte_ids[b] = found == t.ids.end() || t.special[std::size_t(found->second)] ? -1 : found->second;
  }
  t.ranks = tokenizer::PairMap(t.merges.size());
  for (std::size_t rank = 0; rank < t.merges.size(); ++rank)
    t.ranks.insert(tokenizer::pair_key(t.merges[rank].first, t.merges[rank].second), static_cast<std::uint32_t>(rank));
  if (t.kind != Kind::score) {
    const auto end = t.ids.find(tokenizer::end_of_text);
    if (end != t.ids.end() && t.special[std::size_t(end->second)]) t.bos = t.eos = end->second;
  }
  return Tokenizer(std::move(p));
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) { require(impl_ != nullptr, "Tokenizer: no tables"); }

Kind Tokenizer::kind() const { return impl_->kind; }
Index Tokenizer::vocab_size() const { return static_cast<Index>(impl_->tokens.size()); }
std::optional<Token> Tokenizer::bos() const { return impl_->bos; }
std::optional<Token> Tokenizer::eos() const { return impl_->eos; }
const std::vector<std::pair<Token, Token>>& Tokenizer::merges() const { return impl_->merges; }
const std::vector<float>& Tokenizer::scores() const { return impl_->scores; }

namespace {

std::size_t checked(const Tokenizer& t, Token id) {
  require(id >= 0 && id < t.vocab_size(), "token {}: the vocabulary has ids 0 to {}", id, t.vocab_size() - 1);
  return static_cast<std::size_t>(id);
}

}  // namespace

std::string Tokenizer::decode(std::span<const Token> ids) const {
  for (const Token id : ids) checked(*this, id);
  if (impl_->kind == Kind::score) return tokenizer::decode_score(*impl_, ids);
  std::string text;
  for (const Token id : ids) text += impl_->tokens[static_cast<std::size_t>(id)];
  return text;
}

std::string_view Tokenizer::token_bytes(Token id) const { return impl_->tokens[checked(*this, id)]; }
bool Tokenizer::is_special(Token id) const { return impl_->special[checked(*this, id)]; }

std::optional<Token> Tokenizer::find(std::string_view bytes) const {
  const auto found = impl_->ids.find(bytes);
  return found == impl_->ids.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> Tokenizer::pre_tokens(std::string_view text) const {
  std::vector<std::string> pieces;
  if (impl_->kind == Kind::bpe)
    tokenizer::for_each_pre_token(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  else if (!text.empty())
    pieces.emplace_back(text);
  return pieces;
}

std::vector<EncodedPiece> Tokenizer::explain(std::string_view text) const {
  if (text.empty()) return {};
  if (impl_->kind == Kind::bpe) return tokenizer::explain_bpe(*impl_, text);
  if (impl_->kind == Kind::score) return {tokenizer::explain_score(*impl_, text)};
  const std::vector<Token> ids = encode(text);
  return {{std::string(text), {}, ids, {}, ids}};
}

Tokenizer byte_tokenizer() {
  auto t = std::make_shared<Tokenizer::Impl>();
  t->kind = Kind::byte;
  for (int b = 0; b < 256; ++b) t->tokens.emplace_back(1, static_cast<char>(b));
  return Tokenizer::Impl::build(std::move(t));
}

Tokenizer character_tokenizer(std::string_view utf8_text) {
  require(!utf8_text.empty(), "character tokenizer: the text is empty");
  std::vector<bool> seen(0x110000);
  for (std::size_t i = 0; i < utf8_text.size();) {
    const CodePoint c = code_point_at(utf8_text.substr(i));
    require(c.value >= 0, "character tokenizer: byte 0x{:02X} at byte {} is not valid UTF-8", static_cast<unsigned char>(utf8_text[i]), i);
    seen[static_cast<std::size_t>(c.value)] = true;
    i += static_cast<std::size_t>(c.bytes);
  }
  auto t = std::make_shared<Tokenizer::Impl>();
  t->kind = Kind::character;
  for (std::int32_t c = 0; c < 0x110000; ++c)
    if (seen[static_cast<std::size_t>(c)]) append_utf8(t->tokens.emplace_back(), c);
  return Tokenizer::Impl::build(std::move(t));
}

}  // namespace glassformer
