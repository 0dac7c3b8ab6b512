#include "glassformer/score/compare.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "glassformer/model/quantize.hpp"
#include "model/models.hpp"

using namespace glassformer;
using namespace glassformer::test;

namespace {

// Says the same whatever it reads: ln_final's gain is zero and its bias picks the head's first column, which holds these logits.
Decoder<float> constant_model(const std::vector<float>& logits) {
  ModelConfig c = tiny_config(Position::none);
  c.vocab = static_cast<Index>(logits.size()), c.layers = 1, c.tied = false;
  Decoder<float> m = make_decoder<float>(c);
  (*m.ln_final.bias)(0, 0) = 1;
  const MatrixView<float> head = m.arena.view("unembed.weight");
  for (std::size_t v = 0; v < logits.size(); ++v) (*head)(static_cast<Index>(v), 0) = logits[v];
  return m;
}

}  // namespace

TEST_CASE("a model beside itself: ratio 1, divergence 0, agreement 1, exactly") {
  const Decoder<float> m = random_decoder<float>(tiny_config());
  const auto batches = whole_split(random_ids(200, m.config.vocab), m.config.context, 3);
  const ModelComparison c = compare_models(m, m, batches);
  CHECK(c.tokens == 199);
  CHECK(c.loss_nats == c.base_loss_nats);
  CHECK(c.perplexity_ratio == 1);
  CHECK(c.mean_kl_nats == 0);
  CHECK(c.top1_agreement == 1);
  // The loss is the one that the engine trains by.
  Loss loss;
  Workspace workspace;
  for (const Batch& batch : batches) {
    Pass<float> pass;
    pass.starts = batch.starts, pass.workspace = &workspace;
    const Loss part = decoder_loss<float>(m, pass, batch.inputs, batch.targets, nullptr, nullptr, 1.0F);
    loss.sum_nats += part.sum_nats, loss.count += part.count;
  }
  CHECK(c.base_loss_nats == doctest::Approx(loss.mean()).epsilon(1e-6));
}

TEST_CASE("a comparison by hand") {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4). KL(p‖q) = ½·ln 2 + ¼·ln ½ = ¼·ln 2
  const float l2 = std::log(2.0F);
  const Decoder<float> p = constant_model({l2, 0, 0}), q = constant_model({1, 1 + l2, 1});  // a constant added to all logits changes nothing
  const Batch batch{{0, 1, 2, 0}, {0, 1, -1, 1}, {0, 2, 4}};
  const ModelComparison c = compare_models(p, q, std::span(&batch, 1));
  CHECK(c.tokens == 3);  // targets 0, 1, 1
  CHECK(c.base_loss_nats == doctest::Approx((std::log(2.0) + 2 * std::log(4.0)) / 3).epsilon(1e-6));
  CHECK(c.loss_nats == doctest::Approx((std::log(4.0) + 2 * std::log(2.0)) / 3).epsilon(1e-6));
  CHECK(c.perplexity_ratio == doctest::Approx(std::exp(-std::log(2.0) / 3)).epsilon(1e-6));
  CHECK(c.mean_kl_nats == doctest::Approx(std::log(2.0) / 4).epsilon(1e-6));
  CHECK(c.top1_agreement == 0);
  // KL is not symmetric: with r = (1/2, 1/2, 0+) only the direction base‖model explodes.
  const Decoder<float> r = constant_model({0, 0, -30});
  CHECK(compare_models(p, r, std::span(&batch, 1)).mean_kl_nats > 5);
  CHECK(compare_models(r, p, std::span(&batch, 1)).mean_kl_nats == doctest::Approx(0.5 * std::log(2.0)).epsilon(1e-6));
  CHECK(compare_models(p, r, std::span(&batch, 1)).top1_agreement == 1);  // of equal choices the lowest id
}

TEST_CASE("a quantized model beside its base, the same for any number of threads") {
  ModelConfig config = tiny_config();
  config.width = 64, config.hidden = 64, config.vocab = 300;
  const Decoder<float> m = random_decoder<float>(config);
  const auto batches = whole_split(random_ids(500, config.vocab), config.context, 4);
  const auto cost = [&](QuantizedType type) { return compare_models(m, quantize_decoder(m, QuantizeTypes::all(type)), batches); };
  const ModelComparison q8 = cost(QuantizedType::q8_0), nf4 = cost(QuantizedType::nf4);
  CHECK(q8.mean_kl_nats > 0);
  CHECK(nf4.mean_kl_nats > 10 * q8.mean_kl_nats);
  CHECK(q8.top1_agreement > nf4.top1_agreement);
  CHECK(std::abs(q8.perplexity_ratio - 1) < 0.01);
  Exec three;
  three.threads = 3;
  const ModelComparison again = compare_models(m, quantize_decoder(m, QuantizeTypes::all(QuantizedType::nf4)), batches, three);
  CHECK(again.mean_kl_nats == nf4.mean_kl_nats);
  CHECK(again.loss_nats == nf4.loss_nats);
}

TEST_CASE("what cannot be compared") {
  const Decoder<float> m = random_decoder<float>(tiny_config());
  ModelConfig other = tiny_config();
  other.vocab = 24;
  const auto batches = whole_split(random_ids(40, 23), 16, 1);
  CHECK(message_of([&] { compare_models(m, random_decoder<float>(other), batches); }) ==
        "compare: expected two models of one vocabulary, found 23 and 24 tokens");
  CHECK(message_of([&] { compare_models(m, m, {}); }) == "compare: expected at least one scored token, found none");
  const Batch bad{{0, 1}, {1, 23}, {0, 2}};
  CHECK(message_of([&] { compare_models(m, m, std::span(&bad, 1)); }) == "compare: expected a target in −1 … 22, found 23");
}
