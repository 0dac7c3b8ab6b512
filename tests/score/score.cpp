// The loss of a model on text, with a soft prompt before it.
#include "glassformer/score/score.hpp"

#include <doctest/doctest.h>

#include "glassformer/model/adapter.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/model/reading.hpp"
#include "model/models.hpp"

using namespace glassformer;
using namespace glassformer::test;

TEST_CASE("windows are scored some 2,048 tokens at once, the soft prompt before each counted") {
  const std::vector<Token> ids(5000, 1);
  const auto windows = [&](Index context, Index prompt) { return static_cast<Index>(scoring_batches(ids, context, std::nullopt, prompt).front().starts.size()) - 1; };
  CHECK(windows(16, 0) == 128);
  CHECK(windows(16, 240) == 8);
  CHECK(windows(1, 255) == 8);
}

TEST_CASE("a soft prompt stands before each window, takes places of it and is not scored") {
  ModelConfig config = tiny_config(Position::rope);
  config.vocab = 256;
  Decoder<float> m = random_decoder<float>(config);
  const Adapter<float> prompt = make_soft_prompt(m, 3, 1);
  const std::vector<Token> ids = byte_tokenizer().encode("A text of some forty bytes, to be scored in windows.");
  const double without = score_tokens(m, byte_tokenizer(), ids, 10, {}).loss_nats();
  attach(m, prompt);
  const Score score = score_tokens(m, byte_tokenizer(), ids, 10, {});
  CHECK(score.tokens == static_cast<Index>(ids.size()) - 1);
  CHECK(score.bytes == static_cast<Index>(ids.size()) - 1);
  CHECK(std::abs(score.loss_nats() - without) > 1e-3);
  double expected = 0;  // windows of 7 tokens behind 3 virtual ones
  for (std::size_t begin = 0; begin + 1 < ids.size(); begin += 7) {
    const std::size_t end = std::min(begin + 7, ids.size() - 1);
    std::vector<Token> window = soft_prompt_ids(m);
    window.insert(window.end(), ids.begin() + static_cast<Index>(begin), ids.begin() + static_cast<Index>(end));
    const Matrix<double> logits = decoder_read<float>(m, window).cast<double>();
    for (std::size_t t = begin; t < end; ++t) {
      const auto z = logits.row(static_cast<Index>(3 + t - begin));
      expected += std::log(z.array().exp().sum()) - z(ids[t + 1]);
    }
  }
  CHECK(score.sum_nats == doctest::Approx(expected).epsilon(1e-6));
  CHECK_THROWS_WITH_AS(score_tokens(m, byte_tokenizer(), ids, 3, {}),
                       "score: expected a context of more than the 3 tokens of the soft prompt, found 3", std::invalid_argument);

  // A continuation: the newest tokens that fit behind the soft prompt.
  const Index context = m.config.context;
  const std::string prefix(static_cast<std::size_t>(context), 'x'), tail = "yz";
  std::vector<Token> all = soft_prompt_ids(m);
  const std::vector<Token> text = byte_tokenizer().encode(prefix.substr(4) + tail);  // context − 3 inputs, and the last target
  all.insert(all.end(), text.begin(), text.end());
  const Matrix<double> logits = decoder_read<float>(m, std::span(all).first(all.size() - 1)).cast<double>();
  REQUIRE(logits.rows() == context);
  double nats = 0;
  for (const Index t : {context - 2, context - 1})
    nats += std::log(logits.row(t).array().exp().sum()) - logits(t, all[static_cast<std::size_t>(t) + 1]);
  CHECK(continuation_nats(m, byte_tokenizer(), prefix, tail, {}) == doctest::Approx(nats).epsilon(1e-6));
}

TEST_CASE("a quantized decoder with an adapter over it scores as its dequantized copy does") {
  ModelConfig config = tiny_config(Position::rope);
  config.vocab = 256, config.width = config.hidden = 64, config.head_dim = 16;
  const std::vector<Token> ids = byte_tokenizer().encode("A text of some forty bytes, to be scored in windows.");
  Decoder<float> m = quantize_decoder(random_decoder<float>(config), QuantizeTypes::all(QuantizedType::nf4)), copy = dequantize_decoder(m);
  const double without = score_tokens(m, byte_tokenizer(), ids, 10, {}).loss_nats();
  const Adapter<float> adapter = random_adapter<float>(config, {}), prompt = make_soft_prompt(m, 2, 1);
  attach(m, adapter, 0.5), attach(copy, adapter, 0.5), attach(m, prompt), attach(copy, prompt);
  const double with = score_tokens(m, byte_tokenizer(), ids, 10, {}).loss_nats();
  CHECK(with == doctest::Approx(score_tokens(copy, byte_tokenizer(), ids, 10, {}).loss_nats()).epsilon(1e-5));
  CHECK(std::abs(with - without) > 1e-3);
}
