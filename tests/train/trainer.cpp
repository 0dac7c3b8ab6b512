// The schedule, and what one step's gradient is.
#include "glassformer/train/trainer.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace glassformer {
namespace {

Decoder<float> small_model() {
  ModelConfig c;
  c.vocab = 7, c.context = 8, c.layers = 1, c.heads = 2, c.width = 8, c.init_std = c.embedding_std = 0.3;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  return m;
}

// 6 and 2 tokens, one of them not scored.
Batch batch_of(Index step) {
  Batch b{{1, 2, 3, 4, 5, 6, 0, 1}, {2, 3, 4, 5, 6, 0, 1, -1}, {0, 6, 8}};
  for (Token& id : b.inputs) id = static_cast<Token>((id + step) % 7);
  return b;
}

double norm_of_mean_loss(const Decoder<float>& m, const Batch& batch) {
  Workspace workspace;
  Pass<float> pass;
  pass.starts = batch.starts, pass.workspace = &workspace, pass.training = true;
  DecoderSaved<float> saved;
  DecoderGrads<float> gradients = make_gradients(m);
  decoder_loss<float>(m, pass, batch.inputs, batch.targets, &saved, &gradients, 1.0F / 7.0F);
  double sum = 0;
  for (const float g : gradients.arena.values()) sum += static_cast<double>(g) * static_cast<double>(g);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("schedule: a linear rise over the warm-up, then a cosine down to the lowest rate") {
  TrainOptions o;
  o.steps = 110, o.warmup = 10, o.rate = 2e-3, o.min_rate = 2e-4;
  CHECK(schedule(o, 0) == doctest::Approx(0.1).epsilon(0.2));
  for (Index s = 1; s < 10; ++s) CHECK(schedule(o, s) - schedule(o, s - 1) == doctest::Approx(schedule(o, 1) - schedule(o, 0)));
  CHECK(schedule(o, 10) == doctest::Approx(1).epsilon(0.01));
  CHECK(schedule(o, 60) == doctest::Approx(0.55).epsilon(0.02));
  CHECK(schedule(o, 109) == doctest::Approx(0.1).epsilon(0.02));
  for (Index s = 11; s < 110; ++s) CHECK(schedule(o, s) < schedule(o, s - 1));
}

TEST_CASE("trainer: a step's gradient is that of the mean loss of its own batch") {
  Decoder<float> m = small_model();
  TrainOptions o;
  o.steps = 3, o.batch = 2, o.warmup = 0, o.rate = o.min_rate = 1e-2;
  Trainer<float> trainer(m, o);
  for (Index s = 0; s < 3; ++s) {
    const double expected = norm_of_mean_loss(m, batch_of(s));
    CHECK(trainer.step([](Index step, Index) { return batch_of(step); }).gradient_norm == doctest::Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("trainer: who watches sees the passes of every step, and what the step computed is there after it") {
  Decoder<float> m = small_model(), unwatched = small_model();
  TrainOptions o;
  o.steps = 2, o.batch = 2, o.warmup = 0;
  Recorder<float> recorder({"logits", "embed.grad"});
  Trainer<float> trainer(m, o), other(unwatched, o);
  trainer.watch(&recorder);
  const StepReport report = trainer.step([](Index step, Index) { return batch_of(step); });
  CHECK(recorder.at("logits").rows() == 8);
  CHECK(recorder.at("embed.grad").rows() == 8);
  double sum = 0;
  for (const float g : trainer.gradients().arena.values()) sum += static_cast<double>(g) * static_cast<double>(g);
  CHECK(std::sqrt(sum) == doctest::Approx(report.gradient_norm).epsilon(1e-6));
  CHECK(report.loss_nats == doctest::Approx(other.step([](Index step, Index) { return batch_of(step); }).loss_nats).epsilon(1e-6));
}

}  // namespace glassformer
