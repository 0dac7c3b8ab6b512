// Questions about attention: scaling, mask, heads, grouped heads.
#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/ops/attention_core.hpp"
#include "glassformer/ops/linear.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"
#include "learn/operations.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

InterviewQuestion score_deviation(std::uint64_t seed) {
  Draws d(seed, "attention-scale");
  const Index D = d.one_of({16, 25, 64, 100, 144, 256});
  const RandomStream stream = d.stream("vectors");
  return {.id = "attention-scale",
          .text = fmt::format("The {} entries of q and of k are independent, with mean 0 and variance 1. What is the standard deviation of "
                              "q·k, before any scaling?",
                              D),
          .unit = "",
          .tolerance = {0.1, 0},
          .compute =
              [=] {  // 512 queries by 512 keys, multiplied by the engine
                Matrix<double> q(512, D), k(512, D), scores(512, 512);
                for (Index i = 0; i < q.size(); ++i) {
                  q.data()[i] = random_normal(stream, static_cast<std::uint64_t>(2 * i));
                  k.data()[i] = random_normal(stream, static_cast<std::uint64_t>(2 * i + 1));
                }
                ops::multiply_nt<double>(1, q, k, 0, scores, {});
                return std::sqrt(scores.array().square().mean() - std::pow(scores.mean(), 2));
              },
          .formula = std::sqrt(number(D)),
          .agreement = {0.05, 0},
          .derivation = fmt::format("A sum of D independent products of variance 1 has variance D, deviation √{} = {}. The run drew "
                                    "512·512 scores, so it is near that and not on it.",
                                    D, digits(std::sqrt(number(D)))),
          .carry_over = fmt::format(
              "Heads of width 128 (Llama 3 8B): √128 = {}. Unscaled, the best of a few keys would lead by tens and take all the weight.",
              digits(std::sqrt(128.0))),
          .carry_over_number = std::sqrt(128.0),
          .follow_up = "What goes wrong in training without the division by √D?",
          .follow_up_answer =
              "The softmax saturates: one weight near 1, the others near 0. Its derivative p(1 − p) is then near 0, so almost no gradient "
              "reaches q and k, and attention stays "
              "as it was drawn.",
          .read = {"docs/attention.md", "glassformer explain attention", "notebook 03"}};
}

InterviewQuestion two_keys(std::uint64_t seed) {
  Draws d(seed, "attention-softmax");
  const Index D = d.one_of({4, 16, 64}), root = D == 4 ? 2 : D == 16 ? 4 : 8, lead = d.between(1, 3);
  const double product = number(root * lead), weight = 1 / (1 + std::exp(-number(lead)));
  return {
      .id = "attention-softmax",
      .text = fmt::format(
          "A head of width {}. A query has q·k = {} with one key and q·k = 0 with the only other. What weight does the first key get?", D,
          product),
      .unit = "",
      .tolerance = {0, 0.03},
      .compute =
          [=] {  // q = (product, 0, …), keys (1, 0, …) and 0; values 1 and 0, so that z is the weight
            std::vector<double> q(static_cast<std::size_t>(2 * D), 0.0), k(q), v(q), z(q);
            q[static_cast<std::size_t>(D)] = product, k[0] = 1, v[0] = 1;
            ops::AttentionShape shape;
            shape.head_dim = D, shape.scale = 1 / std::sqrt(number(D));
            ops::AttentionSequence<double> s;
            s.queries = s.keys = 2, s.q = {q.data(), D, D}, s.k = {k.data(), D, D}, s.v = {v.data(), D, D}, s.z = {z.data(), D, D};
            const ops::AttentionSequence<double> sequences[] = {s};
            ops::attention_core_forward<double>(shape, sequences, {}, {});
            return z[static_cast<std::size_t>(D)];
          },
      .formula = weight,
      .agreement = {1e-9, 0},
      .derivation = fmt::format("The scores are {}/√{} = {} and 0: e^{}/(e^{} + 1) = {}.", product, D, lead, lead, lead, digits(weight)),
      .carry_over = fmt::format("The same product without the scaling would give e^{}/(e^{} + 1) = {}: hardly any gradient is left. In a "
                                "Llama head (D 128) it is divided by 11.3.",
                                product, product, digits(1 / (1 + std::exp(-product)))),
      .carry_over_number = 1 / (1 + std::exp(-product)),
      .follow_up = "Can a query attend to nothing?",
      .follow_up_answer =
          "No: the weights sum to 1. A head with nothing to say puts its weight on a token whose value changes little, often the first "
          "one: an attention sink. That is why a sliding "
          "cache keeps the first tokens.",
      .read = {"docs/attention.md", "glassformer explain attention", "notebook 03"}};
}

