// Questions about training: loss, gradients, the optimizer, the schedule, the floor.
#include <array>
#include <cmath>
#include <numbers>

#include "glassformer/data/corpus.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/ops/optimizer.hpp"
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

InterviewQuestion adamw_first_step(std::uint64_t seed) {
  Draws d(seed, "training-adamw-first");
  const double rate = d.number_of({1e-3, 3e-4, 1e-2}), gradient = d.number_of({0.0004, 0.03, 2.5, 40.0});
  return {.id = "training-adamw-first",
          .text = fmt::format("AdamW, rate {}, no weight decay. On the very first step a weight has the gradient {}. How far does it move?",
                              rate, gradient),
          .unit = "",
          .tolerance = {0.02, 0},
          .compute =
              [=] {
                std::array<double, 1> theta = {1}, m = {0}, v = {0};
                const std::array<double, 1> g = {gradient};
                ops::AdamwStep step;
                step.rate = rate;
                ops::adamw_update<double>(step, theta, g, m, v, {});
                return std::abs(theta[0] - 1);
              },
          .formula = rate * gradient / (gradient + 1e-8),
          .agreement = {1e-9, 0},
          .derivation = fmt::format(
              "Corrected for their start at zero, m̂ = g and √v̂ = |g|: the step is rate·g/(|g| + ε) = {}, whatever the gradient's size.",
              digits(rate)),
          .carry_over = fmt::format("nanoGPT's GPT-2 recipe, rate 6e-4 after 2,000 steps of warm-up: all 124M weights move by 6e-4/2000 = "
                                    "{} in the first step, up or down.",
                                    digits(6e-4 / 2000)),
          .carry_over_number = 6e-4 / 2000,
          .follow_up = "Then why warm up?",
          .follow_up_answer =
              "In the first steps v̂ rests on a handful of gradients, and every weight moves by the whole rate in a direction that is "
              "mostly noise. A slow rise gives the averages "
              "time; post-norm models diverge or stall without it.",
          .read = {"docs/training.md", "docs/ops.md", "notebook 06"}};
}

InterviewQuestion weight_decay(std::uint64_t seed) {
  Draws d(seed, "training-decay");
  const double rate = d.number_of({1e-3, 3e-3}), decay = d.number_of({0.1, 0.01}), weight = d.number_of({2.0, 5.0});
  const Index steps = d.one_of({500, 1000, 2000});
  const double formula = weight * std::pow(1 - rate * decay, number(steps));
  return {.id = "training-decay",
          .text = fmt::format("AdamW, rate {}, decay {}. A weight of {} gets no gradient at all (a rare token's row, say). What is it "
                              "after {} steps at that rate?",
                              rate, decay, weight, grouped(number(steps))),
          .unit = "",
          .tolerance = {0.03, 0},
          .compute =
              [=] {
                std::array<double, 1> theta = {weight}, m = {0}, v = {0};
                const std::array<double, 1> g = {0};
                ops::AdamwStep step;
                step.rate = rate, step.decay = decay;
                for (step.step = 1; step.step <= steps; ++step.step) ops::adamw_update<double>(step, theta, g, m, v, {});
                return theta[0];
              },
          .formula = formula,
          .agreement = {1e-9, 0},
          .derivation = fmt::format("Each step multiplies it by 1 − rate·decay = {}: {}·{}^{} = {}.", digits(1 - rate * decay), weight,
                                    digits(1 - rate * decay), steps, digits(formula)),
          .carry_over = fmt::format(
              "GPT-2's recipe, rate 6e-4, decay 0.1: half of such a weight is gone after ln 2/(6e-5) = {} steps at the full rate.",
              grouped(std::numbers::ln2 / 6e-5)),
          .carry_over_number = std::numbers::ln2 / 6e-5,
          .follow_up = "What is wrong with adding λ·w to the gradient instead, as in plain Adam?",
          .follow_up_answer =
              "Adam divides by √v, so weights with large gradients would be decayed less and this one, with none, by a whole step each "
              "time. AdamW keeps the decay apart from "
              "that division (Loshchilov, Hutter).",
          .read = {"docs/training.md", "docs/ops.md"}};
}

