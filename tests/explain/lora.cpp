// The story of LoRA: against arithmetic by hand, differences of the loss, and Eigen's decomposition of the whole matrix.
#include "glassformer/explain/lora.hpp"

#include <doctest/doctest.h>

#include <Eigen/SVD>
#include <cmath>

#include "explain_support.hpp"
#include "glassformer/model/reading.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

Adapter<float> trained(const ModelConfig& c, std::vector<std::string> targets, Index rank = 3) {
  LoraConfig lora;
  lora.rank = rank, lora.alpha = 6, lora.targets = std::move(targets);
  Adapter<float> a = make_adapter<float>(c, lora, 1);
  for (const AdapterTarget& t : a.targets) {
    const MatrixView<float> b = a.arena.view(t.name + ".lora_B");
    for (Index i = 0; i < b.size(); ++i)
      b.data[i] = 0.3f * static_cast<float>(random_normal({7, static_cast<std::uint64_t>(t.block)}, static_cast<std::uint64_t>(i)));
  }
  return a;
}

}  // namespace

TEST_CASE("the example of LoRA, redone by hand") {
  const Story s = explain_lora_example();
  test::check_story_widths(s);
  test::check_story_json(s);
  using M = Matrix<double>;
  CHECK(s.number("scale") == 2);
  CHECK(s.matrix("change") == M{{1, 0, -1, 2}, {0, 0, 0, 0}, {-0.5, 0, 0.5, -1}});  // 2·(1, 0, −0.5)ᵀ·(0.5, 0, −0.5, 1)
  CHECK(s.matrix("merged") == M{{2, 0, -0.5, 2}, {0, 1, 0, 0.5}, {0, 0, 1.5, -1}});
  CHECK(s.matrix("low") == M{{1}, {0.75}});  // x = (1, 0, 0, 0.5), (0, 1, 0.5, 1)
  CHECK(s.matrix("y_base") == M{{1, 0.25, 0.5}, {0.25, 1.5, 0.5}});
  CHECK(s.matrix("y_adapted") == M{{3, 0.25, -0.5}, {1.75, 1.5, -0.25}});
  CHECK(s.matrix("y_merged") == s.matrix("y_adapted"));
  // dy = (1, 0, 0), (0, 0.5, −1): dA = 2·(1·x₀ + 0.5·x₁), dB = 2·dyᵀ·(1, 0.75)
  CHECK(s.matrix("da") == M{{2, 1, 0.5, 2}});
  CHECK(s.matrix("db") == M{{2}, {0.75}, {-1.5}});
  CHECK(s.matrix("da_fresh") == M{{0, 0, 0, 0}});
  CHECK(s.matrix("db_fresh") == s.matrix("db"));
  CHECK(test::data_of<bool>(s, "fresh_same_bits"));
  CHECK(test::data_of<bool>(s, "weight_untouched"));
  CHECK(s.number("change_norm") == Approx(2 * std::sqrt(1.25) * std::sqrt(1.5)));
  CHECK(s.number("effective_rank") == Approx(1));
  CHECK(s.number("deviation") < 1e-14);
}

TEST_CASE("singular values of s·B·A are those of the whole matrix") {
  test::Dice dice(4);
  for (const auto& [rows, inputs, rank] : {std::array<Index, 3>{7, 5, 2}, {3, 9, 3}, {6, 6, 1}, {4, 4, 4}}) {
    const Matrix<double> a = dice.matrix<double>(rank, inputs), b = dice.matrix<double>(rows, rank);
    const Eigen::MatrixXd whole = 0.7 * b * a;
    const Vector<double> values = lora_singular_values(0.7, a, b);
    CHECK(values.size() == rank);
    CHECK(test::relative_error(values, Eigen::JacobiSVD<Eigen::MatrixXd>(whole).singularValues().head(rank).transpose()) < 1e-13);
  }
  CHECK(effective_rank(Vector<double>{{2, 2, 2}}) == Approx(3));
  CHECK(effective_rank(Vector<double>{{5, 0}}) == Approx(1));
  CHECK(effective_rank(Vector<double>{{0, 0}}) == 0);
  const double p = 0.75;
  CHECK(effective_rank(Vector<double>{{3, 1}}) == Approx(std::exp(-p * std::log(p) - (1 - p) * std::log(1 - p))));
}

