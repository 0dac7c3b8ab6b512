// Questions about training: the optimizer, the schedule, memory.
#include <array>
#include <cmath>
#include <memory>
#include <numbers>

#include "glassformer/ops/optimizer.hpp"
#include "glassformer/train/trainer.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

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
          .read = {"docs/training.md", "docs/ops.md"}};
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

void add_optimizer_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {adamw_first_step, weight_decay, clipping, warm_up, optimizer_memory, tokens_a_step}) {
    all.push_back(make(seed)), all.back().topic = "training";
  }
}

}  // namespace glassformer::learn
