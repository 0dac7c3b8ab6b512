// The story of sampling: its numbers against arithmetic by hand, and against what generate does.
#include "glassformer/explain/sampling.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "glassformer/core/random.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/sample/generate.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

void check_widths(const Story& s) {
  for (const Index width : {60, 71, 80}) {
    for (const plot::Colour colour : {plot::Colour::none, plot::Colour::rgb}) {
      std::istringstream text(story_text(s, colour, width));
      for (std::string line; std::getline(text, line);) CHECK_MESSAGE(plot::display_width(line) <= width, line);
    }
  }
}

Decoder<float> random_model(Index context = 40) {
  ModelConfig c;
  c.vocab = 260, c.context = context, c.layers = 1, c.heads = 2, c.width = 8, c.position = Position::rope;
  c.embedding_std = 1;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  return m;
}

}  // namespace

TEST_CASE("the example, redone by hand") {
  const SamplingSteps s = explain_sampling_example();
  CHECK(s.tokens == std::vector<std::string>{"cat", "floor", "mat", "moon", "on", "roof", "sofa", "the"});
  const std::map<std::string, double> logits = {{"cat", 1.2}, {"floor", 2}, {"mat", 3}, {"moon", 0}, {"on", -1}, {"roof", 1.4}, {"sofa", 2.2}, {"the", -0.5}};
  // The text "the cat on the" holds cat, on and the; above zero logits are divided by 1.2, below they are multiplied. Then z/0.8.
  std::map<std::string, double> z = logits;
  z["cat"] /= 1.2, z["on"] *= 1.2, z["the"] *= 1.2;
  double before = 0, sum = 0;
  for (const auto& [word, value] : logits) before += std::exp(value);
  for (const auto& [word, value] : z) sum += std::exp(value / 0.8 - 3.75);
  Index id = 0;
  for (const auto& [word, value] : logits) {  // a map is in the order of the words, which is that of the ids
    CHECK(s.logits(id) == Approx(value).epsilon(1e-6));
    CHECK(s.probability(0, id) == Approx(std::exp(value) / before).epsilon(1e-6));
    CHECK(s.penalised(id) == Approx(z[word]).epsilon(1e-6));
    CHECK(s.scaled(id) == Approx(z[word] / 0.8).epsilon(1e-6));
    CHECK(s.exponentials(id) == Approx(std::exp(z[word] / 0.8 - 3.75)).epsilon(1e-6));
    CHECK(s.probability(2, id) == Approx(std::exp(z[word] / 0.8 - 3.75) / sum).epsilon(1e-6));
    ++id;
  }
  CHECK(s.maximum == Approx(3.75));
  CHECK(s.sum == Approx(sum).epsilon(1e-6));
  CHECK(s.deviation < 1e-15);
  // Relative to the best: mat 1, sofa e^-1, floor e^-1.25, roof e^-2, cat e^-2.5, then moon, the, on. Top-k keeps five of them; the first
  // four hold 0.956 of what is left, which is the first sum that reaches 0.9; roof is below 0.15 of mat.
  const double sofa = std::exp(-1.0), floor = std::exp(-1.25), roof = std::exp(-2.0), cat = std::exp(-2.5);
  CHECK(s.stages[3].out == std::vector<Token>{3, 7, 4});
  CHECK(s.stages[3].kept_mass == Approx((1 + sofa + floor + roof + cat) / sum).epsilon(1e-6));
  CHECK(s.stages[4].out == std::vector<Token>{0});
  CHECK(s.stages[4].kept_mass == Approx((1 + sofa + floor + roof) / (1 + sofa + floor + roof + cat)).epsilon(1e-6));
  CHECK(s.stages[5].out == std::vector<Token>{5});
  const double left = 1 + sofa + floor;
  CHECK(s.stages[5].kept_mass == Approx(left / (left + roof)).epsilon(1e-6));
  CHECK(s.stages[5].entropy_nats == Approx(std::log(left) + (sofa * 1 + floor * 1.25) / left).epsilon(1e-6));  // −Σ p·ln p of e^-z/left
  CHECK(s.kept == std::vector<Token>{1, 2, 6});
  CHECK(s.cumulated(0) == Approx(floor / left).epsilon(1e-6));
  CHECK(s.cumulated(1) == Approx((floor + 1) / left).epsilon(1e-6));
  CHECK(s.cumulated(2) == Approx(1));
  CHECK(s.uniform == random_uniform(RandomStream{1}.at("sample").at(0), 0));
  CHECK(s.drawn == 2);
  CHECK(s.uniform >= s.cumulated(0));
  CHECK(s.uniform < s.cumulated(1));
}

TEST_CASE("the example's text says what docs/sampling.md quotes") {
  const std::string text = story_text(sampling_story(explain_sampling_example()));
  for (const char* line :
       {"cat    1.200 / 1.2 =   1.000", "sofa    2.200/0.8 =  2.750  exp(-1.000) = 0.368  /1.912 = 0.192", "moon  p = 0.012 falls out: number 6 by probability",
        "roof   p = 0.072   Σ = 0.956   ≥ 0.9: the last to stay", "cat    p = 0.044   Σ = 1.000   falls out: 0.956 was there already",
        "roof   p = 0.076 < 0.084: falls out", "min-p               3           0.924          0.942      0.604",
        "mat    id     2  0.173 … 0.778  ← u = 0.758"})
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
}

