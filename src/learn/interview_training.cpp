// Questions about training: the loss, its gradient, its floor.
#include <array>
#include <cmath>
#include <numbers>

#include "glassformer/data/corpus.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/score/score.hpp"
#include "glassformer/train/trainer.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

InterviewQuestion first_loss(std::uint64_t seed) {
  Draws d(seed, "training-first-loss");
  const Index V = d.one_of({65, 100, 256, 512, 1000, 2000});
  return {
      .id = "training-first-loss",
      .text = fmt::format("A model with {} tokens and GPT-2's initial weights. What is its loss before the first step, in nats a token?",
                          grouped(number(V))),
      .unit = "nats",
      .tolerance = {0.03, 0},
      .compute =
          [=] {
            const Decoder<float> model = random_decoder(gpt2_like(2, 2, 32, 64, V), seed);
            return decoder_read_loss<float>(model, random_ids(64, V, d.stream("ids"))).mean();
          },
      .formula = std::log(number(V)),
      .agreement = {0.02, 0},
      .derivation = fmt::format("The logits are almost equal, so every token has probability 1/V: loss = −ln(1/{}) = ln {} = {} nats.", V,
                                V, digits(std::log(number(V)))),
      .carry_over =
          fmt::format("GPT-2: ln 50257 = {} nats. Llama 3: ln 128256 = {}.", digits(std::log(50257.0)), digits(std::log(128256.0))),
      .carry_over_number = std::log(50257.0),
      .follow_up = "Your first loss is 30 where ln V is 10.8. What do you suspect?",
      .follow_up_answer =
          "The initial weights: logits that are far apart are confident and wrong. An output head or embedding drawn with deviation 1, or "
          "a missing final norm, does it. "
          "Far below ln V at step 0, suspect that the targets leak into the inputs.",
      .read = {"docs/training.md", "docs/ops.md", "notebook 06"}};
}

InterviewQuestion logit_gradient(std::uint64_t seed) {
  Draws d(seed, "training-logit-gradient");
  const Index a = d.between(1, 4), b = d.between(1, 4), c = d.between(1, 4);
  const bool right = d.between(0, 1) == 1;
  const double p = number(a) / number(a + b + c), formula = right ? p - 1 : p;
  return {.id = "training-logit-gradient",
          .text = fmt::format("A vocabulary of three; the model gives them the probabilities {0}/{3}, {1}/{3}, {2}/{3}. The right token is "
                              "the {4}. What is the derivative of the cross-entropy with "
                              "respect to the logit of the first?",
                              a, b, c, a + b + c, right ? "first" : "second"),
          .unit = "",
          .tolerance = {0, 0.02},
          .compute =
              [=] {
                Matrix<double> logits(1, 3);
                logits << std::log(number(a)), std::log(number(b)), std::log(number(c));
                const std::array<Token, 1> target = {right ? 0 : 1};
                std::array<double, 1> loss{};
                ops::cross_entropy<double>(logits, target, loss, true, 1.0, {});
                return logits(0, 0);
              },
          .formula = formula,
          .agreement = {0, 1e-12},
          .derivation = fmt::format("Softmax and cross-entropy together: p − [is it the target] = {}/{}{} = {}.", a, a + b + c,
                                    right ? " − 1" : " − 0", digits(formula)),
          .carry_over =
              fmt::format("An untrained GPT-2: 1/50257 − 1 = {} for the right token's logit, +0.00002 for every other. They sum to 0.",
                          digits(1 / 50257.0 - 1)),
          .carry_over_number = 1 / 50257.0 - 1,
          .follow_up = "Why is it a good match that this gradient has no derivative of the softmax in it?",
          .follow_up_answer =
              "The logarithm undoes the exponential: a confident wrong answer has p near 0 and still a gradient near −1. With a squared "
              "error on probabilities the factor p(1 − p) would "
              "remain and the gradient vanish just where it is needed.",
          .read = {"docs/ops.md", "glassformer explain backward", "notebook 06"}};
}

InterviewQuestion entropy_floor(std::uint64_t seed) {
  Draws d(seed, "training-floor");
  const CorpusKind kind = d.between(0, 1) == 0 ? CorpusKind::stories : CorpusKind::support;
  const double bits = source_bits_per_byte(kind), shown = std::round(bits * 1000) / 1000;
  const std::uint64_t text_seed = static_cast<std::uint64_t>(d.between(1, 1000));
  return {
      .id = "training-floor",
      .text = fmt::format("A text comes from a source of {} bits per byte ({}). A model reads it byte by byte. Below what loss, in nats a "
                          "token, can no model stay?",
                          shown, kind == CorpusKind::stories ? "this project's tales" : "this project's service dialogues"),
      .unit = "nats",
      .tolerance = {0.05, 0},
      .compute =
          [=] {  // of a text: −ln p of the choices that made it
            const Corpus corpus = make_corpus(kind, 200000, text_seed);
            return corpus.entropy_bits * std::numbers::ln2 / number(static_cast<Index>(corpus.text.size()));
          },
      .formula = bits * std::numbers::ln2,
      .agreement = {0.02, 0},
      .derivation = fmt::format(
          "A token is a byte, a bit is ln 2 nats: {}·0.6931 = {} nats. (The run drew 200 KB of text and summed the choices that made it.)",
          shown, digits(bits * std::numbers::ln2)),
      .carry_over = fmt::format("With GPT-2's tokens of 3.3 bytes the floor of the same text would be 3.3·{} = {} nats a token: compare "
                                "models with different tokenizers in bits per byte only.",
                                digits(bits * std::numbers::ln2), digits(3.3 * bits * std::numbers::ln2)),
      .carry_over_number = 3.3 * bits * std::numbers::ln2,
      .follow_up = "A colleague reports a training loss below the floor. What happened?",
      .follow_up_answer =
          "Memorization: on text that it has seen, a model can go below the entropy of the source, down to 0. On new text it cannot, on "
          "average. "
          "Look at the validation loss, or for validation text inside the training set.",
      .read = {"docs/corpora.md", "docs/training.md", "notebook 06"}};
}

