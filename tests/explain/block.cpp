// The story of a block: its numbers against arithmetic by hand, and against the engine's own pass.
#include "glassformer/explain/block.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "explain_support.hpp"
#include "glassformer/model/reading.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

Vector<double> layer_norm(const Vector<double>& x, const Vector<double>& gain, const Vector<double>& bias) {
  double mean = 0, variance = 0;
  for (const double v : x) mean += v / 4;
  for (const double v : x) variance += (v - mean) * (v - mean) / 4;
  Vector<double> y(4);
  for (Index c = 0; c < 4; ++c) y(c) = (x(c) - mean) / std::sqrt(variance + 1e-5) * gain(c) + bias(c);
  return y;
}

double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

}  // namespace

TEST_CASE("the example of a block, redone by hand") {
  const Story s = explain_block_example();
  const Vector<double> the{{1, 1, 0, 0}}, cat{{0, 1, 0, 1}}, g1{{1, 1, 1, 0.5}}, b1{{0, 0, 0.5, 0}}, g2{{1, 0.5, 1, 1}};
  const Vector<double> h_the = layer_norm(the, g1, b1), h = layer_norm(cat, g1, b1);
  // q = k = (h1, h3), v = (h0, h2); Wo's columns are (1, 0, 0.5, 0) and (0, 1, 0, 0.5).
  const double s0 = (h(1) * h_the(1) + h(3) * h_the(3)) / std::sqrt(2.0), s1 = (h(1) * h(1) + h(3) * h(3)) / std::sqrt(2.0);
  const double p1 = 1 / (1 + std::exp(s0 - s1)), p0 = 1 - p1;
  const double z0 = p0 * h_the(0) + p1 * h(0), z1 = p0 * h_the(2) + p1 * h(2);
  const Vector<double> attention{{z0, z1, 0.5 * z0, 0.5 * z1}}, mid = cat + attention, h2 = layer_norm(mid, g2, Vector<double>::Zero(4));
  const Vector<double> pre{{0.5 * h2(0) + h2(1), 0.5 * h2(1) + h2(2) + 0.5, -h2(0) + 0.5 * h2(3)}};
  const Vector<double> post{{gelu(pre(0)), gelu(pre(1)), gelu(pre(2))}};
  const Vector<double> mlp{{post(0), post(1), post(2), 0.5 * post(0) + 0.5 * post(1) + 0.1}};
  CHECK(s.matrix("resid_pre") == cat);
  for (const auto& [key, by_hand] : {std::pair{"ln1.normalized", h},
                                     {"attn_out", attention},
                                     {"resid_mid", mid},
                                     {"ln2.normalized", h2},
                                     {"mlp.pre", pre},
                                     {"mlp.post", post},
                                     {"mlp_out", mlp},
                                     {"resid_post", Vector<double>(mid + mlp)}})
    CHECK_MESSAGE(test::relative_error(s.matrix(key), by_hand) < 1e-14, key);
  CHECK(s.number("ln1.mean") == Approx(0.5));
  CHECK(s.number("ln1.inverse_deviation") == Approx(1 / std::sqrt(0.25 + 1e-5)).epsilon(1e-14));
  CHECK(s.number("deviation") < 1e-14);
  // 8 + 6·4 + 6 + 4·2 + 4 + 8 + 3·4 + 3 + 4·3 + 4 parameters; 24 + 2·(2 keys of width 2) + 8 + 12 + 12 products
  CHECK(s.number("parameters") == 89);
  CHECK(s.number("multiply_adds") == 64);
}

