// The story of LoRA: against arithmetic by hand, differences of the loss, and Eigen's decomposition of the whole matrix.
#include "glassformer/explain/lora.hpp"

#include <doctest/doctest.h>

#include <Eigen/SVD>
#include <cmath>

#include "explain_support.hpp"
#include "glassformer/model/quantize.hpp"
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

namespace {

// Everything is moved from where it starts, magnitudes too.
Adapter<float> moved(const Decoder<float>& m, LoraConfig lora, float by = 0.3f) {
  lora.rank = 3, lora.alpha = 6;
  Adapter<float> a = make_adapter<float>(m, lora, 1);
  for (const TensorInfo& info : a.arena.layout().tensors()) {
    const MatrixView<float> view = a.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) {
      const auto n = static_cast<float>(random_normal(RandomStream{7}.at(info.name), static_cast<std::uint64_t>(i)));
      view.data[i] = info.name.ends_with("magnitude") ? view.data[i] * (1 + by * n) : view.data[i] + by * n;
    }
  }
  return a;
}

bool has(const Story& s, const std::string& key) { return story_json(s).find("\"" + key + "\":") != std::string::npos; }

}  // namespace

TEST_CASE("every kind of adapter: the matrix shown merged is the base plus the change shown, and is the one that the engine merges") {
  struct Kind {
    LoraConfig lora;
    std::string target;
    bool tied = true;
    QuantizedType type{};
    bool quantized = false;
  };
  std::vector<Kind> kinds = {
      {{.rank_stabilized = true}, "blocks.1.attn.out"},
      {{.dora = true}, "blocks.1.attn.qkv"},
      {{.dora = true, .targets = {"attn.k", "mlp.down"}}, "blocks.0.attn.k"},
      {{.targets = {"embed"}}, "embed"},
      {{.targets = {"unembed", "attn.v"}}, "unembed", false},
      {{.targets = {"mlp.up"}, .rank_pattern = {{"blocks.1.mlp.up", 2}}, .alpha_pattern = {{"mlp.up", 9}}}, "blocks.1.mlp.up"},
      {{}, "blocks.0.attn.qkv", true, QuantizedType::nf4, true},
      {{.dora = true, .targets = {"attn.q"}}, "blocks.0.attn.q", true, QuantizedType::q4_0, true},
      {{.targets = {"embed"}}, "embed", true, QuantizedType::q8_0, true}};
  for (const Kind& kind : kinds) {
    INFO(kind.target, " dora ", kind.lora.dora, " quantized ", kind.quantized);
    ModelConfig c = test::small_config();
    c.position = Position::rope, c.tied = kind.tied;
    if (kind.quantized) c.width = 64, c.head_dim = 16, c.hidden = 64;
    Decoder<float> m = test::random_decoder(c);
    if (kind.quantized) m = quantize_decoder(m, QuantizeTypes::all(kind.type));
    const Adapter<float> adapter = moved(m, kind.lora);
    const ExplainedText text = test::text_of({3, 1, 4, 1, 5});
    const Story s = explain_lora(m, adapter, text, {.target = kind.target});
    test::check_story_widths(s);
    test::check_story_json(s);
    const AdapterTarget t = *std::ranges::find(adapter.targets, kind.target, &AdapterTarget::name);
    CHECK(s.number("scale") == Approx(kind.lora.rank_stabilized ? 6 / std::sqrt(3.0) : t.alpha / static_cast<double>(t.rank)));

    Decoder<float> merged = dequantize_decoder(m);
    const Matrix<double> before = (*merged.arena.view(t.tensor())).middleRows(t.row_begin, t.rows).cast<double>();
    const Matrix<double> change = adapter_change(m, adapter, t, {}).cast<double>();
    merge(merged, adapter, {});
    const Matrix<double> after = (*merged.arena.view(t.tensor())).middleRows(t.row_begin, t.rows).cast<double>();
    const auto shown = [&](const Matrix<double>& whole) -> Matrix<double> {  // of an embedding the text's rows
      if (t.projection != "embed") return whole;
      Matrix<double> rows(static_cast<Index>(text.ids.size()), whole.cols());
      for (Index i = 0; i < rows.rows(); ++i) rows.row(i) = whole.row(text.ids[static_cast<std::size_t>(i)]);
      return rows;
    };
    CHECK(test::relative_error(s.matrix("weight"), shown(before)) == 0);
    CHECK(test::relative_error(s.matrix("change"), shown(change)) < 1e-6);
    CHECK(test::relative_error(s.matrix("merged"), shown(after)) < 1e-6);
    CHECK(test::relative_error(s.matrix("merged"), s.matrix("weight") + s.matrix("change")) < 1e-6);
    CHECK(test::relative_error(s.matrix("y_merged"), s.matrix("y_adapted")) < 2e-6);
    CHECK(test::relative_error(s.matrix("y_base"), s.matrix("y_adapted")) > 1e-3);
    CHECK(s.number("weight_norm") == Approx(before.norm()).epsilon(1e-6));
    CHECK(s.number("change_norm") == Approx(change.norm()).epsilon(1e-5));
    const Vector<double> values = test::data_of<Vector<double>>(s, "singular_values");
    const Vector<double> expected = Eigen::JacobiSVD<Eigen::MatrixXd>(Eigen::MatrixXd(change)).singularValues().transpose();
    CHECK(values.size() == (kind.lora.dora ? std::min(t.rows, t.inputs) : t.rank));
    CHECK(test::relative_error(values, Vector<double>(expected.head(values.size()))) < 1e-5);
    CHECK(s.number("effective_rank") == effective_rank(values));
    CHECK(test::data_of<bool>(s, "fresh_same_bits"));
    CHECK(test::data_of<bool>(s, "dora") == kind.lora.dora);
    CHECK(s.matrix("da_fresh").norm() == 0);
    CHECK(s.number("logits_merged_difference") < 5e-5);
    CHECK(s.number("deviation") < 1e-5);
    CHECK(test::data_of<Index>(s, "layer_trainable") == t.rank * (t.rows + t.inputs) + (kind.lora.dora ? t.rows : 0));
    CHECK(has(s, "parts") == (t.kind() == "attn.qkv"));
    CHECK(has(s, "magnitude") == kind.lora.dora);
    CHECK(has(s, "magnitude_share") == (t.projection != "embed"));
    CHECK(has(s, "requantized_error") == (kind.quantized && t.projection != "embed"));
    if (!has(s, "magnitude_share")) continue;

    // The split, from its definition: lengths alone, W's directions kept; the rest is what turning adds.
    double length = 0, turn = 0, degrees = 0;
    for (Index o = 0; o < t.rows; ++o) {
      const double w = before.row(o).norm(), n = after.row(o).norm();
      length += (n - w) * (n - w);
      turn += n * n * (after.row(o) / n - before.row(o) / w).squaredNorm() * w / n;  // 2·w·n·(1 − cos θ)
      degrees += std::acos(std::clamp(before.row(o).dot(after.row(o)) / (w * n), -1.0, 1.0)) * 180 / 3.14159265358979;
    }
    CHECK(length + turn == Approx(change.squaredNorm()).epsilon(1e-5));
    CHECK(s.number("magnitude_share") == Approx(length / change.squaredNorm()).epsilon(1e-4));
    CHECK(s.number("direction_share") == Approx(turn / change.squaredNorm()).epsilon(1e-4));
    CHECK(s.number("mean_angle") == Approx(degrees / static_cast<double>(t.rows)).epsilon(1e-4));
    if (kind.lora.dora)
      CHECK(test::relative_error(s.matrix("magnitude"), (*adapter.arena.view(t.name + ".magnitude")).cast<double>()) == 0);
  }
}