// A batch of random windows for a tiny model.
BatchSource random_source(Index batch, Index context, Index vocab, const RandomStream& stream) {
  const auto ids = std::make_shared<const std::vector<Token>>(random_ids(4000, vocab, stream));
  return [=](Index step, Index micro) {
    return random_batch(*ids, batch, context, stream.at(static_cast<std::uint64_t>(micro)), static_cast<std::uint64_t>(step));
  };
}

InterviewQuestion clipping(std::uint64_t seed) {
  Draws d(seed, "training-clip");
  const double clip = d.number_of({0.05, 0.1, 0.2}), beta1 = d.number_of({0.9, 0.8});
  return {
      .id = "training-clip",
      .text = fmt::format("The first step of AdamW, β₁ = {}. The whole gradient's norm is above the clip of {}. What norm has the first "
                          "moment m (all parameters together) after the step?",
                          beta1, clip),
      .unit = "",
      .tolerance = {0.03, 0},
      .compute =
          [=] {
            Decoder<float> model = random_decoder(gpt2_like(1, 2, 16, 8, 20), seed);
            TrainOptions o;
            o.clip = clip, o.beta1 = beta1, o.warmup = 0;
            Trainer<float> trainer(model, o);
            const StepReport report = trainer.step(random_source(4, 8, 20, d.stream("text")));
            require(report.gradient_norm > clip, "interview: expected a gradient above the clip of {}, found {}", clip,
                    report.gradient_norm);
            return std::sqrt(ops::sum_of_squares<float>(trainer.first_moment().values(), {}));
          },
      .formula = (1 - beta1) * clip,
      .agreement = {1e-3, 0},
      .derivation = fmt::format("Clipping scales the whole gradient to norm {}; from m = 0, m = (1 − β₁)·g: {}·{} = {}.", clip,
                                digits(1 - beta1), clip, digits((1 - beta1) * clip)),
      .carry_over = fmt::format("GPT-2's and Llama's recipes clip at 1.0: with β₁ 0.9 the first m has norm {}.", digits((1 - 0.9) * 1.0)),
      .carry_over_number = (1 - 0.9) * 1.0,
      .follow_up = "Adam divides by √v̂ anyway. What is clipping good for?",
      .follow_up_answer =
          "Against the one bad batch: a gradient a hundred times the usual would stay in m for tens of steps and in v for hundreds, so "
          "that afterwards every step is too small. "
          "Clipping also leaves the direction as it is.",
      .read = {"docs/training.md", "docs/ops.md"}};
}

InterviewQuestion warm_up(std::uint64_t seed) {
  Draws d(seed, "training-warmup");
  TrainOptions o;
  o.rate = d.number_of({1e-3, 4e-4}), o.min_rate = o.rate / 10, o.warmup = d.one_of({100, 200}), o.steps = o.warmup + 1000;
  const bool half = d.between(0, 1) == 1;
  const Index step = half ? o.warmup + 500 : o.warmup / 4 - 1;  // counted from 0
  const double formula = half ? (o.rate + o.min_rate) / 2 : o.rate / 4;
  return {.id = "training-warmup",
          .text = fmt::format("Linear warm-up over {} steps to a rate of {}, then a cosine down to {} at step {}. What is the rate {}?",
                              o.warmup, o.rate, o.min_rate, grouped(number(o.steps)),
                              half ? "halfway through the cosine" : fmt::format("of step number {}", step + 1)),
          .unit = "",
          .tolerance = {0.03, 0},
          .compute = [=] { return o.rate * schedule(o, step); },
          .formula = formula,
          .agreement = {1e-9, 0},
          .derivation = half ? fmt::format("There the cosine is 0: the mean of highest and lowest, ({} + {})/2 = {}.", o.rate, o.min_rate,
                                           digits(formula))
                             : fmt::format("A quarter of the way up: {}·{}/{} = {}.", o.rate, step + 1, o.warmup, digits(formula)),
          .carry_over = fmt::format("nanoGPT's GPT-2 recipe goes from 6e-4 to 6e-5; halfway through the cosine it is at {}.",
                                    digits((6e-4 + 6e-5) / 2)),
          .carry_over_number = (6e-4 + 6e-5) / 2,
          .follow_up = "Why can a finished cosine run not simply be trained on?",
          .follow_up_answer =
              "Its rate has come down to the lowest, where little is learned; raising it again first undoes some of what the slow end had "
              "gained. Whoever wants to go on plans it: a "
              "constant rate with a short decay before each release.",
          .read = {"docs/training.md", "notebook 06"}};
}

