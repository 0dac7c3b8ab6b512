#include "glassformer/explain/tokenizer.hpp"

#include <algorithm>
#include <map>
#include <span>

#include "glassformer/core/require.hpp"
#include "glassformer/tokenizer/utf8.hpp"

namespace glassformer {
namespace {

constexpr std::size_t kLearned = TokenizerSteps::kLearned;

std::vector<std::string> bytes_of(const Tokenizer& t, const std::vector<Token>& ids) {
  std::vector<std::string> all;
  for (const Token id : ids) all.emplace_back(t.token_bytes(id));
  return all;
}

std::vector<TextCharacter> characters_of(std::string_view text) {
  std::vector<TextCharacter> all;
  std::map<std::string_view, std::size_t> places;
  while (!text.empty()) {
    const tokenizer::CodePoint c = tokenizer::code_point_at(text);
    const std::string_view bytes = text.substr(0, static_cast<std::size_t>(c.bytes));
    const auto [at, is_new] = places.emplace(bytes, all.size());
    if (is_new) all.push_back({std::string(bytes), c.value, 0});
    ++all[at->second].count;
    text.remove_prefix(bytes.size());
  }
  return all;
}

// What the piece is cut into before the first step and after each.
std::vector<TokenizerSteps::State> states_of(const Tokenizer& t, const EncodedPiece& piece) {
  std::vector<TokenizerSteps::State> states = {{bytes_of(t, piece.symbols), -1}};
  for (const MergeStep& step : std::span(piece.steps).first(std::min(piece.steps.size(), TokenizerSteps::kShownSteps))) {
    TokenizerSteps::State next = states.back();
    Index begin = 0, at = 0;
    for (; begin < step.begin; ++at) begin += static_cast<Index>(next.tokens[static_cast<std::size_t>(at)].size());
    next.tokens[static_cast<std::size_t>(at)] = std::string(t.token_bytes(step.token));
    next.tokens.erase(next.tokens.begin() + at + 1);
    next.at = at;
    states.push_back(std::move(next));
  }
  return states;
}

TokenizerSteps::Probe probe(const Tokenizer& t, std::string what, std::string bytes) {
  TokenizerSteps::Probe p{std::move(what), std::move(bytes), {}, {}, {}};
  try {
    p.ids = t.encode(p.bytes);
    p.tokens = bytes_of(t, p.ids);
  } catch (const std::invalid_argument& error) {
    p.error = error.what();
  }
  return p;
}

// The first merges that training learned. Their counts are known only by training again.
void tell_training(const Tokenizer& t, std::string_view training, TokenizerSteps& s) {
  s.merges = static_cast<Index>(t.merges().size());
  for (std::size_t r = 0; r < std::min(kLearned, t.merges().size()); ++r) {
    const auto [left, right] = t.merges()[r];
    const std::string l(t.token_bytes(left)), r_bytes(t.token_bytes(right));
    s.learned.push_back({l, r_bytes, l + r_bytes});
  }
  if (training.empty()) return;
  BpeOptions options;
  options.vocab_size = t.vocab_size(), options.special = {};
  options.on_merge = [&s](const Merge& m) {
    if (static_cast<std::size_t>(m.rank) < s.learned.size() && s.learned[static_cast<std::size_t>(m.rank)].bytes == m.bytes)
      s.learned[static_cast<std::size_t>(m.rank)].count = m.count;
  };
  train_bpe(training, options);
}

// Kind score: the tokens of several characters, the best first.
void tell_scores(const Tokenizer& t, TokenizerSteps& s) {
  std::vector<Token> ids;
  for (Token id = 259; id < t.vocab_size(); ++id) {  // after <unk>, start, end and 256 bytes
    const std::string_view bytes = t.token_bytes(id);
    if (bytes.size() > static_cast<std::size_t>(tokenizer::code_point_at(bytes).bytes)) ids.push_back(id);
  }
  s.merges = static_cast<Index>(ids.size());
  std::stable_sort(ids.begin(), ids.end(), [&t](Token a, Token b) { return t.scores()[static_cast<std::size_t>(a)] > t.scores()[static_cast<std::size_t>(b)]; });
  ids.resize(std::min(kLearned, ids.size()));
  for (const Token id : ids)
    s.learned.push_back({"", "", std::string(t.token_bytes(id)), -1, static_cast<double>(t.scores()[static_cast<std::size_t>(id)])});
}

std::string name_of(const Tokenizer& t) {
  switch (t.kind()) {
    case TokenizerKind::character: return fmt::format("one token a character, {} characters", t.vocab_size());
    case TokenizerKind::byte: return "one token a byte, 256 in all";
    case TokenizerKind::bpe: return fmt::format("byte-level BPE, {} tokens, {} merges", t.vocab_size(), t.merges().size());
    case TokenizerKind::score: return fmt::format("llama2.c's score-merge BPE, {} tokens", t.vocab_size());
  }
  return {};
}

}  // namespace

TokenizerSteps explain_tokenizer(const Tokenizer& t, std::string_view text, const TokenizerQuestion& question) {
  require(!text.empty(), "prompt: expected some text, found none");
  TokenizerSteps s;
  s.name = name_of(t);
  s.kind = t.kind(), s.vocab_size = t.vocab_size(), s.text = text;
  s.characters = characters_of(text);
  s.pieces = t.explain(text);
  const auto n = static_cast<Index>(s.pieces.size());
  const bool exists = question.piece >= -1 && question.piece < n;
  require(exists || s.kind != TokenizerKind::bpe, "token: expected a pre-token's number, 0 … {}, found {}", n - 1, question.piece);
  require(exists, "token: expected 0, found {}: this tokenizer does not cut the text into pre-tokens", question.piece);
  s.piece = question.piece;
  if (s.piece < 0) {
    s.piece = std::ranges::max_element(s.pieces, {}, [](const EncodedPiece& p) { return p.steps.size(); }) - s.pieces.begin();
  }
  s.ids = t.encode(text);
  s.decoded = t.decode(s.ids);
  for (const EncodedPiece& p : s.pieces) s.piece_tokens.push_back(bytes_of(t, p.ids));
  s.states = states_of(t, s.pieces[static_cast<std::size_t>(s.piece)]);
  t.kind() == TokenizerKind::score ? tell_scores(t, s) : tell_training(t, question.training, s);
  s.card = probe(t, "a test card number", "4111 1111 1111 1111");
  s.invalid = probe(t, "a byte that is never UTF-8", "\xff");
  return s;
}

std::string_view tokenizer_example_training() {
  return "low low low low low lower lower newest newest newest newest newest newest widest widest widest";
}
std::string_view tokenizer_example_text() { return "The lowest café's 2 new waiters  🙂"; }

TokenizerSteps explain_tokenizer_example(Index piece, std::string_view text) {
  BpeOptions options;
  options.vocab_size = 256 + 12, options.special = {};
  TokenizerQuestion question{.piece = piece, .training = tokenizer_example_training()};
  TokenizerSteps s = explain_tokenizer(train_bpe(question.training, options), text, question);
  s.is_example = true;
  return s;
}

}  // namespace glassformer