TEST_CASE("each target of a model: merged is unmerged, gradients are those of the loss") {
  for (const Mlp mlp : {Mlp::gelu_tanh, Mlp::swiglu}) {
    for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
      ModelConfig c = test::small_config();
      c.mlp = mlp, c.placement = placement, c.position = Position::rope;
      const Decoder<float> m = test::random_decoder(c);
      const std::vector<std::string> targets =
          mlp == Mlp::swiglu ? std::vector<std::string>{"attn.q", "attn.k", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down"}
                             : std::vector<std::string>{"attn.qkv", "attn.out", "mlp.up", "mlp.down"};
      const Adapter<float> adapter = trained(c, targets);
      const ExplainedText text = test::text_of({3, 1, 4, 1, 5});
      Decoder<float> adapted = m;
      attach(adapted, adapter);
      Recorder<float> seen({"blocks.1.attn.q", "blocks.1.attn.v", "blocks.1.attn_out", "blocks.1.mlp.pre", "blocks.1.mlp_out"});
      decoder_read<float>(adapted, text.ids, {.trace = &seen});
      const auto traced = [&](const std::string& target) -> Matrix<float> {  // what the layer gave in the adapted model's pass
        if (target == "attn.q" || target == "attn.v") return seen.at("blocks.1." + target);
        if (target == "attn.out") return seen.at("blocks.1.attn_out");
        if (target == "mlp.gate") return seen.at("blocks.1.mlp.pre").leftCols(m.config.hidden);
        if (target == "mlp.up" && mlp != Mlp::swiglu) return seen.at("blocks.1.mlp.pre");
        if (target == "mlp.down") return seen.at("blocks.1.mlp_out");
        return {};
      };
      for (const std::string& target : targets) {
        const std::string name = "blocks.1." + target;
        const Story s = explain_lora(m, adapter, text, {.target = name});
        test::check_story_widths(s);
        test::check_story_json(s);
        const Matrix<double>&w = s.matrix("weight"), &a = s.matrix("a"), &b = s.matrix("b"), &x = s.matrix("x");
        CHECK(test::relative_error(s.matrix("change"), 2 * b * a) < 1e-6);
        CHECK(test::relative_error(s.matrix("merged"), w + 2 * b * a) < 1e-6);
        Matrix<double> y = x * (w + 2 * b * a).transpose();
        for (const auto& [key, value] : s.data) {
          if (key == "bias") y.rowwise() += Vector<double>(s.matrix("bias").row(0));
        }
        CHECK(test::relative_error(s.matrix("y_merged"), y) < 1e-6);
        CHECK(test::relative_error(s.matrix("y_adapted"), y) < 1e-6);
        CHECK(test::relative_error(s.matrix("y_base"), y) > 1e-3);
        if (const Matrix<float> given = traced(target); given.size() != 0) CHECK(test::relative_error(s.matrix("y_adapted"), given) < 1e-6);
        CHECK(test::data_of<bool>(s, "fresh_same_bits"));
        CHECK(test::data_of<bool>(s, "weight_untouched"));
        CHECK(s.number("logits_merged_difference") < 2e-5);
        CHECK(s.number("logits_change") > 1e-2);
        CHECK(s.matrix("da_fresh").norm() == 0);
        CHECK(s.matrix("db_fresh").norm() > 0);
        CHECK(s.number("deviation") < 3e-6);
        CHECK(s.matrix("a").rows() == 3);

        // dB[1, 2] and dA[2, 1] against differences of the loss, in double.
        const Decoder<double> wide = convert_decoder<double, float>(m);
        LoraConfig lora = adapter.config;
        Adapter<double> moved = make_adapter<double>(c, lora, 1);
        for (std::size_t i = 0; i < moved.arena.values().size(); ++i)
          moved.arena.values()[i] = static_cast<double>(adapter.arena.values()[i]);
        Decoder<double> with = wide;
        attach(with, moved);
        const auto slope = [&](const char* which, Index row, Index column) {
          double& entry = (*moved.arena.view(name + which)).data()[row * moved.arena.view(name + which).cols + column];
          const double before = entry, h = 1e-5;
          entry = before + h;
          const double above = decoder_read_loss<double>(with, text.ids).mean();
          entry = before - h;
          const double below = decoder_read_loss<double>(with, text.ids).mean();
          entry = before;
          return (above - below) / (2 * h);
        };
        CHECK(s.matrix("db")(1, 2) == Approx(slope(".lora_B", 1, 2)).epsilon(1e-3));
        CHECK(s.matrix("da")(2, 1) == Approx(slope(".lora_A", 2, 1)).epsilon(1e-3));
      }
    }
  }
}

