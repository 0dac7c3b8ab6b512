#include "cli/text_source.hpp"

#include "cli/terminal.hpp"
#include "glassformer/data/corpus.hpp"
#include "glassformer/data/dataset.hpp"

namespace glassformer::cli {

void declare_text_source(Options& o) {
  o.group("Text");
  o.path("data", "FILE", "text to read");
  o.choice("corpus", {"stories", "support"}, "instead of --data: a generated text whose entropy is known");
  o.size("corpus-bytes", "4M", "how much text to generate");
  o.positive("source-bits-per-byte", {}, "with --data: the entropy of the source, where you know it; shown beside the loss");
}

TextSource read_text_source(const Options& o, std::uint64_t seed) {
  require_usage(o.given("data") != o.given("corpus"), "expected either --data FILE or --corpus stories|support, found {}",
                o.given("data") ? "both" : "neither");
  require_usage(o.given("corpus") || !o.given("corpus-bytes"), "--corpus-bytes: expected --corpus beside it, found --data");
  TextSource source;
  if (o.given("corpus")) {
    const CorpusKind kind = checked(corpus_kind(o.text("corpus")));
    source.name = "corpus " + o.text("corpus");
    source.text = make_corpus(kind, o.integer("corpus-bytes"), seed).text;
    source.bits_per_byte = source_bits_per_byte(kind);
  } else {
    source.name = o.text("data");
    source.text = checked(read_text(source.name));
  }
  if (o.given("source-bits-per-byte")) source.bits_per_byte = o.real("source-bits-per-byte");
  return source;
}

Tokenizer choose_tokenizer(const std::string& choice, const TextSource& source, Index vocab_size) {
  if (choice == "byte") return byte_tokenizer();
  try {
    if (choice == "char") return character_tokenizer(source.text);
    if (choice == "bpe") {
      ProgressLine progress;
      BpeOptions options;
      options.vocab_size = vocab_size;
      options.special.clear();  // the text has no document bounds of its own
      options.on_merge = [&](const Merge& m) {
        if (progress.due()) progress.update(fmt::format("tokenizer: {} of {} merges", m.rank + 1, vocab_size - 256));
      };
      return train_bpe(source.text, options);
    }
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
  return checked(load_tokenizer(choice));
}

std::vector<Token> encode_text(const Tokenizer& tokenizer, const TextSource& source) {
  try {
    return tokenizer.encode_with_special(source.text);
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
}

}  // namespace glassformer::cli