TEST_CASE("each option, alone and off, and greedy") {
  for (const SamplingOptions& o : std::initializer_list<SamplingOptions>{
           {}, {.temperature = 0}, {.temperature = 2, .top_k = 1}, {.temperature = 1, .top_p = 0.5}, {.temperature = 1, .min_p = 1}, {.temperature = 0, .top_k = 3, .top_p = 0.5, .min_p = 0.5}}) {
    const SamplingSteps s = explain_sampling_example({.options = o});
    CHECK(s.stages.size() == 6);
    CHECK(s.deviation < 1e-15);
    for (Index i = 0; i < 6; ++i) CHECK(s.probability.row(i).sum() == Approx(1));
    check_widths(sampling_story(s));
  }
  // A token whose logit is −∞ is not in the running, and no number of the story is NaN.
  const float infinite = -std::numeric_limits<float>::infinity();
  const SamplingSteps s = explain_sampling(std::vector<float>{0, infinite, 1}, {}, {"a", "b", "c"}, {.options = {.temperature = 1}});
  CHECK(s.probability(0, 1) == 0);
  CHECK(s.deviation < 1e-15);
  CHECK(std::isfinite(s.stages[0].entropy_nats));
  check_widths(sampling_story(s));
}

TEST_CASE("the token drawn is the first that generate writes, for every seed and option") {
  const Decoder<float> m = random_model();
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
    for (const SamplingOptions& o : {SamplingOptions{}, SamplingOptions{.temperature = 1.5, .top_k = 20, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.3}}) {
      GenerateOptions g;
      g.sampling = o, g.seed = seed, g.max_tokens = 1;
      const SamplingSteps s = explain_sampling(m, byte_tokenizer(), "a cat", {.options = o, .seed = seed});
      CHECK(generate(m, byte_tokenizer(), "a cat", g).ids == std::vector<Token>{s.drawn});
      CHECK(s.tokens.size() == 256);  // the model's four other tokens are never drawn
      check_widths(sampling_story(s));
      // After an earlier token the same as for the shorter text.
      const SamplingSteps earlier = explain_sampling(m, byte_tokenizer(), "a cat", {.options = o, .seed = seed, .token = 2});
      CHECK(earlier.text == std::vector<Token>{'a', ' ', 'c'});
      CHECK(earlier.drawn == explain_sampling(m, byte_tokenizer(), "a c", {.options = o, .seed = seed}).drawn);
    }
  }
}

TEST_CASE("the JSON is one line that holds every number") {
  for (const SamplingSteps& s : {explain_sampling_example(), explain_sampling(random_model(), byte_tokenizer(), "\xff\n")}) {
    const std::string text = story_json(sampling_story(s));
    CHECK(text.find('\n') == std::string::npos);
    const auto j = nlohmann::json::parse(text);
    const auto equal = [](const nlohmann::json& a, const auto& b) {
      const auto values = a.template get<std::vector<double>>();
      return static_cast<Index>(values.size()) == b.size() && std::equal(values.begin(), values.end(), b.data());
    };
    CHECK(equal(j["logits"], s.logits));
    CHECK(equal(j["penalised"], s.penalised));
    CHECK(equal(j["scaled"], s.scaled));
    CHECK(equal(j["exponentials"], s.exponentials));
    CHECK(equal(j["cumulated"], s.cumulated));
    for (Index i = 0; i < 6; ++i) {
      const auto at = static_cast<std::size_t>(i);
      CHECK(equal(j["probability"][at], Vector<double>(s.probability.row(i))));
      CHECK(j["kept_mass"][at] == s.stages[at].kept_mass);
      CHECK(j["entropy_nats"][at] == s.stages[at].entropy_nats);
      CHECK(j["stage_tokens"][at] == s.stages[at].tokens);
    }
    CHECK(j["uniform"] == s.uniform);
    CHECK(j["drawn"] == s.drawn);
    CHECK(j["sum"] == s.sum);
    CHECK(j["temperature"] == s.options.temperature);
  }
}

TEST_CASE("what does not exist is answered with what does") {
  const Decoder<float> m = random_model();
  const auto tell = [&](std::string_view prompt, SamplingQuestion q = {}) { return explain_sampling(m, byte_tokenizer(), prompt, q); };
  CHECK_THROWS_WITH_AS(tell(""), "prompt: expected some text, found none", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell("hi", {.options = {}, .token = 2}), "token: expected a token's place, 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell(std::string(41, 'x')), "prompt: expected at most 40 tokens (the model's context), found 41", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell("hi", {.options = {.top_p = 0}}), "top-p: expected more than 0 and at most 1 (off), found 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_sampling_example({.options = {}, .token = 1}), "token: expected 3, found 1: the example draws after its last word",
                       std::invalid_argument);
}
