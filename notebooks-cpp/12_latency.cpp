// %% [markdown]
// # 12 · How do you lower latency?
//
// A model of the shape that many small ones have (110M parameters: 12 layers, 12 heads, width 768, hidden width 2,048, vocabulary 32,000),
// with random weights: speed does not ask what the weights say. Toys would not do here. They fit the processor's cache, and what makes a
// real model slow is that its weights do not.
//
// The trap is to believe one number. Each rung is timed with the one it is compared with, five times, and counts only when the median ratio
// is above 1.3. What did not reach that is in the table too.

// %%
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <tuple>

#include "glassformer/bench/inference.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/statistics.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/sample/generate.hpp"
#include "program.hpp"

using namespace glassformer;

ModelConfig shape() {
  ModelConfig c{.vocab = 32000, .context = 1024, .layers = 12, .heads = 12, .width = 768, .position = Position::rope};
  c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  return resolved(c);
}

// A smaller model of the same numbers: of each tensor that it has the first rows. 110M normal draws take longer than they are worth twice.
Decoder<float> part_of(const Decoder<float>& model, Index layers, Index kv_heads) {
  ModelConfig c = model.config;
  c.layers = layers, c.kv_heads = kv_heads;
  Decoder<float> part = make_decoder<float>(c);
  for (const TensorInfo& t : part.arena.layout().tensors()) {
    const auto view = *part.arena.view(t);
    *part.arena.view(t) = (*model.arena.view(t.name)).topRows(view.rows());
  }
  return part;
}

// %% [markdown]
// ## 1. Two kinds of slow
// Reading a prompt (prefill) and writing (decode) use the same weights, but not alike. A prompt of 256 tokens uses each weight 256 times
// once it is here; a token that is written uses each weight once. So one should be bound by arithmetic and the other by memory. Each is
// held against both limits of this machine, measured in the same minute: fused multiply-adds in registers, and reading a buffer larger than
// any cache.

// %%
struct Limits {
  double flops = 0, bytes = 0;  // GFLOP/s, GB/s
};

void show_limits(Notebook& nb, const Decoder<float>& model) {
  const PrefillBench prefill = bench_prefill(model, {.tokens = 256, .repeats = 2, .exec = nb.exec()});
  const DecodeBench decode = bench_decode(model, {.tokens = 16, .repeats = 3, .exec = nb.exec()});
  const double weights = static_cast<double>(decode.weight_bytes), matrices = static_cast<double>(decode_step_bytes(model, 1, 0)) / 4;
  const double peak = std::max({prefill.fma_peak_gflops_per_s, fma_peak_gflops(nb.exec().threads), fma_peak_gflops(nb.exec().threads)});
  const Limits most{peak, decode.memory_gb_per_s};
  const Limits reads{prefill.gflops_per_s, weights / prefill.ms / 1e6}, writes{2 * matrices / decode.step_ms / 1e6, decode.read_gb_per_s};
  story::Table table{"limits", {"", "tokens/s", "GFLOP/s", "share of the arithmetic", "GB/s", "share of the memory"}, {}, 2};
  for (const auto& [name, tokens, got] :
       {std::tuple("prefill of 256", prefill.tokens_per_s, reads), std::tuple("decode", decode.tokens_per_s, writes)})
    table.rows.push_back({name, tokens, got.flops, got.flops / most.flops, got.bytes, got.bytes / most.bytes});
  table.rows.push_back({"the machine", NAN, most.flops, 1.0, most.bytes, 1.0});
  nb.show(table, kind_only);
  const auto measured = [](double arithmetic, double memory) {
    return fmt::format("{:.0f}% of the arithmetic, {:.0f}% of the memory", 100 * arithmetic, 100 * memory);
  };
  nb.claim("prefill reaches more than a third of the limit of arithmetic, and is three times as near to it as to that of memory",
           reads.flops / most.flops > std::max(1.0 / 3, 3 * reads.bytes / most.bytes),
           measured(reads.flops / most.flops, reads.bytes / most.bytes));
  nb.claim("decoding reaches more than a third of the limit of memory, and is three times as near to it as to that of arithmetic",
           writes.bytes / most.bytes > std::max(1.0 / 3, 3 * writes.flops / most.flops),
           measured(writes.flops / most.flops, writes.bytes / most.bytes));
}

