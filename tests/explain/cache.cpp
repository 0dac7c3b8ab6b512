// The story of the KV cache: what it counts and reads out, against arithmetic and the engine's own passes.
#include "glassformer/explain/cache.hpp"

#include <doctest/doctest.h>

#include "explain_support.hpp"
#include "glassformer/model/reading.hpp"

using namespace glassformer;

namespace {

std::vector<std::string> sliding_rows(const Story& s) {
  for (const story::Section& section : s.sections) {
    for (const story::Item& item : section.items) {
      const auto* table = std::get_if<story::Table>(&item);
      if (!table || table->key != "sliding") continue;
      std::vector<std::string> rows;
      for (const auto& row : table->rows) rows.push_back(std::get<std::string>(row[1]));
      return rows;
    }
  }
  return {};
}

}  // namespace

TEST_CASE("the example of the cache: five tokens, five rows against fifteen") {
  for (const Index kv_heads : {1, 2}) {
    const Story s = explain_cache_example(kv_heads);
    test::check_story_widths(s);
    test::check_story_json(s);
    CHECK(s.number("rows_with") == 5);
    CHECK(s.number("rows_without") == 15);
    const Matrix<double>& steps = s.matrix("steps");
    for (Index i = 0; i < 5; ++i) {
      CHECK(steps(i, 0) == static_cast<double>(i + 1));  // read
      CHECK(steps(i, 1) == 1);                           // computed
      CHECK(steps(i, 2) == static_cast<double>(i));      // from the cache
      CHECK(steps(i, 3) == static_cast<double>(i + 1));  // computed without
    }
    CHECK(s.number("largest_difference") < 1e-5);
    CHECK(test::data_of<bool>(s, "same_choice"));
    CHECK(s.number("contents_difference") < 1e-5);
    CHECK(s.matrix("keys").rows() == 5);
    // 2·(2 layers)·(8 places)·G·(width 2)·(4 bytes)
    CHECK(s.number("bytes_formula") == 2 * 2 * 8 * static_cast<double>(kv_heads) * 2 * 4);
    CHECK(s.number("bytes_measured") == s.number("bytes_formula"));
    CHECK(s.number("bytes_per_token") == 2 * 2 * static_cast<double>(kv_heads) * 2 * 4);
    // 2·(2 layers)·(8 places)·G·(width 2 + 4)
    CHECK(s.number("int8_bytes_formula") == 2 * 2 * 8 * static_cast<double>(kv_heads) * (2 + 4));
    CHECK(s.number("int8_bytes_measured") == s.number("int8_bytes_formula"));
    CHECK(s.number("int8_bytes_ratio") == doctest::Approx(8.0 / 6));
    CHECK(s.number("bytes_used") == 5 * s.number("bytes_per_token"));
    CHECK(s.number("bytes_per_token_ungrouped") == 2 * 2 * 2 * 2 * 4);
    CHECK(sliding_rows(s) == std::vector<std::string>{"0–4", "0–5", "0, 1, 3–6", "0, 1, 4–7", "0, 1, 5–8"});
    CHECK(story_json(s).find("holds the tokens 0, 11–17 after 18") != std::string::npos);  // 8 places, one sink
  }
}

