// A model with a change, side by side with itself.
#include "glassformer/explain/what_if.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "glassformer/explain/attention.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/sample/prompt.hpp"
#include "support/check.hpp"

namespace glassformer {
namespace {

Decoder<float> model_of(Position position = Position::rope) {
  ModelConfig c;
  c.vocab = 256, c.context = 48, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 16, c.position = position;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  for (auto& block : m.blocks) (*block.attention.qkv.weight) *= 20, (*block.attention.out.weight) *= 20, (*block.mlp.down.weight) *= 20;
  (*m.embed.weight) *= 30;
  return m;
}
const Tokenizer& bytes() {
  static const Tokenizer tokenizer = byte_tokenizer();
  return tokenizer;
}
Matrix<float> logits(const Decoder<float>& m, std::string_view text) {
  return decoder_read<float>(m, read_prompt(m.config, bytes(), text).ids);
}

}  // namespace

TEST_CASE("what if: each change does what it says, and is gone afterwards to the bit") {
  for (const Position position : {Position::rope, Position::alibi}) {
    Decoder<float> m = model_of(position);
    const Matrix<float> before = logits(m, "so it goes");
    const auto with = [&](const WhatIf& what) {
      const Intervention change(m, bytes(), what);
      return logits(m, "so it goes");
    };
    // A head without its columns of the output projection.
    const Matrix<float> ablated = with({.heads = {{1, 2}}});
    Decoder<float> deaf = model_of(position);
    (*deaf.blocks[1].attention.out.weight).middleCols(8, 4).setZero();
    CHECK(test::relative_error(ablated, logits(deaf, "so it goes")) < 1e-6);
    CHECK(test::relative_error(ablated, before) > 1e-3);

    const Matrix<float> scaled = with({.scales = {{"blocks.0.attn_out", 0.5}, {"blocks.0.attn_out", 4}}});  // one after the other
    Decoder<float> loud = model_of(position);
    (*loud.blocks[0].attention.out.weight) *= 2;
    if (loud.blocks[0].attention.out.bias) (*loud.blocks[0].attention.out.bias) *= 2;
    CHECK(test::relative_error(scaled, logits(loud, "so it goes")) < 1e-5);

    const Matrix<float> warm = with({.softmax_temperature = 4});
    Decoder<float> soft = model_of(position);
    for (auto& block : soft.blocks) {
      block.attention.config.core.scale /= 4;
      for (double& slope : block.attention.config.core.slopes) slope /= 4;
    }
    CHECK(test::relative_error(warm, logits(soft, "so it goes")) < 1e-6);
    CHECK(test::relative_error(warm, before) > 1e-3);

    // Without the mask the first token's logits depend on the last one.
    const Matrix<float> other = logits(m, "so it goe!");
    CHECK(test::relative_error(other.row(0), before.row(0)) < 1e-6);
    const Intervention change(m, bytes(), {.no_mask = true});
    CHECK(test::relative_error(logits(m, "so it goe!").row(0), logits(m, "so it goes").row(0)) > 1e-3);
  }
  Decoder<float> m = model_of();
  const Matrix<float> before = logits(m, "so it goes");
  { const Intervention change(m, bytes(), {.heads = {{0, 0}}, .no_mask = true, .softmax_temperature = 2}); }
  CHECK(m.hook == nullptr);
  CHECK(logits(m, "so it goes") == before);
}

TEST_CASE("what if: a patch of the whole stream makes the model answer the other text; of one token, only from there") {
  Decoder<float> m = model_of();
  const Matrix<float> a = logits(m, "so it goes"), b = logits(m, "on we went");
  Intervention change(m, bytes(), {.patches = {"blocks.0.resid_post"}, .patch_text = "on we went"}, {}, true);
  CHECK(test::relative_error(logits(m, "so it goes"), b) < 1e-6);
  CHECK(test::relative_error(logits(m, "so it goes"), a) < 1e-6);  // it acts once
  change.rearm();
  CHECK_THROWS_WITH_AS(logits(m, "so it"), "blocks.0.resid_post: the patch is [10, 16], the value is [5, 16]", std::invalid_argument);
  {
    Decoder<float> always = model_of();
    const Intervention again(always, bytes(), {.patches = {"blocks.0.resid_post"}, .patch_text = "on we went"});
    for (int pass = 0; pass < 2; ++pass) CHECK(test::relative_error(logits(always, "so it goes"), b) < 1e-6);
  }
  Decoder<float> one = model_of();
  const Intervention at(one, bytes(), {.patches = {"blocks.0.resid_post"}, .patch_text = "on we went", .patch_token = 6});
  const Matrix<float> mixed = logits(one, "so it goes");
  CHECK(test::relative_error(mixed.topRows(6), a.topRows(6)) < 1e-6);
  CHECK(test::relative_error(mixed.bottomRows(4), a.bottomRows(4)) > 1e-3);
}

TEST_CASE("what if: a scores' patch goes to its own head and sequence") {
  Decoder<float> m = model_of();
  const Matrix<float> b = logits(m, "on we went");
  const Intervention change(m, bytes(),
                            {.patches = {"embed", "blocks.0.attn.pattern", "blocks.1.attn.pattern"}, .patch_text = "on we went"});
  CHECK(test::relative_error(logits(m, "so it goes"), b) < 1e-5);
}

TEST_CASE("what if: the story has loss, next tokens and text of both") {
  Decoder<float> m = model_of();
  GenerateOptions options;
  options.max_tokens = 12, options.sampling.temperature = 1;
  const Story same = what_if_story(m, bytes(), "so it goes", {}, options);
  CHECK(same.number("kl_nats") == 0);
  CHECK(same.number("loss_before_nats") == same.number("loss_after_nats"));
  const Story story = what_if_story(m, bytes(), "so it goes", {.heads = {{0, 1}}, .no_mask = true}, options);
  const auto ids = read_prompt(m.config, bytes(), "so it goes").ids;
  CHECK(story.number("loss_before_nats") == doctest::Approx(decoder_read_loss<float>(m, ids).mean()).epsilon(1e-6));
  CHECK(story.number("kl_nats") > 1e-3);
  const auto j = nlohmann::json::parse(story_json(story));
  CHECK(j["ids_before"] == nlohmann::json::parse(story_json(same))["ids"]);
  CHECK(j["ids"] != j["ids_before"]);
  CHECK(j["next_tokens"].size() >= 6);
  for (const Index width : {60, 80}) {
    std::istringstream text(story_text(story, plot::Colour::none, width));
    for (std::string line; std::getline(text, line);) CHECK_MESSAGE(plot::display_width(line) <= width, line);
  }
}

TEST_CASE("what if: attention explained with a change tells of the changed one, and adds up") {
  Decoder<float> m = model_of();
  const AttentionSteps plain = explain_attention(m, bytes(), "so it goes", {.layer = 1, .head = 2});
  const Intervention change(m, bytes(), {.heads = {{0, 1}}, .scales = {{"blocks.1.attn.q", 3}}, .softmax_temperature = 2});
  const AttentionSteps steps = explain_attention(m, bytes(), "so it goes", {.layer = 1, .head = 2});
  CHECK(steps.deviation < 2e-6);
  CHECK(plain.deviation < 2e-6);
  CHECK(steps.scale == doctest::Approx(plain.scale / 2));
  CHECK(test::relative_error(steps.products, plain.products) > 1e-3);
  // A head that is cut adds nothing.
  const AttentionSteps cut = explain_attention(m, bytes(), "so it goes", {.layer = 0, .head = 1});
  CHECK(cut.share.cwiseAbs().maxCoeff() == 0);
  const auto closing = [](const AttentionSteps& of) { return attention_story(of).closing.back(); };
  CHECK(closing(steps).find("somebody edits") == std::string::npos);
  CHECK(closing(cut).find("somebody edits a value between the steps") != std::string::npos);  // pattern·v is written out, z is zero
}

TEST_CASE("what if: without the mask a window is gone too; a patch needs a text that is read once") {
  ModelConfig c;
  c.vocab = 256, c.context = 48, c.layers = 1, c.heads = 2, c.width = 16, c.position = Position::rope, c.window = 2;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  const Intervention change(m, bytes(), {.no_mask = true});
  CHECK(explain_attention(m, bytes(), "so it goes", {}).scores.allFinite());
  Decoder<float> other = model_of();
  GenerateOptions options;
  options.max_tokens = 2;
  const auto story = [&](const WhatIf& what) { return what_if_story(other, bytes(), "so it goes", what, options); };
  CHECK_THROWS_AS(story({.patches = {"embed"}, .patch_text = "on we went", .no_mask = true}), std::invalid_argument);
  CHECK_THROWS_AS(story({.patches = {"logits"}, .patch_text = "on we went"}), std::invalid_argument);
  CHECK_NOTHROW(story({.patches = {"embed"}, .patch_text = "on we went"}));
  options.use_cache = false;
  CHECK_THROWS_AS(story({.patches = {"embed"}, .patch_text = "on we went"}), std::invalid_argument);
  CHECK(what_if_story(other, bytes(), "s", {.heads = {{0, 0}}}, options).sections.front().title == "The next token");
  CHECK_THROWS_AS(what_if_story(other, bytes(), std::string(60, 'x'), {.heads = {{0, 0}}}, options), std::invalid_argument);
}

TEST_CASE("what if: what does not exist is answered with what does") {
  Decoder<float> m = model_of();
  const auto says = [&](const WhatIf& what) -> std::string {
    try {
      const Intervention change(m, bytes(), what);
    } catch (const std::invalid_argument& error) {
      CHECK(m.hook == nullptr);
      return error.what();
    }
    return "";
  };
  CHECK(says({.heads = {{2, 0}}}) == "ablate: expected a layer of 0 … 1, found 2");
  CHECK(says({.heads = {{0, 4}}}) == "ablate: expected a head of 0 … 3, found 4");
  CHECK(says({.scales = {{"blocks.0.rot_q", 1}}}).starts_with("site: found blocks.0.rot_q; this model has embed, blocks.i.resid_pre, "));
  CHECK(says({.scales = {{"embed", std::nan("")}}}) == "scale: expected a factor that a float can hold for embed, found nan");
  CHECK(says({.patches = {"embed"}}) == "patch: expected the text whose values are put in, found none");
  CHECK(says({.patches = {"embed"}, .patch_text = "abc", .patch_token = 3}) ==
        "patch token: expected 0 … 2, as the other text has 3 tokens, found 3");
  CHECK(says({.softmax_temperature = 0}) == "softmax temperature: expected a number from 1e-6 to 1e6, found 0");
}

TEST_CASE("what if: a soft prompt is read before the text, whose places stay its own") {
  Decoder<float> m = model_of();
  const Adapter<float> prompt = make_soft_prompt(m, 3, 1);
  attach(m, prompt);
  const std::vector<Token> ids = bytes().encode("so it goes");
  std::vector<Token> all = soft_prompt_ids(m);
  all.insert(all.end(), ids.begin(), ids.end());
  const Matrix<double> z = decoder_read<float>(m, all).cast<double>();
  double nats = 0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row = z.row(static_cast<Index>(t) + 3);
    nats += std::log(row.array().exp().sum()) - row(ids[t + 1]);
  }
  CHECK(reaction(m, ids).loss_nats == doctest::Approx(nats / static_cast<double>(ids.size() - 1)).epsilon(1e-5));

  // The last layer's output of the text's token 4, from another text: the logits after it are the other text's.
  const auto after = [&](const std::string& text) { return reaction(m, bytes().encode(text)).next; };
  const Vector<double> other = after("si it"), own = after("so it");
  const Intervention change(m, bytes(), {.patches = {"blocks.1.resid_post"}, .patch_text = "si it", .patch_token = 4});
  CHECK(test::relative_error(after("so it"), other) < 1e-6);
  CHECK(test::relative_error(own, other) > 1e-3);
}

}  // namespace glassformer