TEST_CASE("DoRA with lengths alone, and with directions alone") {
  const Decoder<float> m = test::random_decoder(test::small_config());
  Adapter<float> adapter = make_adapter<float>(m, {.dora = true}, 1);
  for (const AdapterTarget& t : adapter.targets) (*adapter.arena.view(t.name + ".magnitude")) *= 1.5f;
  const ExplainedText text = test::text_of({3, 1, 4});
  Story s = explain_lora(m, adapter, text);
  CHECK(s.number("magnitude_share") == Approx(1).epsilon(1e-5));
  CHECK(s.number("mean_angle") < 0.05);
  CHECK(s.number("change_ratio") == Approx(0.5).epsilon(1e-5));  // every row half as long again
  Adapter<float> turned = moved(m, {.dora = true});
  for (const AdapterTarget& t : turned.targets)
    *turned.arena.view(t.name + ".magnitude") = row_norms<float>(adapted_projection(m, t).weight, t.row_begin, t.rows);
  s = explain_lora(m, turned, text);
  CHECK(s.number("magnitude_share") < 1e-6);
  CHECK(s.number("mean_angle") > 1);
}

TEST_CASE("over a quantized base: a change below the rounding is lost when merged, one above it survives; the error of the original") {
  ModelConfig c = test::small_config();
  c.width = 64, c.head_dim = 16, c.hidden = 64;
  const Decoder<float> original = test::random_decoder(c);
  const Decoder<float> m = quantize_decoder(original, QuantizeTypes::all(QuantizedType::q4_0));
  const ExplainedText text = test::text_of({3, 1, 4});
  LoraQuestion question;
  question.target = "blocks.0.attn.out", question.original = &original;
  const Adapter<float> large = moved(m, {}), small = moved(m, {}, 0.003f);
  const Story survives = explain_lora(m, large, text, question), lost = explain_lora(m, small, text, question);
  CHECK(survives.number("surviving_share") == Approx(1).epsilon(0.1));
  CHECK(survives.number("requantized_ratio") < 0.2);
  CHECK(lost.number("surviving_share") < 0.3);
  CHECK(lost.number("requantized_ratio") > 0.7);
  CHECK(lost.number("quantized_bits") == 4.5);
  const Matrix<float> w0 = *original.arena.view("blocks.0.attn.out.weight"),
                      w = *dequantize_decoder(m).arena.view("blocks.0.attn.out.weight");
  CHECK(lost.number("quantization_error") == Approx((w0 - w).norm()).epsilon(1e-6));
  CHECK(survives.number("change_over_error") == Approx(survives.number("change_norm") / (w0 - w).norm()).epsilon(1e-6));
  question.original = &m;
  CHECK_THROWS_WITH_AS(explain_lora(m, large, text, question),
                       "original: expected blocks.0.attn.out.weight [64, 64] in floating point, as it was before quantization, found a "
                       "quantized one [64, 64]",
                       std::invalid_argument);
}

