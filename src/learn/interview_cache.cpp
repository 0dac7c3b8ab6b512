// Questions about the KV cache and latency: bytes, operations, what bounds a decoded token.
#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/sample/generate.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"
#include "learn/operations.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

InterviewQuestion bytes(std::uint64_t seed) {
  Draws d(seed, "cache-bytes");
  const Index L = d.between(2, 6), H = 8, G = d.one_of({2, 4, 8}), D = d.one_of({16, 32, 64}), T = d.one_of({256, 512, 1024});
  const ModelConfig c = llama_like(L, H, G, H * D, 64, 16);
  return {.id = "cache-bytes",
          .text = fmt::format("A model has {} layers, {} query heads over {} key-value heads of width {}. How many bytes does its KV cache "
                              "take at {} tokens, in 32-bit floats?",
                              L, H, G, D, grouped(number(T))),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute = [=] { return number(make_cache(make_decoder<float>(c), 1, T).bytes()); },
          .formula = cache_bytes(c, number(T), 4),
          .derivation =
              fmt::format("Keys and values: 2·L·T·G·D·4 bytes = 2·{}·{}·{}·{}·4 = {}.", L, T, G, D, grouped(cache_bytes(c, number(T), 4))),
          .carry_over = fmt::format("Llama 3 8B (32 layers, 8 key-value heads of 128) in bf16: {} a token, {} at 8,192 tokens.",
                                    binary_bytes(cache_bytes(llama3_8b(), 1, 2)), binary_bytes(cache_bytes(llama3_8b(), 8192, 2))),
          .carry_over_number = cache_bytes(llama3_8b(), 1, 2),
          .follow_up = "Why are queries not cached?",
          .follow_up_answer =
              "A query is used once, by its own token. Keys and values of a token are read by every later token and, under a causal mask, "
              "never change: that is what makes "
              "keeping them exact.",
          .read = {"docs/cache.md", "glassformer explain cache", "notebook 07"}};
}

InterviewQuestion grouped_ratio(std::uint64_t seed) {
  Draws d(seed, "cache-grouped");
  const Index H = d.one_of({8, 16}), G = d.one_of({1, 2, 4});
  const ModelConfig full = llama_like(2, H, H, 8 * H, 32, 16), few = llama_like(2, H, G, 8 * H, 32, 16);
  return {.id = "cache-grouped",
          .text = fmt::format("{} query heads. By what factor does the cache shrink with {} key-value head{} instead of {}?", H, G,
                              G == 1 ? "" : "s", H),
          .unit = "times",
          .tolerance = kExact,
          .compute =
              [=] {
                return number(make_cache(make_decoder<float>(full), 1, 64).bytes()) /
                       number(make_cache(make_decoder<float>(few), 1, 64).bytes());
              },
          .formula = number(H / G),
          .derivation = fmt::format("Only keys and values are kept: H/G = {}/{} = {}.", H, G, H / G),
          .carry_over = fmt::format("Llama 2 7B (32 key-value heads): {} a token in bf16. Llama 3 8B (8): {}.",
                                    binary_bytes(cache_bytes(llama2_7b(), 1, 2)), binary_bytes(cache_bytes(llama3_8b(), 1, 2))),
          .carry_over_number = cache_bytes(llama2_7b(), 1, 2) / cache_bytes(llama3_8b(), 1, 2),
          .follow_up = "Does it also save operations in attention?",
          .follow_up_answer =
              "No: every query head still compares with every key. What is saved is memory and the reading of it, which is what bounds "
              "decoding, and the projections to k and v are smaller.",
          .read = {"docs/attention.md", "glassformer explain cache", "notebook 04"}};
}