InterviewQuestion untrained_bits(std::uint64_t seed) {
  Draws d(seed, "training-bits-per-byte");
  const CorpusKind kind = d.between(0, 1) == 0 ? CorpusKind::stories : CorpusKind::support;
  return {.id = "training-bits-per-byte",
          .text = fmt::format("An untrained model that reads {} byte by byte, vocabulary 256: how many bits per byte does it score?",
                              kind == CorpusKind::stories ? "tales" : "customer dialogues"),
          .unit = "bits",
          .tolerance = {0.03, 0},
          .compute =
              [=] {
                const Tokenizer tokenizer = byte_tokenizer();
                const Decoder<float> model = random_decoder(gpt2_like(1, 2, 32, 64, 256), seed);
                return score_tokens(model, tokenizer, tokenizer.encode(make_corpus(kind, 4000, 1).text), 64, {}).bits_per_byte();
              },
          .formula = 8,
          .agreement = {0.02, 0},
          .derivation = "loss = ln 256 nats a byte; divided by ln 2, log2 256 = 8 bits: a byte costs a byte.",
          .carry_over = fmt::format("GPT-2's tokens hold about 3.3 bytes, so untrained it would score log2(50257)/3.3 = {} bits per byte: "
                                    "a larger vocabulary begins lower.",
                                    digits(std::log2(50257.0) / 3.3)),
          .carry_over_number = std::log2(50257.0) / 3.3,
          .follow_up = "Why bits per byte rather than perplexity?",
          .follow_up_answer =
              "Perplexity is per token, so it depends on the tokenizer: twice as many tokens, each easier, look like a better model. Bits "
              "per byte count the same text for all, and "
              "tell how far it could be compressed.",
          .read = {"docs/training.md", "docs/corpora.md"}};
}

InterviewQuestion learned_unigram(std::uint64_t seed) {
  Draws d(seed, "training-noise");
  const Index K = d.one_of({4, 8, 16}), V = d.one_of({64, 100, 128});
  return {.id = "training-noise",
          .text = fmt::format("The vocabulary has {} tokens. The training text is noise: each token drawn evenly from the same {} of them. "
                              "Where does the loss settle, in nats?",
                              V, K),
          .unit = "nats",
          .tolerance = {0.05, 0},
          .compute =
              [=] {  // 120 steps of a tiny model; the mean loss of the last 20
                ModelConfig c = gpt2_like(1, 2, 16, 16, V);
                Decoder<float> model = random_decoder(c, seed);
                TrainOptions o;
                o.steps = 120, o.batch = 16, o.rate = 3e-2, o.min_rate = 3e-3, o.warmup = 10;
                Trainer<float> trainer(model, o);
                const BatchSource source = [&](Index step, Index) {  // new noise each step: nothing to memorize
                  const std::vector<Token> ids = random_ids(400, K, d.stream("noise").at(static_cast<std::uint64_t>(step)));
                  return random_batch(ids, o.batch, 16, d.stream("rows"), static_cast<std::uint64_t>(step));
                };
                double sum = 0;
                for (Index i = 0; i < o.steps; ++i) {
                  const double loss = trainer.step(source).loss_nats;
                  if (i >= o.steps - 20) sum += loss / 20;
                }
                return sum;
              },
          .formula = std::log(number(K)),
          .agreement = {0.03, 0},
          .derivation = fmt::format("It starts at ln {} = {} and learns which tokens occur; which comes next cannot be known, so it ends "
                                    "at the entropy of the draw, ln {} = {}. (The run trained 120 steps.)",
                                    V, digits(std::log(number(V))), K, digits(std::log(number(K)))),
          .carry_over = fmt::format("Random card numbers: each free digit costs any model at least ln 10 = {} nats, however large it is; "
                                    "only the check digit can be predicted.",
                                    digits(std::log(10.0))),
          .carry_over_number = std::log(10.0),
          .follow_up = "The loss stops at the unigram entropy although the text is no noise. What do you check?",
          .follow_up_answer =
              "Whether anything but the last token's frequency reaches the head: attention's output or the gradient cut off, positions "
              "mixed up, targets shuffled against inputs, "
              "a rate so high that only the output bias survives. A trace or a gradient check finds it.",
          .read = {"docs/corpora.md", "docs/training.md", "docs/gradients.md"}};
}

}  // namespace

void add_training_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {first_loss, logit_gradient, entropy_floor, untrained_bits, learned_unigram}) {
    all.push_back(make(seed)), all.back().topic = "training";
  }
}

}  // namespace glassformer::learn
