// bench all: everything once, in one table and one JSON object.
#include "cli/bench.hpp"
#include "cli/terminal.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/data/corpus.hpp"
#include "glassformer/quantize/block.hpp"
#include "glassformer/tokenizer/encoder.hpp"

namespace glassformer::cli {
namespace {

struct Training {
  const char* name;
  Index layers, heads, width, context, batch, vocab, steps;
};
// The shapes that the peers were measured at.
constexpr Training kTrainings[] = {
    {"train 0.8M", 4, 4, 128, 64, 12, 65, 20}, {"train 10.8M", 6, 6, 384, 256, 8, 65, 4}, {"train 124M", 12, 12, 768, 64, 4, 50257, 3}};

struct Writing {
  const char* type;
  Index batch;
};
constexpr Writing kWritings[] = {{"f32", 1}, {"q8_0", 1}, {"q8_0", 8}, {"q4_0", 1}, {"nf4", 1}};

// The three operations that take longest: "linear 71 %, attention 12 %, norm 6 %"
std::string longest(const std::vector<OperationTime>& operations) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(3, operations.size()); ++i)
    text += fmt::format("{}{} {:.0f}%", i ? ", " : "", operations[i].name, 100 * operations[i].share);
  return text;
}

std::string row(const std::string& name, double tokens_per_s, const std::string& speed, double share, const char* limit,
                const std::vector<OperationTime>& operations) {
  return fmt::format("{:<30}{:>12.1f}{:>18}{:>7.1f} % of {:<21}{}\n", name, tokens_per_s, speed, 100 * share, limit, longest(operations));
}

ModelConfig tiny(ModelConfig c) {
  c.layers = 1, c.heads = 1, c.width = 64, c.hidden = 64, c.vocab = 65;
  return c;
}

// Text to ids, on one thread. Merging is what a word costs that is new; a text whose words are known must at least be read.
void bench_text(bool quick, int threads, JsonLine& json) {
  const std::string text = make_corpus(CorpusKind::stories, quick ? 20'000 : 1'000'000, 1).text;
  const Tokenizer tokenizer = train_bpe_parallel(text, {.vocab_size = quick ? 300 : 4352, .special = {}}, threads);
  const EncodeBench e = bench_encode(tokenizer, text, 5, threads);
  const double reading = 1e3 * MemoryMeter(1).read_gb_per_s(2),
               tokens_a_mb = 1e6 * static_cast<double>(e.tokens) / static_cast<double>(e.bytes);
  const auto print = [&](const char* name, double mb_per_s, double limit, const char* limit_name, double merging) {
    const double ms = static_cast<double>(e.bytes) / 1e3 / mb_per_s;
    const std::vector<OperationTime> operations = {{"looking up", ms * (1 - merging), 1 - merging}, {"merging", ms * merging, merging}};
    print_output(row(name, mb_per_s * tokens_a_mb, fmt::format("{:.1f} MB/s", mb_per_s), mb_per_s / limit, limit_name, operations));
  };
  print("tokenizer, words are new", e.cold_mb_per_s, e.warm_mb_per_s, "known words", std::max(0.0, e.share_of_merging()));  // below 0 where noise is more than merging
  print("tokenizer, words are known", e.warm_mb_per_s, reading, "reading memory", 0);
  JsonLine entry;
  add_results(entry, e);
  json.add("tokenizer", entry.add("reading_mb_per_s", reading));
}

}  // namespace

int bench_all_command(Arguments arguments) {
  Options o("bench",
            "Measures this machine's limits, then a training step at three sizes, writing and reading by a model of 110M parameters in "
            "each format, and text to ids; each as it is, as a share of "
            "its limit, and where the time goes. About a minute. `glassformer bench NAME` measures one thing at length.");
  o.flag("quick", "tiny models, to see what it prints: the figures mean nothing");
  o.common(kInferenceOptions);
  o.example("glassformer bench --json");
  if (!o.parse(arguments)) return 0;
  const Exec exec = o.exec();
  const bool quick = o.is_set("quick");
  JsonLine json, machine;
  print_output(machine_table(exec.threads, machine));
  json.add("machine", machine);
  print_output(fmt::format("\n{:<30}{:>12}{:>18}{:>9} {:<24}{}\n", "", "tokens/s", "", "share", "of its limit", "most of the time"));
  for (const Training& t : kTrainings) {
    ModelConfig c;
    c.layers = t.layers, c.heads = t.heads, c.width = t.width, c.context = t.context, c.vocab = t.vocab;
    if (quick) c = tiny(c);
    const TrainBench b = bench_train(c, t.batch, t.steps, exec);
    print_output(
        row(t.name, b.tokens_per_s, fmt::format("{:.1f} ms a step", b.step_ms), b.share_of_fma_peak(), "multiply-adds", b.operations));
    json.push("train", bench_json(b));
  }
  const BenchSubject plain = bench_subject(random_model(quick ? tiny(llama_110m()) : llama_110m(), std::nullopt, exec), "f32", "f32", exec);
  BenchSubject quantized;
  const auto subject = [&](const std::string& type) -> const BenchSubject& {  // one is let go before the next
    if (type == "f32") return plain;
    if (type != quantized.linear) {
      const QuantizedType q = checked(quantized_named(type));
      quantized = {};
      quantized = bench_subject(quantize_decoder(plain.model, {q, q}, exec), type, type, exec);
    }
    return quantized;
  };
  for (const Writing& w : kWritings) {
    const BenchSubject& s = subject(w.type);
    const InferenceOptions options{.batch = w.batch, .repeats = 2, .exec = exec};
    const DecodeBench b = bench_decode(s.model, options);
    const std::string name = fmt::format("decode {}{}", s.short_title(), w.batch > 1 ? fmt::format(", {} at once", w.batch) : "");
    print_output(
        row(name, b.tokens_per_s, fmt::format("{:.1f} GB/s", b.read_gb_per_s), b.share_of_memory_limit, "reading memory", b.operations));
    json.push("decode", bench_json(s, options, b));
  }
  for (const char* type : {"f32", "q8_0", "q4_0", "nf4"}) {
    const BenchSubject& s = subject(type);
    const InferenceOptions options{.tokens = 256, .repeats = 3, .exec = exec};
    const PrefillBench b = bench_prefill(s.model, options);
    print_output(row(fmt::format("prefill {}", s.short_title()), b.tokens_per_s, fmt::format("{:.1f} GFLOP/s", b.gflops_per_s),
                     b.share_of_fma_peak(), s.rounded_in_blocks ? "multiply-adds in float" : "multiply-adds", b.operations));
    json.push("prefill", bench_json(s, options, b));
  }
  bench_text(quick, exec.threads, json);
  if (o.json()) json.print();
  return 0;
}

}  // namespace glassformer::cli