// %% [markdown]
// ## 2. The ladder
// It is climbed five times, and each rung is compared with the one named beside it in the same climb:
//
// - **cache**: the 128th token with the keys and values of those before it, and by reading all again;
// - **threads**: all of this machine's, and one;
// - **quantization**: weights in 8 bits (q8_0), then in 4 (q4_0);
// - **grouped heads**: 2 key-value heads for 12 of queries, after 128 tokens and after 1,000, where the cache of 4-bit weights is no longer
//   small beside them;
// - **batch**: eight texts at once. Here the ratio is that of the tokens of all per second: it raises the throughput. The latency of each
//   text it makes worse.
//
// Two rungs more are the prompt's, where arithmetic is the limit: weights in 4 bits, and those with `--activations int8`: what they are
// multiplied with is rounded to 8 bits too, and products are of whole numbers. That speeds up batches as well, changes the logits a little,
// and so is not the default.

// %%
// One way to do it, and how long it took in each climb.
struct Way {
  std::function<double()> ms;
  std::vector<double> times = {};
};

// The n-th token of a text, read with the keys and values of those before it.
Way next_token(const Decoder<float>& model, Index n, Exec exec) {
  const auto cache = std::make_shared<KvCache<float>>(make_cache(model, 1));
  decoder_read<float>(model, std::vector<Token>(static_cast<std::size_t>(n - 1), 7), {.exec = exec, .cache = cache.get()});
  exec.row_exact = true;  // as generate does
  return {[&model, n, exec, cache] {
    double best = INFINITY;  // of a few: others use this machine too
    for (int i = 0; i < 6; ++i, cache->truncate(0, n - 1)) {
      const auto start = std::chrono::steady_clock::now();
      decoder_read<float>(model, std::array{Token{7}}, {.exec = exec, .cache = cache.get()});
      best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  }};
}

struct Rung {
  std::string name, against;
  double fastest = 0, least = 0, median = 0, most = 0;  // ms, ratios

  // `work`: of the fast way, in that of the slow one.
  Rung(std::string rung, std::string than, const Way& slow, const Way& fast, double work = 1)
      : name(std::move(rung)), against(std::move(than)), fastest(std::ranges::min(fast.times)) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < fast.times.size(); ++i) ratios.push_back(work * slow.times[i] / fast.times[i]);
    std::ranges::sort(ratios);
    least = ratios.front(), median = ratios[ratios.size() / 2], most = ratios.back();
  }
  std::string measured() const { return fmt::format("{:.2f} times ({:.2f} to {:.2f})", median, least, most); }
  bool counts() const { return median > 1.3; }
};

void climb(const Notebook& nb, const std::vector<Way*>& ways) {
  for (int i = 1; i <= 5; ++i) {
    nb.progress(fmt::format("climb {} of 5", i));
    for (Way* way : ways) way->times.push_back(way->ms());
  }
}

void show_rungs(Notebook& nb, const char* key, const std::vector<Rung>& rungs) {
  story::Table table{key, {"rung", "against", "ms", "least ratio", "median", "largest", "counts"}, {}, 2};
  for (const Rung& r : rungs) table.rows.push_back({r.name, r.against, r.fastest, r.least, r.median, r.most, r.counts() ? "yes" : "no"});
  nb.show(table, kind_only);
}

