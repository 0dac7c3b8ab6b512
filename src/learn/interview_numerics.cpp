// Questions about numbers with few digits.
#include <bit>
#include <cmath>
#include <limits>

#include "glassformer/core/half.hpp"
#include "glassformer/ops/activation.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/ops/reference/loss.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

// x + y as the engine adds floats.
float added(float x, float y) {
  Matrix<float> a = Matrix<float>::Constant(1, 1, x), b = Matrix<float>::Constant(1, 1, y);
  ops::add<float>(a, b, {});
  return b(0, 0);
}

InterviewQuestion whole_numbers(std::uint64_t seed) {
  Draws d(seed, "numerics-counting");
  const Index step = d.one_of({1, 2, 4});
  return {.id = "numerics-counting",
          .text = fmt::format(
              "A counter kept as a 32-bit float is raised by {} again and again, from 0. At which value does it stop growing?", step),
          .unit = "",
          .tolerance = {0.05, 0},
          .compute =
              [=] {  // it passes through every power of two; the first where the sum is rounded back
                float x = static_cast<float>(step);
                while (added(static_cast<float>(step), x) != x) x *= 2;
                return static_cast<double>(x);
              },
          .formula = number(step) * 16777216,
          .derivation = fmt::format("A float has 24 binary digits. At {}·2^24 the next number is {} away; the sum lies in the middle and "
                                    "is rounded to even, back: {}.",
                                    step, 2 * step, grouped(number(step) * 16777216)),
          .carry_over = fmt::format("bfloat16 has 8 digits: a count by ones stops at 2^8 = {}. A token counter or a sum of losses in 16 "
                                    "bits is wrong within a second of training.",
                                    256),
          .carry_over_number = 256,
          .follow_up = "Where does training hit this?",
          .follow_up_answer =
              "In sums over many small terms: a loss over a batch, a mean over rows, weights that get updates far smaller than themselves. "
              "Sum in higher precision, or in blocks; keep master "
              "weights in 32 bits.",
          .read = {"docs/ops.md", "docs/checkpoints.md"}};
}

InterviewQuestion lost_terms(std::uint64_t seed) {
  Draws d(seed, "numerics-lost");
  const double small = d.number_of({1e-8, 3e-8, 5e-8, 2e-7});
  const bool lost = small < 5.96e-8;
  const double formula = lost ? 1 : 1 + 10000 * std::round(small / 0x1p-23) * 0x1p-23;
  return {
      .id = "numerics-lost",
      .text = fmt::format("Starting from 1 in 32-bit floats, {} is added 10,000 times, one after another. How much is the result above 1?",
                          small),
      .unit = "",
      .tolerance = {0.1, 1e-6},
      .compute =
          [=] {
            float x = 1;
            for (int i = 0; i < 10000; ++i) x = added(static_cast<float>(small), x);
            return static_cast<double>(x) - 1;
          },
      .formula = formula - 1,
      .agreement = {1e-9, 0},
      .derivation =
          lost
              ? fmt::format("Above 1 the floats are 2^−23 = 1.19e-7 apart. {} is less than half of that, so each sum is rounded back to 1: "
                            "0, not {}.",
                            small, 10000 * small)
              : fmt::format(
                    "Above 1 the floats are 2^−23 = 1.19e-7 apart, and each step is rounded to {} of them: 10,000·{}·1.19e-7 = {}, not {}.",
                    std::round(small / 0x1p-23), std::round(small / 0x1p-23), digits(formula - 1), 10000 * small),
      .carry_over = fmt::format("A weight of 1 kept in bfloat16 ignores every update below 2^−9 = {}: with a rate of 1e-3 it never moves. "
                                "Hence 32-bit master weights.",
                                digits(0x1p-9)),
      .carry_over_number = 0x1p-9,
      .follow_up = "Does the order of a sum matter, then?",
      .follow_up_answer =
          "Yes: floating-point addition is not associative. Small terms first, or pairs, lose less. It is also why results differ between "
          "numbers of threads, unless the blocks of every sum are "
          "fixed by the shape alone, as here.",
      .read = {"docs/ops.md", "docs/architecture.md"}};
}