InterviewQuestion optimizer_memory(std::uint64_t seed) {
  Draws d(seed, "training-memory");
  const Index L = d.between(1, 3), C = d.one_of({32, 64}), V = d.one_of({256, 500});
  const ModelConfig c = gpt2_like(L, 2, C, 32, V);
  return {.id = "training-memory",
          .text = fmt::format("A model of {} parameters is trained with AdamW in 32-bit floats. How many bytes do weights, gradients and "
                              "moments take, activations not counted?",
                              grouped(parameters(c))),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute =
              [=] {
                Decoder<float> model = make_decoder<float>(c);
                Trainer<float> trainer(model, TrainOptions{});
                const DecoderGrads<float> gradients = make_gradients(model);
                double bytes = 0;
                for (const Arena<float>* arena : std::initializer_list<const Arena<float>*>{
                         &trainer.parameters(), &gradients.arena, &trainer.first_moment(), &trainer.second_moment()}) {
                  bytes += number(arena->layout().parameters()) * sizeof(float);
                }
                return bytes;
              },
          .formula = 16 * parameters(c),
          .derivation = fmt::format("Four numbers of 4 bytes a parameter (weight, gradient, m, v): 16·{} = {} bytes.",
                                    grouped(parameters(c)), grouped(16 * parameters(c))),
          .carry_over = fmt::format("GPT-2 124M: {}. Llama 2 7B: {}, more than one 80 GB card holds.",
                                    binary_bytes(16 * parameters(gpt2_small())), binary_bytes(16 * parameters(llama2_7b()))),
          .carry_over_number = 16 * parameters(llama2_7b()),
          .follow_up = "Would 16-bit weights halve it?",
          .follow_up_answer =
              "Not in the usual mixed precision: 16-bit weights and gradients for the products, but a 32-bit copy of the weights and both "
              "moments stay, 16 bytes again. What halves is "
              "the activations' memory. LoRA removes gradients and moments of the base.",
          .read = {"docs/training.md", "notebook 09"}};
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

InterviewQuestion tokens_a_step(std::uint64_t seed) {
  Draws d(seed, "training-tokens");
  const Index batch = d.one_of({4, 6, 12}), context = d.one_of({16, 32, 64}), accumulate = d.one_of({2, 4, 5});
  return {.id = "training-tokens",
          .text = fmt::format(
              "Batches of {} sequences of {} tokens, gradients of {} batches accumulated for a step. How many tokens does a step read?",
              batch, context, accumulate),
          .unit = "tokens",
          .tolerance = kExact,
          .compute =
              [=] {
                Decoder<float> model = random_decoder(gpt2_like(1, 2, 8, context, 20), seed);
                TrainOptions o;
                o.batch = batch, o.accumulate = accumulate;
                Trainer<float> trainer(model, o);
                return number(trainer.step(random_source(batch, context, 20, d.stream("text"))).tokens);
              },
          .formula = number(batch * context * accumulate),
          .derivation = fmt::format("{}·{}·{} = {}.", batch, context, accumulate, grouped(number(batch * context * accumulate))),
          .carry_over = fmt::format("GPT-2's recipe as nanoGPT has it: 480 sequences of 1,024 = {} tokens a step.", grouped(480.0 * 1024)),
          .carry_over_number = 480.0 * 1024,
          .follow_up = "Is accumulating over 4 batches the same as one batch four times as large?",
          .follow_up_answer =
              "Yes, but for rounding, if the loss is the mean over all tokens of the step: the gradients add. It is wrong to average each "
              "batch's mean when batches have different numbers of "
              "scored tokens. What it costs is time, not memory.",
          .read = {"docs/training.md"}};
}

}  // namespace

void add_training_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {first_loss, logit_gradient, adamw_first_step, weight_decay, clipping, warm_up, optimizer_memory, entropy_floor,
                          untrained_bits, learned_unigram, tokens_a_step}) {
    all.push_back(make(seed)), all.back().topic = "training";
  }
}

}  // namespace glassformer::learn
