// The logit lens and the attribution of a logit: against arithmetic by hand, and against the engine's own pass and edits of it.
#include "glassformer/explain/logits.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "explain_support.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/trace/edits.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

using Row = Vector<double>;

Row rms(const Row& x) { return x / std::sqrt(x.squaredNorm() / 4 + 1e-5); }
double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
// The word after each: "down" comes before "the".
Row shifted(const Row& x) { return Row{{x(3), x(0), x(1), x(2)}}; }
Row activated(const Row& x) {
  Row y(4);
  for (Index c = 0; c < 4; ++c) y(c) = gelu(x(c));
  return y;
}

// The example's three words through both layers, by hand.
struct ByHand {
  Row embedding{{0, 0, 1, 0}}, mean_of_three = Row{{2, 2, 2, 0}} / 3;  // rms of e_i is 2·e_i (but for ε)
  Row attention0, mlp0, after0;
  ByHand() {
    const double two = 1 / std::sqrt(0.25 + 1e-5);
    attention0 = 0.2 * two / 3 * Row{{1, 1, 1, 0}};
    const Row mid = embedding + attention0;
    mlp0 = 0.25 * shifted(activated(rms(mid)));
    after0 = mid + mlp0;
  }
};

std::vector<Token> some_ids() { return {3, 1, 4, 1, 5, 9, 2, 6}; }

// Removes one head's columns of z, or scales an MLP's output to nothing.
class Without : public Trace<float> {
 public:
  Without(std::string site, Index begin, Index count) : site_(std::move(site)), begin_(begin), count_(count) {}
  bool wants(std::string_view site) const override { return site == site_; }
  void visit(const Site&, MatrixRef<float> value) override { value.middleCols(begin_, count_).setZero(); }

 private:
  std::string site_;
  Index begin_, count_;
};

}  // namespace

TEST_CASE("the example of the lens, redone by hand") {
  const ByHand hand;
  const Story s = explain_lens_example();
  test::check_story_widths(s);
  test::check_story_json(s);
  CHECK(test::relative_error(s.matrix("stream").row(0), hand.embedding) == 0);
  CHECK(test::relative_error(s.matrix("stream").row(1), hand.after0) < 1e-14);
  CHECK(test::relative_error(s.matrix("logits").row(1), rms(hand.after0)) < 1e-14);  // U is the identity
  const Row e = rms(hand.after0).array().exp();
  CHECK(s.matrix("answer_probability")(1, 0) == Approx(e(3) / e.sum()).epsilon(1e-13));
  // The embedding says the word itself, the end the next one.
  CHECK(test::data_of<std::vector<Token>>(s, "final_choices") == std::vector<Token>{1, 2, 3});
  CHECK(s.matrix("answer_rank")(0, 0) > 1);
  CHECK(s.matrix("answer_rank")(2, 0) == 1);
  CHECK(s.number("last_difference") == 0);
}

TEST_CASE("the last row of the lens is the model, whatever its norm and its placement") {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
    for (const ops::Norm norm : {ops::Norm::layer, ops::Norm::rms}) {
      for (const bool tied : {true, false}) {
        ModelConfig c = test::small_config();
        c.placement = placement, c.norm = norm, c.tied = tied;
        const Decoder<float> m = test::random_decoder(c);
        const ExplainedText text = test::text_of(some_ids());
        const Story s = explain_lens<float>(m, text, {.token = 4, .answer = 7});
        test::check_story_widths(s);
        test::check_story_json(s);
        CHECK(s.number("last_difference") <= 1e-5);
        const Matrix<double> logits = decoder_read<float>(m, text.ids).cast<double>();
        const Matrix<double>& p = s.matrix("probability");
        CHECK(p.rows() == 3);
        for (Index t = 0; t < 8; ++t) {
          const double largest = logits.row(t).maxCoeff(), sum = (logits.row(t).array() - largest).exp().sum();
          CHECK(p(2, t) == Approx(1 / sum).epsilon(1e-5));  // the final prediction is the largest
        }
        Index above = 0;
        for (Index v = 0; v < 16; ++v) above += logits(4, v) > logits(4, 7);
        CHECK(s.matrix("answer_rank")(2, 0) == static_cast<double>(above + 1));
        CHECK((story_text(s).find("post-norm") != std::string::npos) == (placement == NormPlacement::post));
      }
    }
  }
}

TEST_CASE("an earlier row of the lens is the model that ends there") {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
    ModelConfig c = test::small_config();
    c.placement = placement;
    const Decoder<float> m = test::random_decoder(c);
    Decoder<float> shorter = m;
    shorter.blocks.pop_back();
    const ExplainedText text = test::text_of(some_ids());
    const Story s = explain_lens<float>(m, text, {.answer = 2});
    const Matrix<double> logits = decoder_read<float>(shorter, text.ids).cast<double>();
    const Row e = (logits.row(7).array() - logits.row(7).maxCoeff()).exp();
    CHECK(s.matrix("answer_probability")(1, 0) == Approx(e(2) / e.sum()).epsilon(1e-5));
  }
}

