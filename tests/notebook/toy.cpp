#include "glassformer/notebook/toy.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

using namespace glassformer;

TEST_CASE("a toy learns, and its losses are those of the score") {
  const Notebook nb({});
  const ToyText text = toy_text(CorpusKind::stories, 30'000, 1);
  CHECK(text.source_bits_per_byte > 0.5);
  const ModelConfig config{.context = 32, .layers = 1, .heads = 2, .width = 32, .position = Position::rope};
  TrainOptions options;
  options.steps = 60, options.batch = 8, options.rate = 5e-3, options.warmup = 10;
  ToyRun run = train_toy(nb, "toy", config, options, text);
  REQUIRE(run.losses.size() == 60);
  CHECK(run.losses.front() == doctest::Approx(std::log(static_cast<double>(text.tokenizer.vocab_size()))).epsilon(0.05));
  CHECK(run.losses.back() < run.losses.front() - 0.8);

  // The mean over all places of all windows is the loss of the same windows by score_tokens.
  const std::span<const Token> ids = std::span(text.val).first(32 * 20 + 1);
  const auto places = loss_by_place(run.model, ids, 32, 20, Exec{});
  CHECK(mean_of(places, 0, 32) == doctest::Approx(score_tokens(run.model, text.tokenizer, ids, 32, Exec{}).loss_nats()).epsilon(1e-6));
  CHECK(loss_by_place(run.model, text.val, 64, 10, Exec{}).size() == 64);
  CHECK_THROWS_AS(loss_by_place(run.model, ids, 10'000, 1, Exec{}), std::invalid_argument);

  const auto more = train_more(nb, "more", run.model, options, text_batches(text.train, 8, 32, 2));
  CHECK(mean_of(more, 40, 60) < mean_of(run.losses, 40, 60));
  const auto chart = loss_chart("losses", "", {{"first", run.losses}, {"more", more}}, 6);
  CHECK(chart.chart.x == std::vector<double>{10, 20, 30, 40, 50, 60});
  CHECK(chart.chart.series[1].y[0] == doctest::Approx(mean_of(more, 0, 10)));
  CHECK_THROWS_AS(train_toy(nb, "none", config, options, text_batches(text.train, 8, 32, 2)), std::invalid_argument);
}