InterviewQuestion conversations(std::uint64_t seed) {
  Draws d(seed, "cache-conversations");
  const Index n = d.one_of({8, 20, 50}), T = d.one_of({200, 256, 500}), L = d.between(2, 4), G = d.one_of({2, 4}), D = 16;
  const ModelConfig c = llama_like(L, 8, G, 8 * D, 64, 16);
  const double there = cache_bytes(llama3_8b(), 100 * 4000.0, 2);
  return {.id = "cache-conversations",
          .text = fmt::format("A service assistant holds {} customer conversations of up to {} tokens at once. Its model: {} layers, {} "
                              "key-value heads of width {}, 32-bit cache. How many bytes of cache "
                              "in all?",
                              n, T, L, G, D),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute = [=] { return number(make_cache(make_decoder<float>(c), n, T).bytes()); },
          .formula = cache_bytes(c, number(n * T), 4),
          .derivation = fmt::format("2·L·G·D·4 = {} bytes a token, {}·{} tokens: {}.", grouped(cache_bytes(c, 1, 4)), n, T,
                                    grouped(cache_bytes(c, number(n * T), 4))),
          .carry_over = fmt::format("100 conversations of 4,000 tokens with Llama 3 8B in bf16: {}, three times its weights ({}).",
                                    binary_bytes(there), binary_bytes(2 * parameters(llama3_8b()))),
          .carry_over_number = there,
          .follow_up = "All conversations begin with the same 1,500 tokens of instructions. What can be shared?",
          .follow_up_answer =
              "Their keys and values: they depend on the tokens before them alone, so one copy serves all conversations and is computed "
              "once. It must be the very beginning: a name "
              "or a date in front of it makes everything after it differ.",
          .read = {"docs/cache.md", "glassformer explain cache", "notebook 07"}};
}

// Tokens that go through the layers while n are generated after a prompt of P, counted by a trace.
double rows_generated(Index P, Index n, bool use_cache, std::uint64_t seed) {
  const ModelConfig c = gpt2_like(1, 1, 8, P + n + 1, 256);
  OperationCounter counter(c);
  GenerateOptions o;
  o.max_tokens = n, o.use_cache = use_cache, o.trace = &counter;
  generate(random_decoder(c, seed), byte_tokenizer(), std::string(static_cast<std::size_t>(P), 'a'), o);
  return number(counter.rows);
}

InterviewQuestion rows_cached(std::uint64_t seed) {
  Draws d(seed, "cache-rows");
  const Index P = d.between(10, 60), n = d.between(10, 40);
  return {.id = "cache-rows",
          .text = fmt::format(
              "A prompt of {} tokens, {} tokens are generated, with the KV cache. How many tokens go through the layers in all?", P, n),
          .unit = "tokens",
          .tolerance = {0, 1},
          .compute = [=] { return rows_generated(P, n, true, seed); },
          .formula = number(P + n - 1),
          .derivation =
              fmt::format("The prompt once, and each generated token but the last, which nobody reads: {} + {} − 1 = {}.", P, n, P + n - 1),
          .carry_over = fmt::format("A chat with 1,000 tokens of prompt and 300 of answer: {} passes of a token through the model. Each "
                                    "costs about 2 operations a parameter.",
                                    grouped(1000 + 300 - 1)),
          .carry_over_number = 1000 + 300 - 1,
          .follow_up = "The prompt's tokens and the answer's cost the same operations. Why is the answer so much slower?",
          .follow_up_answer =
              "The prompt is read in one pass: each weight is loaded once and used for all its tokens, and arithmetic is the limit. Each "
              "answered token loads all weights again for a single "
              "row, and memory is the limit.",
          .read = {"docs/cache.md", "glassformer explain cache", "notebook 07"}};
}

InterviewQuestion rows_uncached(std::uint64_t seed) {
  Draws d(seed, "cache-none");
  const Index P = d.between(5, 30), n = d.between(10, 40);
  const auto rows = [](double prompt, double drawn) { return drawn * prompt + drawn * (drawn - 1) / 2; };
  return {.id = "cache-none",
          .text = fmt::format("The same without a cache: a prompt of {} tokens, {} generated, and the whole text is read again for each. "
                              "How many tokens go through the layers?",
                              P, n),
          .unit = "tokens",
          .tolerance = {0.05, 0},
          .compute = [=] { return rows_generated(P, n, false, seed); },
          .formula = rows(number(P), number(n)),
          .derivation = fmt::format("{0} passes over {1}, {1} + 1, … tokens: {0}·{1} + {0}·{2}/2 = {3}. Quadratic in what is generated.", n,
                                    P, n - 1, grouped(rows(number(P), number(n)))),
          .carry_over = fmt::format("1,000 tokens of prompt and 300 of answer: {} instead of 1,299, {} times the work.",
                                    grouped(rows(1000, 300)), digits(std::round(rows(1000, 300) / 1299))),
          .carry_over_number = rows(1000, 300),
          .follow_up = "Measured in seconds the cache often helps less than that. Why?",
          .follow_up_answer =
              "Reading many rows uses the arithmetic units well, reading one does not: both load all weights. On a small model a pass over "
              "50 tokens takes hardly longer than a pass over "
              "one, so count operations as well as milliseconds.",
          .read = {"docs/cache.md", "glassformer explain cache", "notebook 07"}};
}