void show_ladder(Notebook& nb, const Decoder<float>& full, const Decoder<float>& eight, const Decoder<float>& four,
                 const Decoder<float>& grouped) {
  const Exec all = nb.exec();
  Exec whole = all;
  whole.activations = Activations::int8;
  const auto prompt = [](const Decoder<float>& model, const Exec& exec) {
    return Way{[&model, exec] { return bench_prefill(model, {.tokens = 128, .repeats = 1, .exec = exec}).ms; }};
  };
  const auto batch = [&](Index texts, const Exec& exec) {
    return Way{[&four, texts, exec] { return bench_decode(four, {.batch = texts, .tokens = 4, .repeats = 1, .exec = exec}).step_ms; }};
  };
  Way again = prompt(full, all), one = next_token(full, 128, {.threads = 1}), two = next_token(full, 128, all),
      in8 = next_token(eight, 128, all), in4 = next_token(four, 128, all), heads = next_token(grouped, 128, all),
      far = next_token(four, 1000, all), heads_far = next_token(grouped, 1000, all), text = batch(1, all), texts = batch(8, all),
      prompt4 = prompt(four, all), prompt_int8 = prompt(four, whole);
  climb(nb, {&again, &one, &two, &in8, &in4, &heads, &far, &heads_far, &text, &texts, &prompt4, &prompt_int8});
  const Rung cache("cache", "none", again, two), eight_bits("q8_0", "32 bits", two, in8),
      grouped_near("2 key-value heads, 128 tokens", "12", in4, heads), grouped_far("2 key-value heads, 1,000 tokens", "12", far, heads_far),
      batched("batch of 8, in q4_0", "1", text, texts, 8), int8("a prompt of 128, int8 activations", "exact", prompt4, prompt_int8);
  show_rungs(nb, "ladder",
             {cache, Rung("threads", "one", one, two), eight_bits, Rung("q4_0", "q8_0", in8, in4), grouped_near, grouped_far, batched,
              Rung("a prompt of 128, in q4_0", "32 bits", again, prompt4), int8});
  nb.claim("the cache counts at 128 tokens", cache.counts(), cache.measured());
  nb.claim("8 bits in place of 32 count", eight_bits.counts(), eight_bits.measured());
  nb.claim("a batch of 8 counts, for the tokens of all", batched.counts(), batched.measured());
  nb.claim("int8 activations count where a prompt is read", int8.counts(), int8.measured());
  const auto saved = [&](double places) {
    return static_cast<double>(decode_step_bytes(four, 1, places)) / static_cast<double>(decode_step_bytes(grouped, 1, places));
  };
  nb.claim("grouped heads save more of what a step reads after 1,000 tokens than after 128, in bytes", saved(1000) > 1.3 * saved(128),
           fmt::format("{:.2f} times fewer, and {:.2f}", saved(1000), saved(128)));
}

// %% [markdown]
// ## 3. Drafting
// The last rung leaves the weights as they are. A small model drafts k tokens one by one, the large one reads them in one pass, which costs
// little more than a pass for one token, and takes those that it could have drawn itself: x with probability min(1, p(x)/q(x)); the first
// that is not taken is drawn from max(0, p − q) (Leviathan, Kalman, Matias 2023; Chen et al. 2023). That must not change what is written.
// So first: does it? Two toys are trained on the generated tales; the one of one layer drafts for the one of three. The first two
// characters after "The " are drawn 4,000 times, and held against the exact probabilities of the larger model by χ². The smaller model's
// own draws are the control: they must be told apart, or the test is blind.

// %%
constexpr Index kTexts = 4000;

std::vector<Index> count_pairs(const Decoder<float>& model, const Decoder<float>* draft, const Tokenizer& tokenizer, GenerateOptions o) {
  const Index V = tokenizer.vocab_size();
  std::vector<Index> counts(static_cast<std::size_t>(V * V));
  o.sampling.temperature = 1, o.max_tokens = 4, o.draft = draft;
  for (Index i = 0; i < kTexts; ++i) {
    o.first_sequence = static_cast<std::uint64_t>(i);
    const Generation g = generate(model, tokenizer, "The ", o);
    ++counts[static_cast<std::size_t>(g.ids[0] * V + g.ids[1])];
  }
  return counts;
}

