// Texts as one model reads them: the part of each text that it sees (its window), the KV cache behind it, and the passes. The tokens belong
// to the caller, who hands them over whole, so that what was only drafted may be cut off again.
// Legend: C channels, V vocabulary.
#pragma once
#include <optional>

#include "glassformer/model/decoder.hpp"
#include "glassformer/sample/generate.hpp"

namespace glassformer {

struct ReaderOptions {
  Index max_tokens = 0;  // by which a text may grow
  PastContext past_context = PastContext::slide;
  CacheKind cache_kind = CacheKind::floating;
  Index sinks = 0;                   // of the text's tokens
  MatrixView<const float> mix = {};  // [texts, adapters], or null
  Exec exec = {};
  Trace<float>* trace = nullptr;
};

class Reader {
 public:
  Reader(const Decoder<float>&, const ReaderOptions&);

  // One more text, which begins with that many tokens; its number is its slot of the cache.
  void add(Index tokens);
  // When all are added, to grow by at most max_tokens. Without it everything is read again for each token.
  void make_cache_for_all();

  // Before a pass: may the text, now of `size` tokens, be read on? False when it must end at the context. `note`: a sentence on what is
  // done at the context, or empty.
  bool make_room(Index text, Index size, std::string& note);
  // How many tokens after these `size` can be read and forgotten again: until the window has to move.
  Index retractable(Index text, Index size) const;
  bool slides() const { return cache_ && cache_->shape().sliding; }

  // Reads what is new (without the cache the whole window, the soft prompt before it) in as few passes as the cache allows. Into `logits`
  // [V] after the last token.
  void read_alone(Index text, std::span<const Token> ids, Vector<float>& logits);
  // Whether one pass beside others does it: the cache has the window but for its end, and room for that.
  bool reads_on(Index text, Index size) const;

  struct Text {
    Index number;
    std::span<const Token> ids;
  };
  // Reads what is new of these texts in one pass. Logits [n, V], until the next such pass: after each new token, in order, or with
  // `last_only` after the last one of each text. A row has the same bits whatever stands beside it.
  const Matrix<float>& read_together(std::span<const Text>, bool last_only);

  // Forgets the tokens of the text after the first `size`.
  void cut(Index text, Index size);

 private:
  struct State {
    std::span<const Token> soft;  // the soft prompt's ids, or none: read where `begin` is read, and no part of the text
    Index prompt = 0;             // tokens at first
    Index begin = 0;              // the window that is read again starts here (learned places, or no cache)
    Index read = 0;               // tokens before this are in the cache
  };
  State& at(Index text) { return texts_[static_cast<std::size_t>(text)]; }
  const State& at(Index text) const { return texts_[static_cast<std::size_t>(text)]; }
  // Places that cannot move: the window is read again.
  bool reads_again() const { return model_.config.position == Position::learned || model_.config.position == Position::sinusoidal; }
  Index room(const State& s) const { return context_ - static_cast<Index>(s.soft.size()); }  // of the context, for the text
  Pass<float> pass_of(std::span<const Index> starts, std::span<const Index> texts, bool row_exact);
  void read(std::span<const Token> ids, std::span<const Index> starts, std::span<const Index> texts, bool row_exact,
            MatrixRef<float> hidden);
  void head(std::span<const Index> starts, std::span<const Index> texts, ConstMatrixRef<float> hidden, MatrixRef<float> logits);

  const Decoder<float>& model_;
  ReaderOptions options_;
  Index context_, sinks_;
  std::vector<Token> soft_;
  std::vector<State> texts_;
  std::optional<KvCache<float>> cache_;  // slot s belongs to text s
  Workspace workspace_;
  // Of the pass that is being made: kept, so that a step allocates nothing.
  Matrix<float> mixed_, logits_;
  std::vector<Token> ids_;
  std::vector<Index> starts_, numbers_, rows_;
};

}  // namespace glassformer