TEST_CASE("every kind of block adds up, in its own order") {
  for (const BlockExample kind : {BlockExample::gpt2, BlockExample::llama, BlockExample::post_norm, BlockExample::attention_only}) {
    for (const Index token : {0, 1}) {
      const Story s = explain_block_example(kind, {.token = token});
      test::check_story_widths(s);
      CHECK(s.number("deviation") < 1e-14);
      const bool post_norm = kind == BlockExample::post_norm;
      const Matrix<double> sum = s.matrix("resid_pre") + s.matrix("attn_out");
      CHECK(test::relative_error(post_norm ? s.matrix("ln1.read") : s.matrix("resid_mid"), sum) < 1e-15);
      if (post_norm) CHECK(test::relative_error(s.matrix("resid_mid"), s.matrix("ln1.normalized")) == 0);
      if (kind == BlockExample::attention_only) CHECK(test::relative_error(s.matrix("resid_post"), s.matrix("resid_mid")) == 0);
    }
  }
  const Story llama = explain_block_example(BlockExample::llama);
  const Vector<double> h = llama.matrix("ln2.normalized").row(0);
  const double g = -h(0) + 0.5 * h(3), u = h(2) + h(3);
  CHECK(llama.matrix("mlp.post")(0, 2) == Approx(g / (1 + std::exp(-g)) * u).epsilon(1e-14));
  const std::string text = story_text(llama);
  CHECK(text.find("RMSNorm") != std::string::npos);
  CHECK(text.find("mean =") == std::string::npos);
  CHECK(story_text(explain_block_example(BlockExample::attention_only)).find("MLP: up") == std::string::npos);
}

TEST_CASE("the block of a model is what a trace sees of it; its parameters are the arena's") {
  for (const Mlp mlp : {Mlp::gelu_tanh, Mlp::gelu_exact, Mlp::swiglu, Mlp::none}) {
    for (const ops::Norm norm : {ops::Norm::layer, ops::Norm::rms}) {
      for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
        ModelConfig c = test::small_config();
        c.mlp = mlp, c.norm = norm, c.placement = placement, c.bias = mlp != Mlp::swiglu;
        const Decoder<float> m = test::random_decoder(c);
        const ExplainedText text = test::text_of({3, 1, 4, 1, 5});
        const Story s = explain_block<float>(m, text, {.layer = 1, .token = 3});
        test::check_story_widths(s);
        test::check_story_json(s);
        CHECK(s.number("deviation") < 3e-6);
        Recorder<float> seen;
        decoder_read<float>(m, text.ids, {.trace = &seen});
        // Whoever wants all sites makes the materialising attention run: other last bits.
        for (const char* site : {"resid_pre", "ln1.normalized", "attn_out", "resid_mid", "resid_post"})
          CHECK(test::relative_error(s.matrix(site), seen.at(std::string("blocks.1.") + site).row(3)) < 1e-5);
        if (mlp != Mlp::none) {
          for (const char* site : {"ln2.normalized", "mlp.pre", "mlp.post", "mlp_out"})
            CHECK(test::relative_error(s.matrix(site), seen.at(std::string("blocks.1.") + site).row(3)) < 1e-5);
        }
        double parameters = 0;
        for (const TensorInfo& t : m.arena.layout().tensors()) {
          if (t.name.starts_with("blocks.1.")) parameters += static_cast<double>(t.size());
        }
        CHECK(s.number("parameters") == parameters);
        const double C = 8, HD = 8, GD = 4, F = static_cast<double>(m.config.hidden);
        const double products = C * (HD + 2 * GD) + 2 * 4 * HD + C * HD +
                                (mlp == Mlp::none     ? 0
                                 : mlp == Mlp::swiglu ? 3 * F * C
                                                      : 2 * F * C);
        CHECK(s.number("multiply_adds") == products);
      }
    }
  }
}

TEST_CASE("a block that does not exist is answered with those that do") {
  const Decoder<float> m = test::random_decoder(test::small_config());
  const ExplainedText text = test::text_of({1, 2});
  CHECK_THROWS_WITH_AS(explain_block<float>(m, text, {.layer = 2}), "layer: expected 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_block<float>(m, text, {.token = 2}), "token: expected a place, 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_block<float>(m, text, {.unit = 32}), "unit: expected 0 … 31, found 32", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_block<float>(m, test::text_of({})), "prompt: expected at least one token, found none",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_block_example(BlockExample::attention_only, {.unit = 0}), "unit: this model's blocks have no MLP",
                       std::invalid_argument);
  CHECK_THROWS_AS(explain_block_example(BlockExample::gpt2, {.layer = 1}), std::invalid_argument);
}