TEST_CASE("a soft prompt: its neighbours, who attends to it, its gradient by differences") {
  ModelConfig c = test::small_config();
  c.position = Position::rope;
  const Decoder<float> m = test::random_decoder(c);
  Adapter<float> prompt = make_soft_prompt(m, 3, 1);
  const MatrixView<float> rows = prompt.arena.view("prompt.weight");
  (*rows).row(1) = 2 * (*m.embed.weight).row(5);
  const ExplainedText text = test::text_of({3, 1, 4, 1, 5});
  const Story s = explain_lora(m, prompt, text);
  test::check_story_widths(s);
  test::check_story_json(s);
  CHECK(s.matrix("prompt_rows") == (*rows).cast<double>());
  CHECK(test::data_of<Vector<double>>(s, "nearest_cosine")(1) == Approx(1));
  CHECK(story_text(s).find("\"f\"") != std::string::npos);  // token 5

  Decoder<float> with = m;
  attach(with, prompt);
  std::vector<Token> ids = soft_prompt_ids(with);
  ids.insert(ids.end(), text.ids.begin(), text.ids.end());
  const auto loss = [&](const Decoder<float>& model, Index first,
                        std::span<const Token> read) {  // mean over the text's tokens but the first
    const Matrix<double> z = decoder_read<float>(model, read).cast<double>();
    double sum = 0;
    for (Index t = first; t + 1 < z.rows(); ++t)
      sum += std::log(z.row(t).array().exp().sum()) - z(t, read[static_cast<std::size_t>(t) + 1]);
    return sum / 4;
  };
  CHECK(s.number("loss_base_nats") == Approx(loss(m, 0, text.ids)).epsilon(1e-5));
  CHECK(s.number("loss_adapted_nats") == Approx(loss(with, 3, ids)).epsilon(1e-5));
  float& entry = (*rows)(2, 4);
  const float before = entry;
  entry = before + 1e-2f;
  const double above = loss(with, 3, ids);
  entry = before - 1e-2f;
  const double below = loss(with, 3, ids);
  entry = before;
  CHECK(s.matrix("dprompt")(2, 4) == Approx((above - below) / 2e-2).epsilon(2e-2));

  // Attention: with the first layer's pattern summed by hand. Even: 3/4, 3/5, …, 3/8.
  Recorder<float> seen({"blocks.0.attn.pattern"});
  decoder_read<float>(with, ids, {.trace = &seen});
  double share = 0;
  for (Index h = 0; h < 4; ++h) share += seen.at("blocks.0.attn.pattern", 0, h).block(3, 0, 5, 3).cast<double>().sum() / 20;
  CHECK(test::data_of<Vector<double>>(s, "attention_share")(0) == Approx(share).epsilon(1e-6));
  CHECK(s.number("attention_even") == Approx((3. / 4 + 3. / 5 + 3. / 6 + 3. / 7 + 3. / 8) / 5));
  CHECK_THROWS_WITH_AS(explain_lora(m, prompt, text, {.target = "embed"}),
                       "target: expected none, and no token: a soft prompt has no matrices", std::invalid_argument);
  CHECK_THROWS_AS(explain_lora(with, prompt, text), std::invalid_argument);  // attached already
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

TEST_CASE("patterns: a target has its own rank and scale") {
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
}