// Scores that are not masked, of one head and layer, counted in a pass.
double seen_pairs(Index tokens, Index window, std::uint64_t seed) {
  ModelConfig c = gpt2_like(1, 1, 8, tokens, 16);
  c.window = window;
  OperationCounter counter(resolved(c));
  decoder_read<float>(random_decoder(c, seed), random_ids(tokens, 16, RandomStream{seed}.at("ids")), {.trace = &counter});
  return number(counter.seen);
}

InterviewQuestion causal_scores(std::uint64_t seed) {
  Draws d(seed, "attention-causal");
  const Index T = d.between(20, 120);
  const double pairs = causal_pairs(number(T), 0), there = causal_pairs(8192, 0);
  return {.id = "attention-causal",
          .text = fmt::format("A text of {} tokens. How many of a head's {}×{} scores does the causal mask leave?", T, T, T),
          .unit = "scores",
          .tolerance = {0.005, 0},
          .compute = [=] { return seen_pairs(T, 0, seed); },
          .formula = pairs,
          .derivation =
              fmt::format("Token t (from 1) sees t keys, itself among them: 1 + 2 + … + {} = {}·{}/2 = {}. T²/2 forgets the diagonal.", T,
                          T, T + 1, grouped(pairs)),
          .carry_over = fmt::format("Llama 3 8B at 8,192 tokens: {} a head, and it has 32 heads in each of 32 layers.", grouped(there)),
          .carry_over_number = there,
          .follow_up = "Does the mask halve the time of attention?",
          .follow_up_answer =
              "Only if the kernel skips what is masked. Computing all scores and setting half to −∞ costs the same as no mask; a kernel "
              "that goes by blocks of keys "
              "leaves out blocks that lie wholly in the future.",
          .read = {"docs/attention.md", "glassformer explain attention", "notebook 03"}};
}

InterviewQuestion window_scores(std::uint64_t seed) {
  Draws d(seed, "attention-window");
  const Index w = d.between(4, 16), T = w * d.between(4, 8);
  const double pairs = causal_pairs(number(T), number(w));
  const ModelConfig mistral = mistral_7b();
  const double share = 100 * causal_pairs(number(mistral.context), number(mistral.window)) / causal_pairs(number(mistral.context), 0);
  return {
      .id = "attention-window",
      .text = fmt::format(
          "Causal attention with a sliding window: each token sees itself and the {} before it. How many scores has a head over {} tokens?",
          w - 1, T),
      .unit = "scores",
      .tolerance = {0.03, 0},
      .compute = [=] { return seen_pairs(T, w, seed); },
      .formula = pairs,
      .derivation = fmt::format("The first {} tokens see 1, 2, … {} keys, the other {} see {} each: {} + {} = {}. Linear in T.", w, w,
                                T - w, w, number(w * (w + 1) / 2), number((T - w) * w), grouped(pairs)),
      .carry_over = fmt::format("Mistral 7B, window 4,096, over 32,768 tokens: {}% of the scores of full causal attention.", digits(share)),
      .carry_over_number = share,
      .follow_up = "With a window of w, how far back can the last of L layers look?",
      .follow_up_answer =
          "Through the layers, up to L·(w − 1) tokens: each layer reads states that have read another window. But it is hearsay: what "
          "passes must survive in a residual "
          "stream of fixed width, and in practice far less than that distance is used.",
      .read = {"docs/attention.md", "glassformer explain attention"}};
}

