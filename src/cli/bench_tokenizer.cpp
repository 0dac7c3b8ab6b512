// bench tokenizer: text to ids, and learning a vocabulary.
#include "cli/bench.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"

namespace glassformer::cli {

void add_results(JsonLine& json, const EncodeBench& e) {
  json.add("bytes", e.bytes)
      .add("tokens", e.tokens)
      .add("pre_tokens", e.pre_tokens)
      .add("new_pre_tokens", e.merged)
      .add("cold_mb_per_s", e.cold_mb_per_s)
      .add("warm_mb_per_s", e.warm_mb_per_s)
      .add("threads_mb_per_s", e.threads_mb_per_s);
}

int bench_tokenizer_command(Arguments arguments) {
  Options o("bench tokenizer", "Times encoding a text, cold and warm, and learning a byte-level BPE vocabulary from it.");
  declare_text_source(o);
  o.group("Tokenizer");
  o.path("tokenizer", "NAME",
         "byte, char, a model directory, a tokenizer.json or GPT-2's files; the vocabulary that is learned unless given");
  o.integer("vocab-size", 4352, 257, "tokens to learn: 256 bytes and the merged ones");
  o.integer("repeats", 5, 1, "times to do it; the median counts");
  o.common(kSeed | kThreads | kJson);
  o.example("glassformer bench tokenizer --corpus stories --corpus-bytes 1M");
  if (!o.parse(arguments)) return 0;

  const TextSource source = read_text_source(o, o.seed());
  const Index repeats = o.integer("repeats"), vocab_size = o.integer("vocab-size");
  const LearnBench learned = bench_learn(source.text, vocab_size, repeats, source.threads);
  const Tokenizer tokenizer = choose_tokenizer(o.given("tokenizer") ? o.text("tokenizer") : "bpe", source, vocab_size);
  EncodeBench e;
  try {
    e = bench_encode(tokenizer, source.text, repeats, source.threads);
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
  const auto text_mb = static_cast<double>(e.bytes) / 1e6;
  print_output(
      fmt::format("text                {:>12} bytes, {} tokens\n"
                  "encoding, cold      {:>12.1f} MB/s on 1 thread: a new encoder, {} of {} pre-tokens are new to it, {:.0f} % of the time\n"
                  "encoding, warm      {:>12.1f} MB/s on 1 thread: it has read this text before\n"
                  "encoding, threads   {:>12.1f} MB/s on {} threads, cold\n"
                  "learning            {:>12.3f} s for {} merges, {:.1f} MB/s on {} threads; {} places looked at\n",
                  grouped(e.bytes), grouped(e.tokens), e.cold_mb_per_s, grouped(e.merged), grouped(e.pre_tokens),
                  100 * e.share_of_merging(), e.warm_mb_per_s, e.threads_mb_per_s, source.threads, learned.seconds, grouped(learned.merges),
                  text_mb / learned.seconds, source.threads, grouped(learned.places)));
  if (o.json()) {
    JsonLine json;
    add_results(json, e);
    json.add("threads", Index{source.threads})
        .add("merges", learned.merges)
        .add("places", learned.places)
        .add("learn_seconds", learned.seconds)
        .print();
  }
  return 0;
}

}  // namespace glassformer::cli
