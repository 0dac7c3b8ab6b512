// Questions about sampling.
#include <algorithm>
#include <cmath>

#include "glassformer/sample/filters.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

SamplingOptions at_temperature(double temperature) {
  SamplingOptions o;
  o.temperature = temperature;
  return o;
}

// ln of each weight, as logits.
std::vector<float> logits_of(const std::vector<double>& weights) {
  std::vector<float> logits;
  for (const double w : weights) logits.push_back(static_cast<float>(std::log(w)));
  return logits;
}

double probability_of(const Distribution& p, Token id) {
  for (std::size_t i = 0; i < p.ids.size(); ++i) {
    if (p.ids[i] == id) return p.probability[i];
  }
  return 0;
}

std::string list(const std::vector<double>& values) {
  std::string text;
  for (const double v : values) text += (text.empty() ? "" : ", ") + fmt::format("{}", v);
  return text;
}

// Distributions over six tokens, in falling order.
std::vector<double> shape_of(Draws& d) {
  const std::vector<double> shapes[] = {{0.4, 0.25, 0.15, 0.1, 0.06, 0.04},
                                        {0.5, 0.2, 0.12, 0.08, 0.06, 0.04},
                                        {0.32, 0.28, 0.16, 0.12, 0.08, 0.04},
                                        {0.6, 0.16, 0.1, 0.07, 0.04, 0.03}};
  return shapes[d.between(0, 3)];
}

