// corpus: text from a grammar, and its entropy.
#include "glassformer/data/corpus.hpp"

#include "cli/command.hpp"
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/save.hpp"

namespace glassformer::cli {

int corpus_command(Arguments arguments) {
  Options o("corpus", "Writes text drawn from a small probabilistic grammar. Its entropy is known: no model can stay below it.");
  o.choice("kind", {"stories", "support"}, "short tales, or dialogues of a customer service", "stories");
  o.size("bytes", "4M", "how much text; whole documents, so a little more");
  o.path("out", "FILE", "file to write", required);
  o.common(kSeed | kJson);
  o.example("glassformer corpus --kind stories --bytes 4M --out stories.txt");
  if (!o.parse(arguments)) return 0;

  const CorpusKind kind = checked(corpus_kind(o.text("kind")));
  const Corpus corpus = make_corpus(kind, o.integer("bytes"), o.seed());
  const std::string out = o.text("out");
  checked(save_file(out, [&](const std::filesystem::path& path) { return write_bytes(path, corpus.text); }));

  fmt::print(stderr, "{}: {} bytes, {} documents\n", out, grouped(static_cast<long long>(corpus.text.size())),
             grouped(static_cast<long long>(corpus.documents.size())));
  fmt::print(stderr, "entropy of this text {:.4f} bits per byte, of its source {:.4f}\n", corpus.bits_per_byte(),
             source_bits_per_byte(kind));
  if (o.json()) {
    JsonLine()
        .add("kind", corpus_name(kind))
        .add("bytes", static_cast<Index>(corpus.text.size()))
        .add("documents", static_cast<Index>(corpus.documents.size()))
        .add("entropy_bits", corpus.entropy_bits)
        .add("bits_per_byte", corpus.bits_per_byte())
        .add("source_bits_per_byte", source_bits_per_byte(kind))
        .add("out", out)
        .print();
  }
  return 0;
}

}  // namespace glassformer::cli