InterviewQuestion fresh_pattern(std::uint64_t seed) {
  Draws d(seed, "attention-fresh");
  const Index t = d.one_of({5, 8, 10, 16, 20, 25, 40, 50});
  return {.id = "attention-fresh",
          .text = fmt::format("A decoder with GPT-2's initial weights, untrained. Token number {} (counted from 1) attends to itself and "
                              "all before it. What weight does it give to the first token, about?",
                              t),
          .unit = "",
          .tolerance = {0.15, 0},
          .compute =
              [=] {
                const ModelConfig c = gpt2_like(1, 4, 64, 64, 100);
                Recorder<float> recorder({"blocks.0.attn.pattern"});
                decoder_read<float>(random_decoder(c, seed), random_ids(t, 100, d.stream("ids")), {.trace = &recorder});
                double sum = 0;
                for (Index h = 0; h < 4; ++h) sum += recorder.at("blocks.0.attn.pattern", 0, h)(t - 1, 0);
                return sum / 4;  // the mean of its heads
              },
          .formula = 1 / number(t),
          .agreement = {0.12, 0},
          .derivation =
              fmt::format("Weights drawn with deviation 0.02 make all scores almost 0, and the softmax of equal scores is even: 1/{} = {}.",
                          t, digits(1 / number(t))),
          .carry_over = fmt::format(
              "GPT-2's last token of 1,024, before training: {} for each. Its entropy is ln 1024 = {} nats; a trained head's is far lower.",
              digits(1 / 1024.0), digits(std::log(1024.0))),
          .carry_over_number = 1 / 1024.0,
          .follow_up = "Is it good that attention starts even?",
          .follow_up_answer =
              "Yes: every key gets some gradient, so whichever is useful can be found. A start with large scores would commit each head to "
              "an accident of the draw, with "
              "a softmax too saturated to leave it.",
          .read = {"docs/attention.md", "glassformer explain attention", "notebook 03"}};
}

// Weights of the attention of layer 0, as the engine lays them out.
double laid_out_attention(const ModelConfig& c) {
  const Decoder<float> model = make_decoder<float>(c);
  return number(model.blocks[0].attention.qkv.weight.size() + model.blocks[0].attention.out.weight.size());
}

InterviewQuestion head_weights(std::uint64_t seed) {
  Draws d(seed, "attention-weights");
  const Index C = d.one_of({64, 128, 192, 256}), H = d.one_of({4, 8, 16});
  const ModelConfig c = gpt2_like(1, H, C, 16, 16);
  return {.id = "attention-weights",
          .text = fmt::format(
              "Width {}, {} heads of width {}. How many weights have the matrices for q, k, v and the output together, biases not counted?",
              C, H, C / H),
          .unit = "weights",
          .tolerance = {0.02, 0},
          .compute = [=] { return laid_out_attention(c); },
          .formula = attention_weights(c),
          .derivation =
              fmt::format("Four matrices of C×C: 4·{}² = {}. The number of heads does not enter: heads are columns of the same matrices.",
                          C, grouped(attention_weights(c))),
          .carry_over = fmt::format("GPT-2: 4·768² = {} a layer, with its 12 heads or with any other number.",
                                    grouped(attention_weights(gpt2_small()))),
          .carry_over_number = attention_weights(gpt2_small()),
          .follow_up = "If more heads cost nothing, why not 64 heads of width 12?",
          .follow_up_answer =
              "Each head compares by a dot product of its own width: narrow ones tell few things apart, since a score matrix of rank 12 is "
              "all that it can form. "
              "Widths of 64 to 128 have worked for most models.",
          .read = {"docs/attention.md", "notebook 04", "notebook 05"}};
}

InterviewQuestion grouped_weights(std::uint64_t seed) {
  Draws d(seed, "attention-grouped-weights");
  const Index H = 8, G = d.one_of({1, 2, 4}), C = d.one_of({64, 128, 256});
  const ModelConfig c = llama_like(1, H, G, C, 4 * C, 16), llama = llama3_8b();
  const double share = 100 * attention_weights(llama) / attention_weights(llama2_7b());
  return {
      .id = "attention-grouped-weights",
      .text = fmt::format("Width {}, {} query heads, but only {} key-value head{}. How many weights have the four attention matrices now?",
                          C, H, G, G == 1 ? "" : "s"),
      .unit = "weights",
      .tolerance = {0.03, 0},
      .compute = [=] { return laid_out_attention(c); },
      .formula = attention_weights(c),
      .derivation = fmt::format("q and output C×C each, k and v only G·D = {}·{} = {} wide: 2·{}² + 2·{}·{} = {}.", G, C / H, G * C / H, C,
                                C, G * C / H, grouped(attention_weights(c))),
      .carry_over = fmt::format("Llama 3 8B (32 heads over 8): {} a layer, {}% of what 32 key-value heads would take.",
                                grouped(attention_weights(llama)), digits(share)),
      .carry_over_number = attention_weights(llama),
      .follow_up = "Saving these weights is not why grouped heads exist. What is?",
      .follow_up_answer =
          "The cache. Keys and values of every token are kept and read for each new token; H/G times fewer of them means that many times "
          "more "
          "conversations in memory and less to read a step. The weights saved are spent on the MLP.",
      .read = {"docs/attention.md", "glassformer explain attention", "notebook 04"}};
}