TEST_CASE("a target that is not adapted is answered with those that are") {
  const ModelConfig c = test::small_config();
  const Decoder<float> m = test::random_decoder(c);
  const Adapter<float> adapter = trained(c, {"attn.q", "attn.v"});
  const ExplainedText text = test::text_of({3, 1, 4});
  CHECK_THROWS_WITH_AS(explain_lora(m, adapter, text, {.target = "blocks.0.attn.k"}),
                       "target: expected blocks.0 … blocks.1 with one of attn.q, attn.v (as in blocks.0.attn.q), found blocks.0.attn.k",
                       std::invalid_argument);
  CHECK_THROWS_AS(explain_lora(m, adapter, text, {.target = "blocks.2.attn.q"}), std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_lora(m, adapter, text, {.token = 3}), "token: expected a place, 0 … 2, found 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_lora(m, adapter, test::text_of({1})),
                       "prompt: expected at least two tokens, so that one can be predicted, found 1", std::invalid_argument);
  ModelConfig other = c;
  other.width = 16;
  CHECK_THROWS_AS(explain_lora(test::random_decoder(other), adapter, text), std::invalid_argument);
  CHECK(test::data_of<std::string>(explain_lora(m, adapter, text), "target") == "blocks.0.attn.q");  // the first
}

TEST_CASE("patterns: a target has its own rank and scale; what LoRA's picture is wrong for is refused") {
  const ModelConfig c = test::small_config();
  const Decoder<float> m = test::random_decoder(c);
  const ExplainedText text = test::text_of({3, 1, 4});
  LoraConfig lora;
  lora.rank = 3, lora.alpha = 6, lora.targets = {"attn.q", "attn.v", "embed"}, lora.rank_pattern = {{"attn.v", 2}},
  lora.alpha_pattern = {{"attn.v", 1}};
  Adapter<float> adapter = make_adapter<float>(c, lora, 1);
  for (float& x : adapter.arena.values()) x += 0.01f;
  const Story s = explain_lora(m, adapter, text, {.target = "blocks.1.attn.v"});
  CHECK(s.number("scale") == 0.5);
  CHECK(s.matrix("a").rows() == 2);
  CHECK(test::relative_error(s.matrix("change"), 0.5 * s.matrix("b") * s.matrix("a")) < 1e-6);
  CHECK(explain_lora(m, adapter, text, {.target = "blocks.1.attn.q"}).number("scale") == 2);
  CHECK_THROWS_WITH_AS(explain_lora(m, adapter, text, {.target = "embed"}), "target: expected a linear layer of a block, found embed",
                       std::invalid_argument);
  lora.targets = {"attn.q", "attn.v"}, lora.dora = true;
  CHECK_THROWS_WITH_AS(explain_lora(m, make_adapter(m, lora, 1), text), "adapter: expected LoRA, found DoRA, whose change is not B·A alone",
                       std::invalid_argument);
}
