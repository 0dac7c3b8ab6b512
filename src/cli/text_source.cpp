#include "cli/text_source.hpp"

#include "cli/terminal.hpp"
#include "glassformer/data/corpus.hpp"
#include "glassformer/score/score.hpp"
#include "glassformer/tokenizer/encoder.hpp"

namespace glassformer::cli {
namespace {

// "\\n" as it is typed in a shell is a newline.
std::string unescaped(std::string text) {
  for (std::size_t at = 0; (at = text.find("\\n", at)) != std::string::npos; ++at) text.replace(at, 2, "\n");
  return text;
}

// Offsets of the documents of a text, each of which ends with `end`.
std::vector<Index> documents_of(const std::string& text, const std::string& end) {
  require_usage(!end.empty(), "--document-end: expected a text, found an empty one");
  std::vector<Index> starts = {0};
  for (std::size_t at = text.find(end); at != std::string::npos && at + end.size() < text.size(); at = text.find(end, at + end.size())) {
    starts.push_back(static_cast<Index>(at + end.size()));
  }
  return starts;
}

}  // namespace

void declare_text_source(Options& o) {
  o.group("Text");
  o.path("data", "FILE", "text to read");
  o.choice("corpus", {"stories", "support"}, "instead of --data: a generated text whose entropy is known");
  o.size("corpus-bytes", "4M", "how much text to generate");
  o.text("document-end", "TEXT", "with --data: documents end with this text (\\n for a newline) and are learned apart from each other, each after a start token");
  o.positive("source-bits-per-byte", {}, "with --data: the entropy of the source, where you know it; shown beside the loss");
}

TextSource read_text_source(const Options& o, std::uint64_t seed) {
  require_usage(o.given("data") != o.given("corpus"), "expected either --data FILE or --corpus stories|support, found {}",
                o.given("data") ? "both" : "neither");
  require_usage(!o.given("corpus") || !o.given("document-end"), "--document-end: expected --data beside it, found --corpus, whose documents are known");
  require_usage(o.given("corpus") || !o.given("corpus-bytes"), "--corpus-bytes: expected --corpus beside it, found --data");
  TextSource source;
  source.threads = o.exec().threads;
  if (o.given("corpus")) {
    const CorpusKind kind = checked(corpus_kind(o.text("corpus")));
    source.name = "corpus " + o.text("corpus");
    Corpus corpus = make_corpus(kind, o.integer("corpus-bytes"), seed);
    source.text = std::move(corpus.text);
    source.documents = std::move(corpus.documents);
    source.bits_per_byte = source_bits_per_byte(kind);
  } else {
    source.name = o.text("data");
    source.text = checked(read_text(source.name));
    if (o.given("document-end")) source.documents = documents_of(source.text, unescaped(o.text("document-end")));
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
      if (source.documents.empty()) options.special.clear();  // no documents: no token to stand before each
      options.on_merge = [&](const Merge& m) {
        if (progress.due()) progress.update(fmt::format("tokenizer: {} of {} merges", m.rank + 1, vocab_size - 256));
      };
      return train_bpe_parallel(source.text, options, source.threads);
    }
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
  return checked(load_tokenizer(choice));
}

std::vector<Token> encode_text(const Tokenizer& tokenizer, const TextSource& source, std::optional<Token> start) {
  try {
    if (!start || source.documents.empty()) return encode_with_special_parallel(tokenizer, source.text, source.threads);
    return encode_documents(tokenizer, source.text, source.documents, start, source.threads);
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
}

std::vector<Token> tokens_to_score(const Tokenizer& tokenizer, const TextSource& source, const ModelConfig& config) {
  std::vector<Token> ids = encode_text(tokenizer, source, document_separator(config));
  if (ids.size() < 2) throw Failure(fmt::format("{}: expected at least 2 tokens, found {}", source.name, ids.size()));
  return ids;
}

TokenSplit tokens_to_train(const Tokenizer& tokenizer, const TextSource& source, std::optional<Token> start, double val_fraction,
                           Index context) {
  TokenSplit tokens = split_tokens(encode_text(tokenizer, source, start), val_fraction);
  if (static_cast<Index>(tokens.train.size()) <= context || tokens.val.size() < 2) {
    throw Failure(fmt::format("{}: expected more than {} tokens to train on (the context) and at least 2 to validate, found {} and {}",
                              source.name, context, tokens.train.size(), tokens.val.size()));
  }
  return tokens;
}

}  // namespace glassformer::cli
