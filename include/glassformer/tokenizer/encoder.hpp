// Much text: encoded with what the last text taught, and encoded and learned from on several threads.
#pragma once
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

namespace tokenizer {
class PieceCache;
}

// Encodes text after text. Kind bpe: it remembers the ids of the pre-tokens that it has met (at most some 40 MB of them), so that text like
// the text before costs one look-up a word. The ids are those of Tokenizer::encode. One thread at a time: give each its own.
class Encoder {
 public:
  explicit Encoder(Tokenizer);
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;
  ~Encoder();

  // Appends the ids of the text, as Tokenizer::encode. Throws as it does.
  void append(std::string_view text, std::vector<Token>& ids);
  // Kind bpe: pre-tokens so far, and how many of them were new and had to be merged. 0 for the other kinds.
  struct Work {
    Index pre_tokens, merged;
  };
  Work work() const;

 private:
  Tokenizer tokenizer_;
  std::unique_ptr<tokenizer::PieceCache> cache_;
};

// Tokenizer::encode on several threads: the same ids for any number of them. A long text is cut where that provably changes nothing; kind
// score, which merges across spaces, uses one thread.
std::vector<Token> encode_parallel(const Tokenizer&, std::string_view text, int threads);
// The same by Tokenizer::encode_with_special.
std::vector<Token> encode_with_special_parallel(const Tokenizer&, std::string_view text, int threads);

// The documents of a text, text[starts[d], starts[d + 1]), each encoded alone as Tokenizer::encode_with_special does, joined; `before_each`
// stands before each. Documents, and long ones in parts that provably give the same ids, are shared among the threads. Offsets in errors
// count from the text's first byte.
std::vector<Token> encode_documents(const Tokenizer&, std::string_view text, std::span<const Index> starts,
                                    std::optional<Token> before_each, int threads);

// train_bpe with the words counted on several threads: the same merges for any number of them. `places_looked_at`, if not null, grows by
// the places among the distinct pre-tokens that the merges looked at.
Tokenizer train_bpe_parallel(std::string_view text, const BpeOptions&, int threads, Index* places_looked_at = nullptr);

}  // namespace glassformer