TEST_CASE("the example of the attribution, redone by hand") {
  const ByHand hand;
  const Story s = explain_attribution_example();
  test::check_story_widths(s);
  test::check_story_json(s);
  const Matrix<double>& parts = s.matrix("stream_parts");
  CHECK(test::data_of<std::vector<std::string>>(s, "stream_part_names") ==
        std::vector<std::string>{"embedding", "block0.head0", "block0.head1", "block0.mlp", "block1.head0", "block1.head1", "block1.mlp"});
  CHECK(test::relative_error(parts.row(0), hand.embedding) == 0);
  CHECK(test::relative_error(parts.row(1), Row(hand.attention0.cwiseProduct(Row{{1, 1, 0, 0}}))) < 1e-14);
  CHECK(test::relative_error(parts.row(2), Row(hand.attention0.cwiseProduct(Row{{0, 0, 1, 1}}))) < 1e-14);
  CHECK(test::relative_error(parts.row(3), hand.mlp0) < 1e-14);
  const Row stream = parts.colwise().sum();
  CHECK(s.number("logit") == Approx(rms(stream)(3)).epsilon(1e-13));
  const double r = 1 / std::sqrt(stream.squaredNorm() / 4 + 1e-5);
  CHECK(s.matrix("by_layer")(0, 2) == Approx(hand.mlp0(3) * r).epsilon(1e-13));
  CHECK(s.number("sum_difference") == Approx(0).epsilon(1e-13));
  // The difference of two logits, in which what speaks for both cancels.
  const Story d = explain_attribution_example({.against = 2});
  CHECK(d.number("logit") == Approx(rms(stream)(3) - rms(stream)(2)).epsilon(1e-13));
  CHECK(d.matrix("by_layer")(0, 2) == Approx((hand.mlp0(3) - hand.mlp0(2)) * r).epsilon(1e-13));
}

TEST_CASE("shares add up to the logit, for every norm, position, head grouping and MLP") {
  for (const ops::Norm norm : {ops::Norm::layer, ops::Norm::rms}) {
    for (const Position position : {Position::none, Position::learned, Position::sinusoidal, Position::rope, Position::alibi}) {
      for (const Mlp mlp : {Mlp::gelu_tanh, Mlp::swiglu, Mlp::none}) {
        ModelConfig c = test::small_config();
        c.norm = norm, c.position = position, c.mlp = mlp, c.bias = mlp != Mlp::swiglu;
        if (position == Position::rope) c.tied = false;
        const Decoder<float> m = test::random_decoder(c);
        const ExplainedText text = test::text_of(some_ids());
        const Matrix<float> logits = decoder_read<float>(m, text.ids);
        for (const Token against : {-1, 11}) {
          const Story s = explain_attribution<float>(m, text, {.token = 5, .answer = 3, .against = against});
          test::check_story_widths(s);
          test::check_story_json(s);
          const double expected = static_cast<double>(logits(5, 3)) - (against < 0 ? 0 : static_cast<double>(logits(5, against)));
          CHECK(s.number("logit") == Approx(expected).epsilon(1e-5));
          CHECK(std::abs(s.number("sum_difference")) < 1e-4);
          CHECK(s.matrix("by_layer").cols() == (mlp == Mlp::none ? 4 : 5));
          CHECK(test::relative_error(s.matrix("stream_parts").colwise().sum(), s.matrix("stream").row(0)) < 1e-6);
        }
      }
    }
  }
}

TEST_CASE("a part of the last layer is what its removal takes from the stream") {
  ModelConfig c = test::small_config();
  c.norm = ops::Norm::layer;
  const Decoder<float> m = test::random_decoder(c);
  const ExplainedText text = test::text_of(some_ids());
  const Story s = explain_attribution<float>(m, text, {.answer = 3});
  const Matrix<double> d = s.matrix("direction");
  const auto share_of_difference = [&](Without without, const std::string& site) {
    Recorder<float> whole({site});
    decoder_read<float>(m, text.ids, {.trace = &whole});
    struct Both : Trace<float> {
      Both(Without& e, Recorder<float>& r) : edit(e), record(r) {}
      bool wants(std::string_view name) const override { return edit.wants(name) || record.wants(name); }
      void visit(const Site& at, MatrixRef<float> value) override {
        if (edit.wants(at.name)) edit.visit(at, value);
        if (record.wants(at.name)) record.visit(at, value);
      }
      Without& edit;
      Recorder<float>& record;
    };
    Recorder<float> less({site});
    Both both(without, less);
    decoder_read<float>(m, text.ids, {.trace = &both});
    const Row taken = (whole.at(site).row(7) - less.at(site).row(7)).cast<double>();
    return taken.dot(d.row(0)) - taken.mean() * d.sum();
  };
  for (const Index head : {0, 1, 2, 3})  // into the stream at the middle of the last block: later the MLP would answer
    CHECK(s.matrix("by_layer")(1, head) ==
          Approx(share_of_difference({"blocks.1.attn.z", 2 * head, 2}, "blocks.1.resid_mid")).epsilon(2e-5));
  CHECK(s.matrix("by_layer")(1, 4) == Approx(share_of_difference({"blocks.1.mlp_out", 0, 8}, "blocks.1.resid_post")).epsilon(2e-5));
}