InterviewQuestion log_sum_exp(std::uint64_t seed) {
  Draws d(seed, "numerics-logsumexp");
  const Index n = d.one_of({2, 10, 50, 100}), size = d.one_of({1000, 500, 2000});
  const double formula = number(size) + std::log(number(n));
  return {
      .id = "numerics-logsumexp",
      .text = fmt::format("{} logits, all equal to {}. What is log Σ exp of them, as the engine computes it in 32-bit floats?", n, size),
      .unit = "",
      .tolerance = {0, 0.2},
      .compute =
          [=] {  // a target's loss is log Σ exp − its logit
            Matrix<float> logits = Matrix<float>::Constant(1, n, static_cast<float>(size));
            const Token target[] = {0};
            double loss[] = {0};
            ops::cross_entropy<float>(logits, target, loss, false, 1.0F, {});
            return loss[0] + number(size);
          },
      .formula = formula,
      .agreement = {0, 1e-3},
      .derivation = fmt::format("The maximum is taken off first: {} + ln Σ e⁰ = {} + ln {} = {}. Without that e^{} is infinite in a float, "
                                "and so would the loss be.",
                                size, size, n, digits(formula), size),
      .carry_over = fmt::format("A vocabulary of 128,256 (Llama 3) with all logits at 100: 100 + ln 128256 = {}. e^100 alone is beyond a "
                                "float, which ends near e^88.7.",
                                digits(100 + std::log(128256.0))),
      .carry_over_number = 100 + std::log(128256.0),
      .follow_up = "Why is taking off the maximum exact and not an approximation?",
      .follow_up_answer =
          "Σ exp(x) = exp(m)·Σ exp(x − m) for every m, so the logarithm gets m back as a sum. With m the maximum the largest term is 1: "
          "nothing overflows, and what underflows is negligible "
          "beside 1.",
      .read = {"docs/ops.md", "docs/attention.md", "glassformer explain attention"}};
}

InterviewQuestion exp_overflow(std::uint64_t) {
  return {.id = "numerics-exp",
          .text = "From which x on is exp(x) infinite in a 32-bit float?",
          .unit = "",
          .tolerance = {0.03, 0},
          .compute =
              [] {  // silu(−x) = −x/(1 + eˣ) is exactly zero when eˣ has become infinite
                Exec exec;
                exec.kernels = Kernels::reference;
                float finite = 1, infinite = 1000;
                while (infinite - finite > 1e-3F) {
                  const float middle = (finite + infinite) / 2;
                  Matrix<float> x = Matrix<float>::Constant(1, 1, -middle), y(1, 1);
                  ops::activation_forward<float>(ops::Activation::silu, x, y, exec);
                  (y(0, 0) == 0 ? infinite : finite) = middle;
                }
                return static_cast<double>(infinite);
              },
          .formula = std::log(static_cast<double>(std::numeric_limits<float>::max())),
          .agreement = {1e-4, 0},
          .derivation = fmt::format("The largest float is just below 2^128, so ln 2^128 = 128·ln 2 = {}.", digits(128 * std::log(2.0))),
          .carry_over =
              fmt::format("In fp16 (largest 65,504) already at ln 65504 = {}: an attention score of 12 overflows an unguarded softmax.",
                          digits(std::log(65504.0))),
          .carry_over_number = std::log(65504.0),
          .follow_up = "Does softmax also need protection from below?",
          .follow_up_answer =
              "No: exp of a very negative number becomes 0, which is right to all digits that a float has. Trouble comes later, if one "
              "takes the logarithm of that 0: compute log-softmax as x − log Σ exp "
              "instead of log(softmax).",
          .read = {"docs/ops.md"}};
}