std::vector<double> exact_pairs(const Decoder<float>& model, const Tokenizer& tokenizer) {
  const Index V = tokenizer.vocab_size();
  std::vector<double> probability;
  const auto next = [&](const std::vector<Token>& text) {
    const Matrix<float> logits = decoder_read<float>(model, text).bottomRows(1);
    return sampling_distribution({logits.data(), static_cast<std::size_t>(V)}, text, {.temperature = 1});
  };
  std::vector<Token> text = tokenizer.encode("The ");
  const Distribution first = next(text);
  double sum = 0;
  for (Token a = 0; a < V; ++a) {
    text.push_back(a);
    for (const double p : next(text).probability)
      probability.push_back(first.probability[static_cast<std::size_t>(a)] * p), sum += probability.back();
    text.pop_back();
  }
  for (double& p : probability) p /= sum;  // single-precision logits: off by 1e-7
  return probability;
}

void show_same(Notebook& nb) {
  const ToyText text = toy_text(CorpusKind::stories, 300'000, nb.seed());
  const TrainOptions train{.steps = 300, .batch = 16, .rate = 4e-3, .min_rate = 4e-4, .seed = nb.seed()};
  const Decoder<float> large =
      train_toy(nb, "three layers", {.context = 64, .layers = 3, .heads = 4, .width = 64, .position = Position::rope}, train, text).model;
  const Decoder<float> small =
      train_toy(nb, "one layer", {.context = 64, .layers = 1, .heads = 2, .width = 32, .position = Position::rope}, train, text).model;
  GenerateOptions o;
  o.seed = nb.seed(), o.exec.threads = 1;
  const std::vector<double> exact = exact_pairs(large, text.tokenizer);
  const ChiSquare with = chi_square_test(count_pairs(large, &small, text.tokenizer, o), exact);
  const ChiSquare control = chi_square_test(count_pairs(small, nullptr, text.tokenizer, o), exact);
  nb.claim("drafted, 4,000 pairs of characters agree with the larger model's distribution (p > 0.001)", with.p > 0.001,
           fmt::format("χ² {:.1f} of {} degrees, p {:.3f}", with.statistic, with.degrees, with.p));
  nb.claim("the smaller model's own are told apart (p < 0.001)", control.p < 0.001,
           fmt::format("χ² {:.1f} of {} degrees", control.statistic, control.degrees));

  story::Table table{"toys", {"temperature", "drafted", "accepted", "share", "tokens a pass"}, {}, 2};
  bool same = true;
  for (const double temperature : {0.0, 0.8, 1.0}) {
    o.sampling.temperature = temperature, o.max_tokens = 56, o.first_sequence = 0, o.draft = nullptr;
    const std::vector<std::string> prompts{"The ", "One day ", "Sam ", "She "};
    const auto plain = generate_batch(large, text.tokenizer, prompts, o);
    o.draft = &small;
    const auto written = generate_batch(large, text.tokenizer, prompts, o);
    double all = 0, taken = 0, passes = 0;
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      all += static_cast<double>(written[s].drafted), taken += static_cast<double>(written[s].accepted),
          passes += static_cast<double>(written[s].decode_steps);
      same = same && (temperature > 0 || plain[s].ids == written[s].ids);
    }
    table.rows.push_back({fmt::format("{}", temperature), all, taken, taken / all, 1 + taken / passes});
  }
  nb.show(table, kind_only);
  nb.claim("greedy texts are the same, token for token", same, "four prompts, 56 tokens each");
}