TEST_CASE("the cache of a model holds the rows of a whole pass, whatever the position and the grouping") {
  for (const Position position : {Position::none, Position::sinusoidal, Position::learned, Position::rope, Position::alibi}) {
    for (const Index kv_heads : {4, 2, 1}) {
      ModelConfig c = test::small_config();
      c.position = position, c.kv_heads = kv_heads;
      const Decoder<float> m = test::random_decoder(c);
      const Story s = explain_cache(m, test::text_of({3, 1, 4}), {.layer = 1, .head = 1, .new_tokens = 15});
      test::check_story_widths(s);
      test::check_story_json(s);
      CHECK(s.number("rows_with") == 18);
      CHECK(s.number("rows_without") == 18 * 19 / 2 - 2 * 3 / 2);
      CHECK(s.number("largest_difference") < 1e-5);
      CHECK(test::data_of<bool>(s, "same_choice"));
      const auto ids = test::data_of<std::vector<Token>>(s, "ids");
      CHECK(ids.size() == 18);
      const std::string site = position == Position::rope ? "blocks.1.attn.rot_k" : "blocks.1.attn.k";
      Recorder<float> full({site, "blocks.1.attn.v"});
      const Matrix<float> logits = decoder_read<float>(m, ids, {.trace = &full});
      const Index group = 1 / (4 / kv_heads);
      CHECK(test::relative_error(s.matrix("keys"), full.at(site).middleCols(2 * group, 2)) < 1e-6);
      CHECK(test::relative_error(s.matrix("values"), full.at("blocks.1.attn.v").middleCols(2 * group, 2)) < 1e-6);
      for (Index t = 3; t < 18; ++t) {  // greedy
        Index best = 0;
        logits.row(t - 1).maxCoeff(&best);
        CHECK(ids[static_cast<std::size_t>(t)] == best);
      }
      // The same text through an 8-bit cache.
      KvCache<float> floats = make_cache(m, 1), codes = make_cache(m, 1, 0, false, 0, CacheKind::int8);
      double difference = 0, divergence = 0;
      Index same = 0;
      for (Index t = 3; t <= 18; ++t) {  // the prompt, then token by token
        const auto part = t == 3 ? std::span(ids).first(3) : std::span(ids).subspan(static_cast<std::size_t>(t - 1), 1);
        const Exec exec{.row_exact = t > 3};
        const Matrix<double> a = decoder_read<float>(m, part, {.exec = exec, .cache = &floats}).bottomRows(1).cast<double>();
        const Matrix<double> b = decoder_read<float>(m, part, {.exec = exec, .cache = &codes}).bottomRows(1).cast<double>();
        const double za = a.array().exp().sum(), zb = b.array().exp().sum();
        for (Index v = 0; v < a.size(); ++v) divergence += std::exp(a(v)) / za * ((a(v) - std::log(za)) - (b(v) - std::log(zb))) / 16;
        difference = std::max(difference, (a - b).cwiseAbs().maxCoeff());
        Index best = 0, best_int8 = 0;
        a.row(0).maxCoeff(&best), b.row(0).maxCoeff(&best_int8), same += best == best_int8;
      }
      CHECK(s.number("int8_largest_difference") == doctest::Approx(difference).epsilon(1e-5));
      CHECK(difference > 1e-5);
      CHECK(s.number("int8_mean_kl_nats") == doctest::Approx(divergence).epsilon(1e-5));
      CHECK(test::data_of<Index>(s, "int8_same_choice") == same);
      const double amax = s.matrix("keys").bottomRows(1).cwiseAbs().maxCoeff();
      CHECK(s.number("int8_row_scale") == doctest::Approx(amax / 127));
      CHECK(s.number("int8_row_error") <= s.number("int8_row_scale") / 2 * (1 + 1e-6));
      CHECK(s.number("bytes_measured") == 2 * 2 * 24 * static_cast<double>(kv_heads) * 2 * 4);
      CHECK(make_cache(m, 1).bytes() == static_cast<Index>(s.number("bytes_measured")));
      const bool fixed = position == Position::learned || position == Position::sinusoidal;
      CHECK(test::data_of<bool>(s, "can_slide") == !fixed);
      CHECK((story_json(s).find("cannot slide") != std::string::npos) == fixed);
    }
  }
}

TEST_CASE("a decode that does not fit is answered with what does") {
  ModelConfig c = test::small_config();
  const Decoder<float> m = test::random_decoder(c);
  const ExplainedText text = test::text_of({1, 2, 3, 4});
  CHECK_THROWS_WITH_AS(explain_cache(m, text, {.layer = 2}), "layer: expected 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_cache(m, text, {.head = 4}), "head: expected 0 … 3, found 4", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_cache(m, text, {.new_tokens = 21}),
                       "max-tokens: expected 1 … 20 (the model's context is 24 and the prompt takes 4), found 21", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_cache(m, text, {.sinks = 24}), "sinks: expected 0 … 23, found 24", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_cache(m, test::text_of({})), "prompt: expected at least one token, found none", std::invalid_argument);
  CHECK_THROWS_AS(explain_cache_example(3), std::invalid_argument);
  c.causal = false;
  CHECK_THROWS_WITH_AS(explain_cache(test::random_decoder(c), text),
                       "cache: expected a causal model: where earlier tokens see later ones, each new token changes all rows; layer 0 has no causal mask",
                       std::invalid_argument);
  Decoder<float> half = test::random_decoder(test::small_config());
  half.blocks[1].attention.config.core.causal = false;  // as a what-if does
  CHECK_THROWS_WITH_AS(explain_cache(half, text),
                       "cache: expected a causal model: where earlier tokens see later ones, each new token changes all rows; layer 1 has no causal mask",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_cache(m, test::text_of(std::vector<Token>(24, 1))),
                       "prompt: expected at most 23 tokens (the model's context of 24, less one to decode), found 24", std::invalid_argument);
  struct ByRows : Trace<float> {  // a model whose values depend on how many tokens a pass reads
    bool wants(std::string_view site) const override { return site == "blocks.0.attn_out"; }
    void visit(const Site&, MatrixRef<float> x) override { x *= static_cast<float>(x.rows()); }
  };
  CHECK(test::data_of<bool>(explain_cache(m, text), "same_logits"));
  Decoder<float> odd = test::random_decoder(test::small_config());
  odd.hook = std::make_shared<ByRows>();
  const Story differs = explain_cache(odd, text);
  CHECK_FALSE(test::data_of<bool>(differs, "same_logits"));
  CHECK(story_json(differs).find("The two ways give DIFFERENT logits") != std::string::npos);
  CHECK_NOTHROW(explain_cache(m, text, {.new_tokens = 20}));
}
