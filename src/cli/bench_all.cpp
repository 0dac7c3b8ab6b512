// bench all: everything once, in one table and one JSON object.
#include "cli/bench.hpp"
#include "cli/terminal.hpp"

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
  return fmt::format("{:<24}{:>12.1f}{:>18}{:>7.1f} % of {:<15}{}\n", name, tokens_per_s, speed, 100 * share, limit, longest(operations));
}

// A model is quantized, timed and let go before the next.
Decoder<float> in_type(const Decoder<float>& model, const std::string& type, const Exec& exec) {
  const QuantizedType q = checked(quantized_named(type));
  return quantize_decoder(model, {q, q}, exec);
}

ModelConfig tiny(ModelConfig c) {
  c.layers = 1, c.heads = 1, c.width = 64, c.hidden = 64, c.vocab = 65;
  return c;
}

}  // namespace

int bench_all_command(Arguments arguments) {
  Options o("bench",
            "Measures this machine's limits, then a training step at three sizes, writing and reading by a model of 110M parameters in "
            "each format; each as it is, as a share of "
            "its limit, and where the time goes. About a minute. `glassformer bench NAME` measures one thing at length.");
  o.flag("quick", "tiny models, to see what it prints: the figures mean nothing");
  o.common(kThreads | kKernels | kActivations | kJson);
  o.example("glassformer bench --json");
  if (!o.parse(arguments)) return 0;
  const Exec exec = o.exec();
  const bool quick = o.is_set("quick");
  JsonLine json, machine;
  print_output(machine_table(exec.threads, machine));
  json.add("machine", machine);
  print_output(fmt::format("\n{:<24}{:>12}{:>18}{:>9} {:<18}{}\n", "", "tokens/s", "", "share", "of its limit", "most of the time"));
  for (const Training& t : kTrainings) {
    ModelConfig c;
    c.layers = t.layers, c.heads = t.heads, c.width = t.width, c.context = t.context, c.vocab = t.vocab;
    if (quick) c = tiny(c);
    const TrainBench b = bench_train(c, t.batch, t.steps, exec);
    print_output(
        row(t.name, b.tokens_per_s, fmt::format("{:.1f} ms a step", b.step_ms), b.share_of_fma_peak(), "multiply-adds", b.operations));
    JsonLine entry;
    add_results(entry, b);
    json.push("train", entry);
  }
  const Decoder<float> model = random_model(quick ? tiny(llama_110m()) : llama_110m(), std::nullopt, exec);
  std::string type = "f32";
  Decoder<float> small;
  const auto subject = [&](const std::string& wanted) -> const Decoder<float>& {
    if (wanted == "f32") return model;
    if (wanted != type) small = in_type(model, type = wanted, exec);
    return small;
  };
  for (const Writing& w : kWritings) {
    const std::string name = fmt::format("decode {}{}", w.type, w.batch > 1 ? fmt::format(", {} at once", w.batch) : "");
    const DecodeBench b = bench_decode(subject(w.type), {.batch = w.batch, .repeats = 2, .exec = exec});
    print_output(
        row(name, b.tokens_per_s, fmt::format("{:.1f} GB/s", b.read_gb_per_s), b.share_of_memory_limit, "reading memory", b.operations));
    JsonLine entry;
    entry.add("type", w.type).add("batch", w.batch);
    add_results(entry, b);
    json.push("decode", entry);
  }
  for (const char* wanted : {"f32", "q8_0", "q4_0", "nf4"}) {
    const std::string name = fmt::format("prefill {}", wanted);
    const PrefillBench b = bench_prefill(subject(wanted), {.tokens = 256, .repeats = 3, .exec = exec});
    print_output(
        row(name, b.tokens_per_s, fmt::format("{:.1f} GFLOP/s", b.gflops_per_s), b.share_of_fma_peak(), "multiply-adds", b.operations));
    JsonLine entry;
    entry.add("type", wanted).add("tokens", Index{256});
    add_results(entry, b);
    json.push("prefill", entry);
  }
  if (o.json()) json.print();
  return 0;
}

}  // namespace glassformer::cli