// %% [markdown]
// For the toys it saves no time: their passes are cheap. It pays where a pass costs because the weights must be read, so back to 110M. But
// two models with random weights never agree. So the larger one is made such that a small one can guess it: its first two layers write
// five times as much, the others 0.15 times, and the first two, in 4 bits, draft. Then the others write sixty times that, and the draft is
// mostly wrong. **How often drafts are taken is thus set by hand here; what a pass costs is not.** Trained pairs lie between, as the toys
// do in the table above.

// %%
// What these layers write is multiplied.
void amplify(Decoder<float>& model, Index begin, Index end, float factor) {
  for (Index i = begin; i < end; ++i) {
    for (const char* name : {"attn.out", "mlp.down"}) *model.arena.view(fmt::format("blocks.{}.{}.weight", i, name)) *= factor;
  }
}

void show_speed(Notebook& nb, Decoder<float>& model) {
  amplify(model, 0, 2, 5);
  amplify(model, 2, 12, 0.15F);
  const Decoder<float> small = quantize_decoder(part_of(model, 2, 12), QuantizeTypes::all(QuantizedType::q4_0), nb.exec());
  const Tokenizer bytes = byte_tokenizer();
  GenerateOptions o;
  o.sampling.temperature = 0, o.max_tokens = 21, o.exec = nb.exec();
  GenerateOptions with = o;
  with.draft = &small;
  std::vector<Rung> rungs;
  std::vector<double> taken;
  bool same = true;
  for (const char* name : {"4 drafts, mostly right", "4 drafts, mostly wrong"}) {
    if (!rungs.empty()) amplify(model, 2, 12, 60);
    Generation plain, drafted;
    Way one_by_one{[&] { return 1e3 / (plain = generate(model, bytes, "A", o)).tokens_per_s(); }};
    Way drafts{[&] { return 1e3 / (drafted = generate(model, bytes, "A", with)).tokens_per_s(); }};
    climb(nb, {&one_by_one, &drafts});
    rungs.emplace_back(name, "none", one_by_one, drafts);
    taken.push_back(100 * drafted.acceptance_rate());
    same = same && plain.ids == drafted.ids;
  }
  show_rungs(nb, "drafting", rungs);
  nb.claim("drafts count that are mostly right", rungs[0].counts(), fmt::format("{}, {:.0f}% taken", rungs[0].measured(), taken[0]));
  nb.claim("drafts do not that are mostly wrong", !rungs[1].counts(), fmt::format("{}, {:.0f}% taken", rungs[1].measured(), taken[1]));
  nb.claim("either way the tokens are the same", same, fmt::format("{} of them", o.max_tokens));
}

// %% [markdown]
// ## What to say
// *First ask which latency. The time to the first token is prefill, bound by arithmetic: better kernels, more cores, products in whole
// numbers, or less prompt (a cached prefix) help it; weights in few bits alone do not. The time of each further token is reading the
// weights, bound by memory: so fewer bytes a token. The cache comes first, else everything is read again. Then 8 bits. 4 bits gain less
// than their bytes say, since unpacking them is work too. For long texts fewer key-value heads, for the cache is read as well. Threads help
// until the memory is busy. A batch shares one reading of the weights among many texts: throughput, not latency. And a draft shares it
// among the next tokens of one text: it makes one text faster without changing what is written, as far as the draft is cheap and right.*
// See it: `glassformer bench decode --batch 8`, `glassformer bench prefill --activations int8`, `glassformer sample --draft DIR`.

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    nb.progress("110M random weights");
    Decoder<float> full = random_model(shape(), {}, nb.exec());
    show_limits(nb, full);
    const Decoder<float> eight = quantize_decoder(full, QuantizeTypes::all(QuantizedType::q8_0), nb.exec());
    const Decoder<float> four = quantize_decoder(full, QuantizeTypes::all(QuantizedType::q4_0), nb.exec());
    show_ladder(nb, full, eight, four, quantize_decoder(part_of(full, 12, 2), QuantizeTypes::all(QuantizedType::q4_0), nb.exec()));
    show_same(nb);
    show_speed(nb, full);
  });
}