InterviewQuestion which_key_head(std::uint64_t seed) {
  Draws d(seed, "attention-group-of");
  const Index G = d.one_of({2, 4}), H = G * d.one_of({2, 4}), head = d.between(H / G, H - 1);
  return {
      .id = "attention-group-of",
      .text = fmt::format("{} query heads share {} key-value heads, all counted from 0. Which key-value head does query head {} read?", H,
                          G, head),
      .unit = "",
      .tolerance = kExact,
      .compute =
          [=] {  // one token; the value of key-value head g is g, and a query head returns what it read
            std::vector<double> zero(static_cast<std::size_t>(H), 0.0), v(static_cast<std::size_t>(G)), z(zero);
            for (Index g = 0; g < G; ++g) v[static_cast<std::size_t>(g)] = number(g);
            ops::AttentionShape shape;
            shape.heads = H, shape.kv_heads = G;
            ops::AttentionSequence<double> s;
            s.queries = s.keys = 1, s.q = {zero.data(), H, 1}, s.k = {zero.data(), G, 1}, s.v = {v.data(), G, 1}, s.z = {z.data(), H, 1};
            const ops::AttentionSequence<double> sequences[] = {s};
            ops::attention_core_forward<double>(shape, sequences, {}, {});
            return z[static_cast<std::size_t>(head)];
          },
      .formula = number(head / (H / G)),
      .derivation = fmt::format("Groups are neighbours: head h reads h/(H/G), rounded down = {}/{} → {}.", head, H / G, head / (H / G)),
      .carry_over = fmt::format("Llama 3 8B, 32 over 8: query head 13 reads key-value head {}. Code that takes h mod G instead (13 mod 8 = "
                                "5) loads the same file without an error and talks nonsense.",
                                13 / (32 / 8)),
      .carry_over_number = 13 / (32 / 8),
      .follow_up = "How is a multi-head checkpoint turned into a grouped one?",
      .follow_up_answer =
          "The key and value matrices of a group's heads are averaged, and the model is trained on for a few percent of its training "
          "(Ainslie et al. 2023). Averaging alone loses "
          "quality; training brings nearly all of it back.",
      .read = {"docs/attention.md", "glassformer explain attention", "notebook 04"}};
}

InterviewQuestion score_memory(std::uint64_t seed) {
  Draws d(seed, "attention-memory");
  const Index H = d.one_of({2, 4, 8}), T = d.one_of({64, 100, 128, 200});
  const double there = 32.0 * 8192 * 8192 * 2;
  return {.id = "attention-memory",
          .text = fmt::format(
              "A layer with {} heads reads {} tokens and keeps the whole softmax pattern of every head as 32-bit floats. How many bytes?",
              H, T),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute =
              [=] {
                const ModelConfig c = gpt2_like(1, H, 8 * H, T, 16);
                Recorder<float> recorder({"blocks.0.attn.pattern"});
                decoder_read<float>(random_decoder(c, seed), random_ids(T, 16, d.stream("ids")), {.trace = &recorder});
                double bytes = 0;
                for (const auto& [site, value] : recorder.values()) bytes += number(value.size()) * sizeof(float);
                return bytes;
              },
          .formula = number(H * T * T * 4),
          .derivation = fmt::format("H·T²·4 = {}·{}²·4 = {} bytes.", H, T, grouped(number(H * T * T * 4))),
          .carry_over = fmt::format("A layer of Llama 3 8B at 8,192 tokens, in 16 bits: 32·8192²·2 bytes = {}, for one sequence.",
                                    binary_bytes(there)),
          .carry_over_number = there,
          .follow_up = "How can attention be exact without ever holding that matrix?",
          .follow_up_answer =
              "Go over the keys in blocks with a running maximum and a running sum, and rescale the partial result when the maximum grows "
              "(FlashAttention). Only log Σ exp of each row is "
              "kept; the backward pass makes the weights again from it.",
          .read = {"docs/attention.md", "docs/ops.md", "notebook 03"}};
}

}  // namespace

void add_attention_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {score_deviation, two_keys, causal_scores, window_scores, fresh_pattern, head_weights, grouped_weights,
                          which_key_head, score_memory}) {
    all.push_back(make(seed)), all.back().topic = "attention";
  }
}

}  // namespace glassformer::learn
