// How byte-level BPE learns its merges, and why a word that it never saw is not unknown: it falls apart into pieces that it did see.
// The text is the example of Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units" (2016).
//   build/release/examples/tokenize
#include <fmt/core.h>

#include "glassformer/tokenizer/tokenizer.hpp"

using namespace glassformer;

int main() {
  std::string text;
  for (const auto& [word, times] : {std::pair{" low", 5}, {" lower", 2}, {" newest", 6}, {" widest", 3}}) {
    for (int i = 0; i < times; ++i) text += word;
  }

  fmt::print("rank  count  merge (a space is shown as _)\n");
  const auto visible = [](std::string bytes) {
    for (char& c : bytes) c = c == ' ' ? '_' : c;
    return bytes;
  };
  const auto on_merge = [&](const Merge& m) {
    fmt::print("{:4}  {:5}  {} + {} = {}\n", m.rank, m.count, visible(m.left_bytes), visible(m.right_bytes), visible(m.bytes));
  };
  const Tokenizer bpe = train_bpe(text, {.vocab_size = 256 + 8, .special = {}, .on_merge = on_merge});  // the 256 bytes and eight merges

  for (const char* word : {" low", " lowest", " wider", " żółw"}) {
    const std::vector<Token> ids = bpe.encode(word);
    fmt::print("\n{}: {} bytes, {} token{}:", visible(word), std::string(word).size(), ids.size(), ids.size() == 1 ? "" : "s");
    for (const Token id : ids) {
      const std::string bytes(bpe.token_bytes(id));
      const bool part = bytes.size() == 1 && static_cast<unsigned char>(bytes[0]) >= 0x80;  // of a character of several bytes
      fmt::print(" {}", part ? fmt::format("<{:02X}>", static_cast<unsigned char>(bytes[0])) : visible(bytes));
    }
    fmt::print("\n  decoded again: {}\n", bpe.decode(ids) == word ? "the same bytes" : "OTHER BYTES");
  }
}