InterviewQuestion leaking_mask(std::uint64_t seed) {
  Draws d(seed, "numerics-mask");
  const Index seen = d.one_of({1, 2, 10}), masked = d.one_of({100, 500, 1000}), size = d.one_of({5, 8, 10});
  const auto leak = [](double hidden, double visible, double big) {
    return 100 * hidden * std::exp(-big) / (visible + hidden * std::exp(-big));
  };
  const double formula = leak(number(masked), number(seen), number(size));
  return {.id = "numerics-mask",
          .text = fmt::format("Someone masks by adding −{} to a score rather than −∞. A query sees {} key{} and has {} masked ones, all "
                              "scores else equal. What share of its weight, in %, goes to masked keys?",
                              size, seen, seen == 1 ? "" : "s", masked),
          .unit = "%",
          .tolerance = {0.2, 0},
          .compute =
              [=] {
                Matrix<double> scores = Matrix<double>::Zero(1, seen + masked), weights(1, seen + masked);
                scores.rightCols(masked).array() -= number(size);
                ops::softmax_forward<double>(scores, weights, {});
                return 100 * weights.rightCols(masked).sum();
              },
          .formula = formula,
          .agreement = {1e-9, 0},
          .derivation = fmt::format("{0}·e^−{1}/({2} + {0}·e^−{1}) = {3}%. With −∞ the exponential is exactly 0.", masked, size, seen,
                                    digits(formula)),
          .carry_over = fmt::format("Hugging Face's first GPT-2 added −10,000: e^−10000 is 0 in a float, so it held. In fp16 large "
                                    "negative numbers end at −65,504, and e^−17 is the last above 0; −5 over 8,191 keys would leak {}%.",
                                    digits(leak(8191, 1, 5))),
          .carry_over_number = leak(8191, 1, 5),
          .follow_up = "What goes wrong when a whole row is masked with −∞?",
          .follow_up_answer =
              "Maximum −∞, and −∞ − (−∞) is NaN, which then spreads to everything. Padding on the left does that. Either no query has "
              "nothing to see (here each sees itself), or the row is "
              "set to zero.",
          .read = {"docs/attention.md", "docs/ops.md", "glassformer explain attention"}};
}

InterviewQuestion bf16_step(std::uint64_t seed) {
  Draws d(seed, "numerics-bf16");
  const Index power = d.between(0, 4);
  const double at = std::pow(2.0, number(power));
  return {
      .id = "numerics-bf16",
      .text = fmt::format("bfloat16 is the upper half of a 32-bit float: 8 bits of exponent, 7 of fraction. What is the distance from {} "
                          "to the next larger bfloat16?",
                          at),
      .unit = "",
      .tolerance = {0.03, 0},
      .compute =
          [=] { return static_cast<double>(bf16_to_float(static_cast<std::uint16_t>(bf16_from_float(static_cast<float>(at)) + 1))) - at; },
      .formula = at / 128,
      .derivation = fmt::format("7 bits of fraction: 2^−7 of the power of two below it: {}/128 = {}.", at, digits(at / 128)),
      .carry_over = fmt::format(
          "Weights of GPT-2's size (0.02) stored in bf16 are 2^−13 = {} apart: two to three decimal digits, and models hardly notice.",
          digits(0x1p-6 / 128)),
      .carry_over_number = 0x1p-6 / 128,
      .follow_up = "fp16 has three more bits of fraction. Why is training done in bf16?",
      .follow_up_answer =
          "For the range: bf16 reaches as far as a 32-bit float, so gradients neither overflow nor vanish, and no loss scaling is needed. "
          "fp16 ends at 65,504 and loses what lies below 6e-8.",
      .read = {"docs/checkpoints.md"}};
}

InterviewQuestion half_range(std::uint64_t) {
  return {.id = "numerics-half",
          .text = "fp16: 5 bits of exponent, 10 of fraction. What is the largest number that it holds?",
          .unit = "",
          .tolerance = {0.02, 0},
          .compute =
              [] {  // all 65,536 of them
                double largest = 0;
                for (std::uint32_t bits = 0; bits < 65536; ++bits) {
                  const double value = static_cast<double>(f16_to_float(static_cast<std::uint16_t>(bits)));
                  if (std::isfinite(value) && value > largest) largest = value;
                }
                return largest;
              },
          .formula = (2 - 0x1p-10) * 0x1p15,
          .derivation = "Largest exponent 15 (the next code means infinity), all bits of the fraction set: (2 − 2^−10)·2^15 = 65,504.",
          .carry_over = fmt::format("A residual stream of a large model has single channels in the thousands; squared for its norm, {} is "
                                    "past the end. Norms are computed in 32 bits for that.",
                                    grouped(256.0 * 256)),
          .carry_over_number = 256.0 * 256,
          .follow_up = "What is loss scaling?",
          .follow_up_answer =
              "In fp16 small gradients become zero. The loss is multiplied by a large factor, so all gradients are, and the optimizer "
              "divides again in 32 bits; if one overflows, the step is left "
              "out and the factor halved.",
          .read = {"docs/checkpoints.md", "docs/training.md"}};
}

}  // namespace

void add_numerics_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {whole_numbers, lost_terms, log_sum_exp, exp_overflow, leaking_mask, bf16_step, half_range}) {
    all.push_back(make(seed)), all.back().topic = "numerics";
  }
}

}  // namespace glassformer::learn