InterviewQuestion scores_a_step(std::uint64_t seed) {
  Draws d(seed, "cache-scores");
  const Index L = d.between(2, 4), H = d.one_of({2, 4}), U = d.one_of({50, 99, 127, 200});
  const ModelConfig c = gpt2_like(L, H, 8 * H, 256, 32);
  return {
      .id = "cache-scores",
      .text = fmt::format(
          "{} layers with {} heads each; the cache holds {} tokens. One more token is decoded. How many scores q·k are computed?", L, H, U),
      .unit = "scores",
      .tolerance = {0.02, 0},
      .compute =
          [=] {
            const Decoder<float> model = random_decoder(c, seed);
            const std::vector<Token> ids = random_ids(U + 1, 32, d.stream("ids"));
            KvCache<float> cache = make_cache(model, 1);
            decoder_read<float>(model, std::span(ids).first(static_cast<std::size_t>(U)), {.cache = &cache});
            OperationCounter counter(c);
            decoder_read<float>(model, std::span(ids).last(1), {.trace = &counter, .cache = &cache});
            return number(counter.scores);
          },
      .formula = number(L * H * (U + 1)),
      .derivation =
          fmt::format("One query a head against {} cached keys and its own: L·H·(U + 1) = {}·{}·{} = {}. Linear in the text so far.", U, L,
                      H, U + 1, grouped(number(L * H * (U + 1)))),
      .carry_over = fmt::format("Llama 3 8B with 8,191 tokens in the cache: 32·32·8,192 = {} scores for a token, {} multiply-adds with "
                                "p·v; its linear layers take {}.",
                                grouped(32.0 * 32 * 8192), grouped(score_multiplications(llama3_8b(), 1, 8192)),
                                grouped(linear_multiplications(llama3_8b()))),
      .carry_over_number = 32.0 * 32 * 8192,
      .follow_up = "So is the time of a decoded token the same at 100 and at 4,000 tokens of text?",
      .follow_up_answer =
          "Nearly, while the text is much shorter than six times the width: the linear layers dominate and do not depend on it. Beyond, "
          "the time grows linearly with the text, as the "
          "cache that must be read does.",
      .read = {"docs/attention.md", "glassformer explain cache", "notebook 07"}};
}

InterviewQuestion memory_bound(std::uint64_t seed) {
  Draws d(seed, "cache-tokens-a-second");
  const Index L = d.between(2, 6), C = d.one_of({128, 256}), V = d.one_of({1000, 2000}), rate = d.one_of({20, 50, 100});
  const ModelConfig c = llama_like(L, 4, 4, C, 3 * C, V);
  const auto read_bytes = [](const ModelConfig& m, double each) {
    return each * (parameters(m) - number(m.vocab * m.width));
  };  // one row of the embedding
  const double formula = number(rate) * 1e9 / read_bytes(c, 4), there = 3.35e12 / read_bytes(llama2_7b(), 2);
  return {.id = "cache-tokens-a-second",
          .text = fmt::format("A Llama with {} parameters, {} of them its input embedding, in 32-bit floats. Memory delivers {} GB/s, and "
                              "nothing fits the processor's cache. How many tokens a second can one "
                              "sequence be decoded at, at most?",
                              grouped(parameters(c)), grouped(number(V * C)), rate),
          .unit = "tokens a second",
          .tolerance = {0.15, 0},
          .compute =
              [=] {  // the bytes of every tensor that a decoded token multiplies with
                const Decoder<float> model = make_decoder<float>(c);
                double read = 0;
                for (const TensorInfo& t : model.arena.layout().tensors()) {
                  if (t.name != "embed.weight") read += number(t.size()) * sizeof(float);
                }
                return number(rate) * 1e9 / read;
              },
          .formula = formula,
          .agreement = {1e-9, 0},
          .derivation =
              fmt::format("Each token reads every weight once (of the embedding one row): {} bytes; {}e9 / that = {} tokens a second.",
                          grouped(read_bytes(c, 4)), rate, digits(formula)),
          .carry_over = fmt::format("Llama 2 7B in 16 bits on a card that reads 3.35 TB/s (the H100's data sheet): at most {} tokens a "
                                    "second for one sequence, whatever its arithmetic.",
                                    digits(std::round(there))),
          .carry_over_number = there,
          .follow_up = "Which ways past this limit are there?",
          .follow_up_answer =
              "Read fewer bytes: quantize the weights. Use what was read more often: decode several sequences together, or let a small "
              "model draft tokens that the large one checks in one pass. "
              "Threads help only until the memory is busy.",
          .read = {"docs/cache.md", "glassformer bench train"}};
}