TEST_CASE("lens and attribution: what does not exist is answered with what does") {
  ModelConfig c = test::small_config();
  const Decoder<float> m = test::random_decoder(c);
  const ExplainedText text = test::text_of({1, 2});
  CHECK_THROWS_WITH_AS(explain_lens<float>(m, text, {.token = 2}), "token: expected a place, 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_lens<float>(m, text, {.answer = 16}), "answer: expected a token, 0 … 15, found 16", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_attribution<float>(m, text, {.answer = 3, .against = 3}),
                       "against: expected another token than \"d\", whose logit is explained", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_attribution<float>(m, text, {.against = 99}), "against: expected a token, 0 … 15, found 99",
                       std::invalid_argument);
  c.placement = NormPlacement::post;
  CHECK_THROWS_WITH_AS(
      explain_attribution<float>(test::random_decoder(c), text),
      "attribution: expected a pre-norm model, found post-norm: its blocks normalise the stream again, so a logit is no sum of parts",
      std::invalid_argument);
  CHECK(token_named(logits_example_text(), "answer", "down") == 3);
  CHECK_THROWS_WITH_AS(token_named(logits_example_text(), "answer", "dog"),
                       "answer: expected the bytes of one token (\"the\", \"cat\", \"sat\", \"down\"), found \"dog\"",
                       std::invalid_argument);
  ExplainedText twice = logits_example_text();
  twice.vocabulary.push_back("cat");
  CHECK_THROWS_WITH_AS(token_named(twice, "answer", "dog"),
                       "answer: expected the bytes of one token (\"the\", \"cat\", \"sat\", \"down\"), found \"dog\"",
                       std::invalid_argument);
  Decoder<float> broken = test::random_decoder(test::small_config());
  broken.embed.weight.dense.data[8] = std::nanf("");
  CHECK_THROWS_AS(explain_attribution<float>(broken, text, {.answer = 1}), std::runtime_error);
}

TEST_CASE("an edited model: the lens ends at it, and the attribution adds up or refuses") {
  ModelConfig c = test::small_config();
  c.position = Position::learned;
  const ExplainedText text = test::text_of({1, 2, 3});
  Decoder<float> m = test::random_decoder(c);
  for (const char* site : {"embed", "pos_embed", "blocks.0.ln1.normalized", "blocks.0.attn.q", "blocks.1.attn.pattern", "blocks.0.attn.z",
                           "blocks.1.ln2.normalized", "blocks.0.mlp.pre", "blocks.1.mlp.post", "blocks.1.mlp_out", "blocks.0.attn_out",
                           "blocks.0.resid_pre", "blocks.1.resid_pre", "blocks.1.resid_mid", "blocks.1.resid_post", "ln_final.normalized",
                           "logits"}) {
    INFO(site);
    const auto edits = std::make_shared<Edits<float>>();
    edits->add({.site = {site}, .factor = 0.5f});
    m.hook = edits;
    const Story lens = explain_lens<float>(m, text);
    CHECK(test::data_of<bool>(lens, "ends_at_model"));
    const std::string name = site;
    const bool refused = name == "logits" || name == "ln_final.normalized" || name.find("resid_") != std::string::npos || name.ends_with("attn_out");
    if (refused) {
      CHECK_THROWS_WITH_AS(explain_attribution<float>(m, text),
                           fmt::format("attribution: expected edits of parts alone (embed, pos_embed, and in a block attn.*, mlp.*, mlp_out, "
                                       "ln1.*, ln2.*), found one of {}: the parts would not add up to the logit", site).c_str(),
                           std::invalid_argument);
    } else {
      CHECK(std::abs(explain_attribution<float>(m, text).number("sum_difference")) < 1e-4);
    }
  }
}

TEST_CASE("stories260K: the lens ends at the model, and the shares add up") {
  const std::filesystem::path path = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data" / "stories260K";
  if (!std::filesystem::exists(path)) {
    MESSAGE("skipped: there is no " << path.string());
    return;
  }
  const Expected<ModelFiles> model = load_model(path);
  if (!model) FAIL(model.error());
  const ExplainedText text =
      explained_text(model->decoder, model->tokenizer, "Once upon a time, there was a little girl named", model->description);
  const Story lens = explain_lens<float>(model->decoder, text);
  test::check_story_widths(lens);
  CHECK(lens.number("last_difference") <= 1e-5);
  CHECK(test::data_of<std::string>(lens, "answer") == "\"␣Lily\"");
  const Story s = explain_attribution<float>(model->decoder, text);
  test::check_story_widths(s);
  CHECK(std::abs(s.number("sum_difference")) < 1e-4);
}
