// Every fault shows when it is planted, and is gone without a trace when it is taken out.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "glassformer/explain/gradient_check.hpp"
#include "glassformer/learn/fault_rig.hpp"
#include "learn/fault_look.hpp"
#include "small_rig.hpp"

namespace glassformer {
namespace {

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
bool same(const Symptom& a, const Symptom& b) {
  if (a.readings.size() != b.readings.size() || a.texts != b.texts) return false;
  for (std::size_t i = 0; i < a.readings.size(); ++i) {
    if (std::memcmp(&a.readings[i].value, &b.readings[i].value, sizeof(double)) != 0) return false;
  }
  return true;
}

// How far the telling reading must move, and which way; `healthy` is where it may lie without the fault.
struct Effect {
  double least;  // faulty − healthy is at least this, or with a minus sign at most
  double healthy_at_most = 1e9;
};
const std::map<std::string, Effect>& effects() {
  static const std::map<std::string, Effect> all = {
      {"scale", {0.1}},      {"next", {-0.5}},       {"axis", {1}},          {"groups", {0.5}},     {"head", {0.05}},
      {"pairs", {1}},        {"place", {0.5, 1e-4}}, {"stale", {0.5, 1e-4}}, {"bounds", {1, 1e-5}}, {"residual", {1}},
      {"epsilon", {1}},      {"untied", {2}},        {"transposed", {1}},    {"alpha", {1}},        {"targets", {0.1}},
      {"uncleared", {5, 2}}, {"rate", {1}},          {"gelu", {0.1}},        {"unturned", {0.2}},   {"sum", {100, 10}},
      {"start", {1}},        {"nucleus", {-10}},     {"temperature", {8}},   {"dropout", {1e-3, 0}}};
  return all;
}

}  // namespace

TEST_CASE("the small model is healthy: between the source's entropy and a little above, and it starts at ln V") {
  const Loss loss = evaluate(rig(), rig().val);
  CHECK(loss.mean() > rig().source_nats);
  CHECK(loss.mean() < rig().source_nats + 0.15);
  const Arena<float> weights = rig().model.arena.clone();
  CHECK(train(rig()).steps.front().loss_nats == doctest::Approx(std::log(static_cast<double>(rig().model.config.vocab))).epsilon(0.05));
  restore(rig().model, weights);
}

TEST_CASE("every fault: the symptom is there when planted, and gone to the bit when taken out") {
  for (const Fault& f : faults()) {
    CAPTURE(f.id);
    Rig& r = rig();
    const Arena<float> weights = r.model.arena.clone();
    const ModelConfig config = r.model.config;
    const float* head = r.model.unembed.weight.dense.data;
    const Symptom healthy = measure(r, f.probe);
    restore(r.model, weights);
    Symptom faulty;
    {
      const auto planted = plant(f, r);
      CHECK_THROWS_AS(plant(f, r), std::invalid_argument);  // one at a time
      faulty = measure(r, f.probe);
    }
    CHECK(same_bits(r.model.arena.values(), weights.values()));
    CHECK(r.model.config == config);
    CHECK(r.model.unembed.weight.dense.data == head);
    CHECK(!r.trace);
    CHECK(same(measure(r, f.probe), healthy));
    restore(r.model, weights);

    REQUIRE(effects().contains(f.id));
    const Effect effect = effects().at(f.id);
    const double before = healthy.at(f.telling), after = faulty.at(f.telling), moved = after - before;
    MESSAGE(f.number, " ", f.id, ": ", f.telling, " ", before, " -> ", after);
    CHECK(before <= effect.healthy_at_most);
    if (effect.least > 0) CHECK(moved >= effect.least);
    if (effect.least < 0) CHECK(moved <= effect.least);
  }
}

TEST_CASE("faults with more to their symptom: a leak passes the entropy, a sum is as many times too long as there are tokens") {
  Rig& r = rig();
  const Arena<float> weights = r.model.arena.clone();
  const TrainingRun healthy = train(r);
  restore(r.model, weights);
  {
    const auto planted = plant(fault("next"), r);
    const Symptom s = measure(r, Probe::training);
    CHECK(s.at("loss on held-out text") < r.source_nats / 2);
    CHECK(s.at("right first choices") > 95);
  }
  {
    const auto planted = plant(fault("sum"), r);
    const TrainingRun run = train(r);
    CHECK(run.steps[0].gradient_norm / healthy.steps[0].gradient_norm ==
          doctest::Approx(static_cast<double>(run.steps[0].tokens)).epsilon(1e-3));
    CHECK(run.steps[0].loss_nats == healthy.steps[0].loss_nats);
  }
  {
    const auto planted = plant(fault("uncleared"), r);
    const TrainingRun run = train(r);
    CHECK(run.steps[0].gradient_norm == healthy.steps[0].gradient_norm);
    CHECK(run.steps[1].loss_nats == healthy.steps[1].loss_nats);         // the first update is right
    CHECK(run.steps[1].gradient_norm > healthy.steps[1].gradient_norm);  // the second holds both gradients
  }
  {
    const auto planted = plant(fault("untied"), r);
    CHECK(measure(r, Probe::evaluation).at("loss on held-out text") > std::log(static_cast<double>(r.model.config.vocab)) - 0.2);
  }
  {
    const auto planted = plant(fault("pairs"), r);
    std::vector<double> here, there;
    evaluate(r, r.val, 0, &here);
    CHECK(here[0] < here[8] - 1);  // place 0 is not turned
  }
  CHECK(same_bits(r.model.arena.values(), weights.values()));
}

TEST_CASE("laws: all hold in a healthy engine, and a fault breaks the one that its last hint points to") {
  Rig& r = rig();
  std::size_t count = 0;
  for (const Probe probe : {Probe::evaluation, Probe::training, Probe::adapter}) {
    const Look look = look_at(r, probe, false, 1);
    for (const auto& [site, laws] : look.laws) {
      for (const Law& law : laws) {
        CAPTURE(site.name);
        CAPTURE(law.sentence);
        CHECK(law.deviation < 0.02);  // ε = 1e-5 beside the variance of fresh embeddings, 0.05²; what else there is is rounding
        ++count;
      }
    }
  }
  CHECK(count > 100);

  struct Broken {
    const char *fault, *site;
    double least;
  };
  for (const Broken& b : {Broken{"scale", "blocks.0.attn.attn_scores", 1},
                          {"next", "blocks.0.attn.pattern", 1e-3},
                          {"axis", "blocks.0.attn.pattern", 0.5},
                          {"groups", "blocks.0.attn.z", 0.1},
                          {"head", "blocks.1.attn.z", 0.1},
                          {"pairs", "blocks.0.attn.rot_q", 0.1},
                          {"residual", "blocks.1.resid_mid", 1},
                          {"epsilon", "blocks.0.ln1.normalized", 0.5},
                          {"untied", "logits", 1},
                          {"alpha", "blocks.1.attn_out", 0.5},
                          {"dropout", "blocks.0.attn.z", 0.01},
                          {"gelu", "blocks.1.mlp.pre.grad", 1e-5},
                          {"unturned", "blocks.1.attn.q.grad", 1e-6},
                          {"sum", "logits.grad", 0.5}}) {
    CAPTURE(b.fault);
    const Fault& f = fault(std::string_view(b.fault));
    const auto planted = plant(f, r);
    const Look look = look_at(r, f.probe, false, 1);
    double worst = 0;
    for (const auto& [site, laws] : look.laws) {
      for (const Law& law : laws) {
        if (site.name == b.site) worst = std::max(worst, law.deviation);
      }
    }
    CHECK(worst > b.least);
  }
}

TEST_CASE("the gradient check finds the backward mistakes, where their hints say, and no others") {
  GradientCheckOptions options;
  options.config = rig().model.config;
  options.config.vocab = 11, options.config.context = 8, options.config.width = 8, options.config.head_dim = 4, options.config.hidden = 12;
  options.config.bos = options.config.eos = -1, options.config.prepend_bos = false;
  options.entries = 8;
  for (const Fault& f : faults()) {
    const auto mistake = backward_mistake(f, options.config);
    if (!mistake) continue;
    CAPTURE(f.id);
    options.trace = mistake.get();
    std::map<std::string, bool> wrong;
    for (const TensorCheck& check : check_gradients(options)) wrong[check.name] = check.error > kGradientTolerance;
    CHECK(wrong["embed.weight"]);
    CHECK(wrong["ln_final.weight"] == (f.id == "sum"));
    CHECK(wrong["blocks.1.mlp.down.weight"] == (f.id == "sum"));
    CHECK(wrong["blocks.1.mlp.up.weight"] == (f.id != "unturned"));
    CHECK(wrong["blocks.1.attn.out.weight"] == (f.id != "unturned"));
    CHECK(wrong["blocks.1.attn.qkv.weight"]);
  }
  for (const char* id : {"gelu", "unturned", "sum"}) CHECK(backward_mistake(fault(std::string_view(id)), options.config));
  CHECK(!backward_mistake(fault("scale"), options.config));
}

TEST_CASE("a model from elsewhere takes the faults that it has the parts for, and says what it lacks") {
  ModelConfig c;
  c.vocab = 256, c.context = 320, c.layers = 1, c.heads = 2, c.width = 16, c.position = Position::alibi, c.tied = false;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 1);
  Rig r = make_rig(m, byte_tokenizer(), 1);
  CHECK(obstacle(fault("pairs"), r) == "this model has no RoPE");
  CHECK(obstacle(fault("untied"), r) == "this model's head is not tied to its embedding");
  CHECK(obstacle(fault("groups"), r) == "this model has no grouped heads");
  CHECK(!obstacle(fault("gelu"), r).empty());
  CHECK(!obstacle(fault("alpha"), r).empty());
  CHECK_THROWS_AS(plant(fault("pairs"), r), std::invalid_argument);
  const Symptom healthy = measure(r, Probe::evaluation);
  {
    const auto planted = plant(fault("residual"), r);
    CHECK(!same(measure(r, Probe::evaluation), healthy));
  }
  CHECK(same(measure(r, Probe::evaluation), healthy));
}

}  // namespace glassformer