InterviewQuestion sliding(std::uint64_t seed) {
  Draws d(seed, "cache-sinks");
  const Index capacity = d.one_of({16, 32, 64}), sinks = d.between(1, 6), T = capacity * 2 + d.between(1, 30);
  return {.id = "cache-sinks",
          .text = fmt::format("A sliding KV cache holds {} tokens and always keeps the first {}. After {} tokens, how many of the most "
                              "recent ones does it hold?",
                              capacity, sinks, T),
          .unit = "tokens",
          .tolerance = kExact,
          .compute =
              [=] {  // each token writes its number as its key; count which are found from the end of the text back
                CacheShape shape;
                shape.layers = 1, shape.kv_heads = 1, shape.capacity = capacity, shape.head_dim = 1, shape.sliding = true,
                shape.sinks = sinks;
                KvCache<float> cache(shape);
                for (Index t = 0; t < T; ++t) {
                  const float key = static_cast<float>(t), value = 0;
                  cache.write(0, 0, cache.reserve(0, 1), &key, &value);
                  cache.commit(0, 1);
                }
                Workspace workspace;
                const auto keys = cache.keys(0, 0, cache.length(0), workspace);
                Index recent = 0;
                for (Index i = cache.length(0) - 1; i >= 0 && *keys.at(i, 0) == static_cast<float>(T - 1 - recent); --i) ++recent;
                return number(recent);
              },
          .formula = number(capacity - sinks),
          .derivation = fmt::format("The sinks take their places for good: {} − {} = {}.", capacity, sinks, capacity - sinks),
          .carry_over = fmt::format("StreamingLLM (Xiao et al. 2023) keeps 4 sinks: of a window of 1,024 the last {} tokens remain, and "
                                    "Llama 2's perplexity stays flat over millions of tokens.",
                                    grouped(1024 - 4)),
          .carry_over_number = 1024 - 4,
          .follow_up = "Can the model then answer about the beginning of a long conversation?",
          .follow_up_answer =
              "No. Sinks keep the softmax in order, not the content: what left the window is forgotten. A flat perplexity does not show "
              "that, because most tokens "
              "depend on recent text only.",
          .read = {"docs/cache.md", "glassformer explain cache"}};
}

InterviewQuestion outweighs(std::uint64_t seed) {
  Draws d(seed, "cache-outweighs");
  const Index L = d.between(2, 5), G = d.one_of({2, 4, 8}), C = d.one_of({64, 128}), V = d.one_of({256, 512});
  const ModelConfig c = llama_like(L, 8, G, C, 3 * C, V);
  const auto tokens = [](const ModelConfig& m) { return parameters(m) / cache_bytes(m, 1, 1); };
  return {.id = "cache-outweighs",
          .text = fmt::format("A Llama of {} parameters: {} layers, {} key-value heads of width {}. At how many cached tokens does the "
                              "cache take as much memory as the weights (both of one type)?",
                              grouped(parameters(c)), L, G, C / 8),
          .unit = "tokens",
          .tolerance = {0.05, 0},
          .compute =
              [=] {
                const Decoder<float> model = make_decoder<float>(c);
                return number(model.arena.layout().parameters()) * sizeof(float) / number(make_cache(model, 1, 1).bytes());
              },
          .formula = tokens(c),
          .agreement = {1e-12, 0},
          .derivation = fmt::format("parameters/(2·L·G·D) = {}/(2·{}·{}·{}) = {}.", grouped(parameters(c)), L, G, C / 8, digits(tokens(c))),
          .carry_over = fmt::format(
              "Llama 3 8B: {} tokens, say 15 customers with 8,192 each. From there on the cache, not the model, decides how many fit.",
              grouped(tokens(llama3_8b()))),
          .carry_over_number = tokens(llama3_8b()),
          .follow_up = "How would you fit twice as many conversations?",
          .follow_up_answer =
              "Keys and values in 8 bits; fewer key-value heads where the model has them; a window; pages of a few tokens rather than a "
              "full context reserved for "
              "each; one copy of a shared beginning. First measure how long conversations really are.",
          .read = {"docs/cache.md", "glassformer explain cache", "notebook 07"}};
}

}  // namespace

void add_cache_questions(Questions& all, std::uint64_t seed) {
  for (const auto make :
       {bytes, grouped_ratio, conversations, rows_cached, rows_uncached, scores_a_step, memory_bound, sliding, outweighs}) {
    all.push_back(make(seed)), all.back().topic = "cache";
  }
}

}  // namespace glassformer::learn