InterviewQuestion temperature(std::uint64_t seed) {
  Draws d(seed, "sampling-temperature");
  const Index lead = d.between(1, 3);
  const double tau = d.number_of({0.5, 2.0, 0.25});
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const double p = sigmoid(number(lead) / tau);
  return {.id = "sampling-temperature",
          .text = fmt::format("Two tokens have the logits {} and 0. With temperature {}, what is the probability of the first?", lead, tau),
          .unit = "",
          .tolerance = {0, 0.03},
          .compute =
              [=] {
                const std::vector<float> logits = {static_cast<float>(lead), 0};
                return probability_of(sampling_distribution(logits, {}, at_temperature(tau)), 0);
              },
          .formula = p,
          .agreement = {1e-6, 0},
          .derivation = fmt::format("Logits are divided by τ: e^({0}/{1})/(e^({0}/{1}) + 1) = {2}. At temperature 1 it would be {3}.", lead,
                                    tau, digits(p), digits(sigmoid(number(lead)))),
          .carry_over = fmt::format("Odds are raised to the power 1/τ. Where a model gives its first choice 9 times the second's "
                                    "probability, temperature 0.8 makes it {} times.",
                                    digits(std::pow(9, 1 / 0.8))),
          .carry_over_number = std::pow(9, 1 / 0.8),
          .follow_up = "Does a lower temperature make answers truer?",
          .follow_up_answer =
              "It makes them the model's favourite, which is not the same: a confident mistake stays and comes every time. It removes "
              "slips that come from drawing unlikely tokens, and "
              "open-ended text begins to repeat itself.",
          .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion top_k(std::uint64_t seed) {
  Draws d(seed, "sampling-top-k");
  const std::vector<double> p = shape_of(d);
  const Index k = d.between(2, 4);
  double kept = 0;
  for (Index i = 0; i < k; ++i) kept += p[static_cast<std::size_t>(i)];
  return {
      .id = "sampling-top-k",
      .text =
          fmt::format("The next token's probabilities: {}. Top-k with k = {}. What is the probability of the first token now?", list(p), k),
      .unit = "",
      .tolerance = {0, 0.02},
      .compute =
          [=] {
            SamplingOptions o = at_temperature(1);
            o.top_k = k;
            return probability_of(sampling_distribution(logits_of(p), {}, o), 0);
          },
      .formula = p[0] / kept,
      .agreement = {1e-5, 0},
      .derivation =
          fmt::format("The best {} hold {}; divided by that, {}/{} = {}.", k, digits(kept), p[0], digits(kept), digits(p[0] / kept)),
      .carry_over = fmt::format("GPT-2 was shown with k = 40 of 50,257 tokens: {}% of the vocabulary, whether the model is sure or not.",
                                digits(100 * 40 / 50257.0)),
      .carry_over_number = 100 * 40 / 50257.0,
      .follow_up = "What is a fixed k bad at?",
      .follow_up_answer =
          "The number of reasonable tokens varies. After \"The card number is 4\" a few digits are possible and 40 let nonsense in; at the "
          "start of a story 40 cut off good ones. Top-p "
          "and min-p follow the distribution.",
      .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion top_p(std::uint64_t seed) {
  Draws d(seed, "sampling-top-p");
  const std::vector<double> p = shape_of(d);
  const double mass = d.number_of({0.55, 0.72, 0.84, 0.94});  // none is a sum that occurs
  double sum = 0;
  Index kept = 0;
  while (sum < mass) sum += p[static_cast<std::size_t>(kept++)];
  return {.id = "sampling-top-p",
          .text = fmt::format("The next token's probabilities: {}. Top-p with P = {}. How many tokens stay?", list(p), mass),
          .unit = "tokens",
          .tolerance = kExact,
          .compute =
              [=] {
                SamplingOptions o = at_temperature(1);
                o.top_p = mass;
                return number(static_cast<Index>(sampling_distribution(logits_of(p), {}, o).ids.size()));
              },
          .formula = number(kept),
          .derivation = fmt::format(
              "The smallest set of the most probable whose mass reaches {}: {} tokens hold {}; the one that crosses the line stays.", mass,
              kept, digits(sum)),
          .carry_over = "At P = 0.9 a model that gives one token 0.95 is left with 1 choice; one that is even over 50,257 tokens keeps " +
                        grouped(std::ceil(0.9 * 50257)) + ".",
          .carry_over_number = std::ceil(0.9 * 50257),
          .follow_up = "With temperature 2 and top-p 0.9: does it matter which comes first?",
          .follow_up_answer =
              "Yes. Temperature first flattens the distribution, so that 0.9 of the mass takes many more tokens, bad ones among them. "
              "Filtering first keeps the set that the model itself "
              "believed in. This engine and Hugging Face apply temperature first, llama.cpp last; min-p suffers less from it.",
          .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion min_p(std::uint64_t seed) {
  Draws d(seed, "sampling-min-p");
  const std::vector<double> p = shape_of(d);
  const double m = d.number_of({0.11, 0.19, 0.35, 0.45});
  const Index kept = std::ranges::count_if(p, [&](double x) { return x >= m * p[0]; });
  return {.id = "sampling-min-p",
          .text = fmt::format("The next token's probabilities: {}. Min-p with m = {}. How many tokens stay?", list(p), m),
          .unit = "tokens",
          .tolerance = kExact,
          .compute =
              [=] {
                SamplingOptions o = at_temperature(1);
                o.min_p = m;
                return number(static_cast<Index>(sampling_distribution(logits_of(p), {}, o).ids.size()));
              },
          .formula = number(kept),
          .derivation = fmt::format("Those with at least m times the largest: {}·{} = {}: {} of them.", m, p[0], digits(m * p[0]), kept),
          .carry_over = fmt::format(
              "m = 0.1 (its authors use 0.05 to 0.1): where the model is sure (0.9) a token needs {}, where it is not (0.02) only {}.",
              digits(0.1 * 0.9), digits(0.1 * 0.02)),
          .carry_over_number = 0.1 * 0.9,
          .follow_up = "Why does min-p hold at high temperatures where top-p does not?",
          .follow_up_answer =
              "Raising the temperature lowers all ratios alike, and a token far below the best stays far below. Top-p asks for mass, and a "
              "flat tail of 50,000 tokens has a lot of it.",
          .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion order_of_filters(std::uint64_t seed) {
  Draws d(seed, "sampling-order");
  const std::vector<double> p = {0.4, 0.25, 0.15, 0.1, 0.06, 0.04};
  const Index k = 3;
  const double mass = d.number_of({0.75, 0.7, 0.78});
  double first = 0, sum = 0;
  Index kept = 0;
  for (Index i = 0; i < k; ++i) first += p[static_cast<std::size_t>(i)];
  while (sum < mass) sum += p[static_cast<std::size_t>(kept++)] / first;
  return {.id = "sampling-order",
          .text = fmt::format("Probabilities {}. Top-k 3 first, then top-p {} of what is left (as this engine does). How many tokens stay?",
                              list(p), mass),
          .unit = "tokens",
          .tolerance = kExact,
          .compute =
              [=] {
                SamplingOptions o = at_temperature(1);
                o.top_k = k, o.top_p = mass;
                return number(static_cast<Index>(sampling_distribution(logits_of(p), {}, o).ids.size()));
              },
          .formula = number(kept),
          .derivation = fmt::format("Top-k leaves 0.4, 0.25, 0.15 of mass 0.8, scaled to 0.5, 0.3125, 0.1875. Two of them reach 0.8125 ≥ "
                                    "{}: {} tokens. Alone, top-p {} would keep 3.",
                                    mass, kept, mass),
          .carry_over =
              "Hugging Face's generate() also goes top-k, then top-p, and divides in between; a server with another order gives another "
              "distribution for the same settings: here 2 tokens against 3.",
          .carry_over_number = 2,
          .follow_up = "How would you test that a sampler draws from the right distribution?",
          .follow_up_answer =
              "Draw some 20,000 times and compare counts with the expected ones by χ²; then show that the same test rejects a slightly "
              "wrong one (temperature 1.1). A test "
              "with little power passes anything.",
          .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion penalty(std::uint64_t seed) {
  Draws d(seed, "sampling-penalty");
  const Index sign = d.one_of({1, -1});
  const double z = 2.0 * number(sign), theta = d.number_of({1.25, 2.0, 1.6}), after = sign > 0 ? z / theta : z * theta;
  const double p = 1 / (1 + std::exp(-after));
  return {.id = "sampling-penalty",
          .text = fmt::format("Two tokens with logits {} and 0. The first is in the text already. With CTRL's repetition penalty {} "
                              "(temperature 1), what is its probability?",
                              z, theta),
          .unit = "",
          .tolerance = {0.03, 0.005},
          .compute =
              [=] {
                SamplingOptions o = at_temperature(1);
                o.repetition_penalty = theta;
                const std::vector<float> logits = {static_cast<float>(z), 0};
                const std::vector<Token> text = {0, 0};
                return probability_of(sampling_distribution(logits, text, o), 0);
              },
          .formula = p,
          .agreement = {1e-6, 0},
          .derivation = fmt::format("A {} logit is {} by θ, once however often the token occurred: {} → {}; e^{}/(e^{} + 1) = {}.",
                                    sign > 0 ? "positive" : "negative", sign > 0 ? "divided" : "multiplied", z, digits(after),
                                    digits(after), digits(after), digits(p)),
          .carry_over = fmt::format("CTRL used θ = 1.2: a token with logit 10 and a rival at 9 goes from {} to {}.",
                                    digits(1 / (1 + std::exp(-1.0))), digits(1 / (1 + std::exp(9 - 10 / 1.2)))),
          .carry_over_number = 1 / (1 + std::exp(9 - 10 / 1.2)),
          .follow_up = "What is odd about this penalty?",
          .follow_up_answer =
              "It depends on where zero lies, although softmax does not: add 5 to all logits and nothing changes, except what the penalty "
              "does. And it hits words that must repeat, such as "
              "a customer's name or \"the\".",
          .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion hot_entropy(std::uint64_t seed) {
  Draws d(seed, "sampling-hot");
  const Index V = d.one_of({20, 50, 100, 200});
  return {
      .id = "sampling-hot",
      .text = fmt::format(
          "{} tokens with random logits around zero. The temperature is 100. What is the entropy of the next token, about, in nats?", V),
      .unit = "nats",
      .tolerance = {0.04, 0},
      .compute =
          [=] {
            std::vector<float> logits;
            for (Index i = 0; i < V; ++i)
              logits.push_back(static_cast<float>(2 * random_normal(d.stream("logits"), static_cast<std::uint64_t>(i))));
            double entropy = 0;
            for (const double p : sampling_distribution(logits, {}, at_temperature(100)).probability) entropy -= p * std::log(p);
            return entropy;
          },
      .formula = std::log(number(V)),
      .agreement = {1e-3, 0},
      .derivation = fmt::format(
          "All logits become nearly 0, the distribution nearly even: ln {} = {} nats. Toward temperature 0 the entropy goes to 0.", V,
          digits(std::log(number(V)))),
      .carry_over = fmt::format("GPT-2 at a very high temperature: up to ln 50257 = {} nats a token, noise.", digits(std::log(50257.0))),
      .carry_over_number = std::log(50257.0),
      .follow_up = "At which temperature is the model's own distribution drawn from?",
      .follow_up_answer =
          "At 1, with no filter: training fits that one. Everything else is a correction for a tail that the model does not fit well, or a "
          "matter of taste.",
      .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

InterviewQuestion whole_answer(std::uint64_t seed) {
  Draws d(seed, "sampling-sixteen");
  const double p = d.number_of({0.9, 0.95, 0.85}), formula = std::pow(p, 16);
  return {.id = "sampling-sixteen",
          .text = fmt::format("Asked to repeat a card number, a model gives each of its 16 digits the probability {} of being right. "
                              "Sampling at temperature 1, how often is the whole number right, in %?",
                              p),
          .unit = "%",
          .tolerance = {0.1, 0},
          .compute =
              [=] {  // 100,000 numbers drawn
                const std::vector<double> weights(9, (1 - p) / 9);
                std::vector<double> digit = {p};
                digit.insert(digit.end(), weights.begin(), weights.end());
                const Distribution next = sampling_distribution(logits_of(digit), {}, at_temperature(1));
                const RandomStream stream = d.stream("draws");
                Index right = 0;
                for (std::uint64_t i = 0; i < 100000; ++i) {
                  bool all = true;
                  for (std::uint64_t j = 0; j < 16 && all; ++j) all = draw(next, random_uniform(stream, 16 * i + j)) == 0;
                  right += all;
                }
                return 100 * number(right) / 100000;
              },
          .formula = 100 * formula,
          .agreement = {0.06, 0},
          .derivation = fmt::format("Each must be right: {}^16 = {}%. (The run drew 100,000 numbers.)", p, digits(100 * formula)),
          .carry_over = fmt::format(
              "Even at 0.99 a digit, one number in seven is wrong: 0.99^16 = {}%. Greedy decoding would be right every time here.",
              digits(100 * std::pow(0.99, 16))),
          .carry_over_number = 100 * std::pow(0.99, 16),
          .follow_up = "How should an assistant give a customer's account number, then?",
          .follow_up_answer =
              "Not from the model. It writes a placeholder, and code fills in the number from the record after checking who asks: always "
              "right, and the number never enters a prompt or a log.",
          .read = {"docs/sampling.md", "glassformer explain sampling", "notebook 08"}};
}

}  // namespace

void add_sampling_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {temperature, top_k, top_p, min_p, order_of_filters, penalty, hot_entropy, whole_answer}) {
    all.push_back(make(seed)), all.back().topic = "sampling";
  }
}

}  // namespace glassformer::learn
