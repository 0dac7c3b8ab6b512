// The story of attention: its numbers against arithmetic by hand, and against the engine's own pass.
#include "glassformer/explain/attention.hpp"
#include "glassformer/model/reading.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/sample/generate.hpp"
#include "support/check.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

Decoder<float> random_model(Position position, Index kv_heads, Index window = 0, NormPlacement placement = NormPlacement::pre,
                            Index head_dim = 4, bool bias = true) {
  ModelConfig c;
  c.vocab = 256, c.context = 200, c.layers = 2, c.heads = 4, c.kv_heads = kv_heads, c.width = 4 * head_dim;
  c.position = position, c.window = window, c.placement = placement, c.bias = bias;
  c.embedding_std = 1, c.init_std = 1 / std::sqrt(static_cast<double>(c.width));
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  return m;
}

std::vector<Token> random_ids(Index count) {
  std::vector<Token> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<Token>(random_below({5, 0}, static_cast<std::uint64_t>(i), 256)));
  return ids;
}
std::vector<std::string> bytes_of(const std::vector<Token>& ids) {
  std::vector<std::string> tokens;
  for (const Token id : ids) tokens.push_back(std::string(1, static_cast<char>(id)));
  return tokens;
}

// Attention's sites of layer 1 in a plain pass, as anybody would record them. (Whoever also looks at the scores of layer 0 makes its
// materialising kernel run, and layer 1 starts from other last bits.)
Recorder<float> recorded(const Decoder<float>& m, const std::vector<Token>& ids) {
  Recorder<float> all({"blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v", "blocks.1.attn.rot_k", "blocks.1.attn.attn_scores",
                       "blocks.1.attn.pattern", "blocks.1.attn.z", "blocks.1.attn_out"});
  decoder_read<float>(m, ids, {.trace = &all});
  return all;
}

void check_widths(const AttentionSteps& s) {
  for (const Index width : {60, 80}) {
    for (const plot::Colour colour : {plot::Colour::none, plot::Colour::ansi256, plot::Colour::rgb}) {
      std::istringstream text(story_text(attention_story(s), colour, width));
      for (std::string line; std::getline(text, line);) {
        CHECK_MESSAGE(plot::display_width(line) <= width, line);
        CHECK((colour != plot::Colour::none || line.find('\x1b') == std::string::npos));
      }
    }
  }
}

void check_story(const AttentionSteps& s) {
  const Index T = static_cast<Index>(s.tokens.size());
  CHECK(s.pattern.rows() == T);
  CHECK(s.deviation < (s.is_example ? 1e-14 : 2e-6));
  for (Index t = 0; t < T; ++t) {
    CHECK(s.pattern.row(t).sum() == Approx(1).epsilon(1e-6));
    for (Index u = 0; u < T; ++u) {
      const bool seen = u <= t && (s.window == 0 || u > t - s.window);
      CHECK(std::isinf(s.scores(t, u)) == !seen);
      if (!seen) CHECK(s.pattern(t, u) == 0);
    }
  }
}

}  // namespace

TEST_CASE("the example, redone by hand") {
  const AttentionSteps s = explain_attention_example();
  CHECK(s.tokens == std::vector<std::string>{"the", "cat", "sat", "down"});
  CHECK(s.query.place == 2);
  // x of "sat" is (0, 0.5, 1, 0.5). Head 0: q = (x₁ + 2x₂, x₀ + x₃), k = (2x₁, x₀ + x₃), v = (x₁, x₀ + x₂).
  CHECK(s.q.row(2) == Vector<double>{{0.5 + 2 * 1.0, 0.0 + 0.5}});
  CHECK(s.k == Matrix<double>{{0, 1.5}, {2, 0}, {1, 0.5}, {0, 1.5}});
  CHECK(s.v == Matrix<double>{{0, 1}, {1, 0.5}, {0.5, 1}, {0, 1}});
  const double the = (2.5 * 0 + 0.5 * 1.5) / std::sqrt(2.0), cat = (2.5 * 2 + 0.5 * 0) / std::sqrt(2.0),
               sat = (2.5 * 1 + 0.5 * 0.5) / std::sqrt(2.0);
  CHECK(s.query.terms == Matrix<double>{{0, 0.75}, {5, 0}, {2.5, 0.25}, {0, 0.75}});
  CHECK(s.products.row(2) == Vector<double>{{0.75, 5, 2.75, 0.75}});
  CHECK(s.scaled(2, 3) == Approx(0.75 / std::sqrt(2.0)).epsilon(1e-14));  // "down" has a score before it is hidden
  CHECK(s.scores(2, 0) == Approx(the).epsilon(1e-14));
  CHECK(s.scores(2, 1) == Approx(cat).epsilon(1e-14));
  CHECK(s.scores(2, 2) == Approx(sat).epsilon(1e-14));
  CHECK(std::isinf(s.scores(2, 3)));
  const double sum = std::exp(the - cat) + 1 + std::exp(sat - cat);
  const double p_the = std::exp(the - cat) / sum, p_cat = 1 / sum, p_sat = std::exp(sat - cat) / sum;
  CHECK(s.query.maximum == Approx(cat).epsilon(1e-14));
  CHECK(s.query.sum == Approx(sum).epsilon(1e-14));
  CHECK(s.pattern(2, 0) == Approx(p_the).epsilon(1e-14));
  CHECK(s.pattern(2, 1) == Approx(p_cat).epsilon(1e-14));
  CHECK(s.pattern(2, 2) == Approx(p_sat).epsilon(1e-14));
  CHECK(s.pattern(2, 3) == 0);
  const double z0 = p_the * 0 + p_cat * 1 + p_sat * 0.5, z1 = p_the * 1 + p_cat * 0.5 + p_sat * 1;
  CHECK(s.z(2, 0) == Approx(z0).epsilon(1e-14));
  CHECK(s.z(2, 1) == Approx(z1).epsilon(1e-14));
  // Wo's columns for head 0 are (1, 0, 0.5, 0) and (0, 1, 0, 0.5).
  CHECK(test::relative_error(s.share.row(2), Vector<double>{{z0, z1, 0.5 * z0, 0.5 * z1}}) < 1e-14);
  // The heads' shares are the whole output: the example has no bias.
  const AttentionSteps other = explain_attention_example({.head = 1});
  CHECK(test::relative_error(s.share + other.share, s.output) < 1e-14);
  CHECK(test::relative_error(s.output, other.output) == 0);
  CHECK(test::relative_error(s.share, other.share) > 0.1);
}

TEST_CASE("the example follows any query of either head") {
  for (const Index head : {0, 1}) {
    for (const Index query : {-1, 0, 1, 2, 3}) {
      const AttentionSteps s = explain_attention_example({.head = head, .query = query});
      check_story(s);
      check_widths(s);
    }
  }
  const std::string text = story_text(attention_story(explain_attention_example()));
  CHECK(text.find("2.50·2.00 + 0.50·0.00 = 5.000") != std::string::npos);
  CHECK(text.find("5.000 / 1.414 =   3.536") != std::string::npos);
  CHECK(text.find("0.530   3.536   1.945      −∞") != std::string::npos);
  CHECK(text.find("inf") == std::string::npos);
}

TEST_CASE("the story of a decoder is what a trace sees of it, for every position, grouping and placement") {
  for (const Position position : {Position::none, Position::sinusoidal, Position::learned, Position::rope, Position::alibi}) {
    for (const Index kv_heads : {4, 2, 1}) {
      for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
        const Decoder<float> m = random_model(position, kv_heads, kv_heads == 2 ? 3 : 0, placement);
        const std::vector<Token> ids = random_ids(11);
        const Recorder<float> all = recorded(m, ids);
        const auto seen = [&](const char* site) { return Matrix<float>(all.at(std::string("blocks.1.") + site)); };
        Matrix<double> shares = Matrix<double>::Zero(11, m.config.width);
        for (const Index head : {0, 1, 2, 3}) {
          const AttentionSteps s = explain_attention<float>(m, ids, bytes_of(ids), {.layer = 1, .head = head});
          check_story(s);
          const Index kv = head / (4 / kv_heads);
          const auto equal = [](const Matrix<double>& a, const Matrix<float>& b) {
            return a.rows() == b.rows() && a.cols() == b.cols() && a == b.cast<double>();
          };
          CHECK(equal(s.q, seen("attn.q").middleCols(4 * head, 4)));
          CHECK(equal(s.k, seen("attn.k").middleCols(4 * kv, 4)));
          CHECK(equal(s.v, seen("attn.v").middleCols(4 * kv, 4)));
          CHECK(s.rotated == (position == Position::rope));
          if (s.rotated) CHECK(equal(s.rot_k, seen("attn.rot_k").middleCols(4 * kv, 4)));
          CHECK(equal(s.scores, all.at("blocks.1.attn.attn_scores", 0, head)));
          CHECK(equal(s.pattern, all.at("blocks.1.attn.pattern", 0, head)));
          CHECK(equal(s.z, seen("attn.z").middleCols(4 * head, 4)));
          CHECK(equal(s.output, seen("attn_out")));
          // The steps inside: where nothing is hidden, the last of them is the score itself.
          const Matrix<double>& last = s.biased.size() != 0 ? s.biased : s.scaled;
          CHECK((s.biased.size() != 0) == (position == Position::alibi));
          for (Index i = 0; i < last.size(); ++i) CHECK((std::isinf(s.scores.data()[i]) || s.scores.data()[i] == last.data()[i]));
          // q, k and v are the weights shown, applied to the x shown.
          CHECK(test::relative_error(s.q, (s.x * s.wq.transpose()).rowwise() + s.bq) < 1e-6);
          CHECK(test::relative_error(s.k, (s.x * s.wk.transpose()).rowwise() + s.bk) < 1e-6);
          CHECK(test::relative_error(s.v, (s.x * s.wv.transpose()).rowwise() + s.bv) < 1e-6);
          CHECK(test::relative_error(s.share, s.z * s.wo.transpose()) < 1e-6);
          shares += s.share;
        }
        const Matrix<double> bias = (*m.blocks[1].attention.out.bias).cast<double>();
        CHECK(test::relative_error(shares.rowwise() + Vector<double>(bias), seen("attn_out")) < 1e-6);
      }
    }
  }
}

TEST_CASE("no line is wider than the terminal, whatever the shape; masked scores are shown as −∞") {
  for (const Index tokens : {1, 2, 8, 9, 16, 40, 150}) {
    for (const Index head_dim : {2, 6, 40}) {
      for (const Position position : {Position::rope, Position::alibi}) {
        const Decoder<float> m = random_model(position, 2, tokens == 40 ? 5 : 0, NormPlacement::pre, head_dim, tokens != 16);
        const std::vector<Token> ids = random_ids(tokens);
        const AttentionSteps s = explain_attention<float>(m, ids, bytes_of(ids), {.layer = 0, .head = 3, .query = tokens / 2});
        check_widths(s);
        if (tokens > 1) CHECK(story_text(attention_story(s)).find("−∞") != std::string::npos);
      }
    }
  }
}

TEST_CASE("the JSON is one line that holds every number; masked scores are null") {
  const Decoder<float> m = random_model(Position::rope, 2);
  const std::vector<Token> ids = random_ids(6);
  for (const AttentionSteps& s : {explain_attention_example(), explain_attention<float>(m, ids, {"a", "\xff", "\n", "\"", "日", ""}, {})}) {
    const std::string text = story_json(attention_story(s));
    CHECK(text.find('\n') == std::string::npos);
    const auto j = nlohmann::json::parse(text);
    const Index T = static_cast<Index>(s.tokens.size());
    CHECK(j["tokens"].size() == s.tokens.size());
    for (const auto& [key, matrix] : {std::pair{"x", s.x},
                                      {"q", s.q},
                                      {"k", s.k},
                                      {"v", s.v},
                                      {"products", s.products},
                                      {"pattern", s.pattern},
                                      {"z", s.z},
                                      {"head_output", s.share},
                                      {"output", s.output},
                                      {"wq", s.wq},
                                      {"wo", s.wo}}) {
      const auto rows = j[key].get<std::vector<std::vector<double>>>();
      CHECK(static_cast<Index>(rows.size()) == matrix.rows());
      for (Index i = 0; i < matrix.size(); ++i)
        CHECK(rows[static_cast<std::size_t>(i / matrix.cols())][static_cast<std::size_t>(i % matrix.cols())] == matrix.data()[i]);
    }
    CHECK(j.contains("rot_q") == s.rotated);
    for (Index t = 0; t < T; ++t) {
      for (Index u = 0; u < T; ++u) CHECK(j["scores"][static_cast<std::size_t>(t)][static_cast<std::size_t>(u)].is_null() == (u > t));
    }
  }
}

TEST_CASE("what does not exist is answered with what does") {
  CHECK_THROWS_WITH_AS(explain_attention_example({.head = 2}), "head: expected 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_attention_example({.layer = 1}), "layer: expected 0, found 1: the example has only one",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_attention_example({.query = 4}), "query: expected a token's place, 0 … 3, found 4", std::invalid_argument);
  const Decoder<float> m = random_model(Position::learned, 4);
  const auto tell = [&m](std::string_view prompt, AttentionQuestion q = {}) { return explain_attention(m, byte_tokenizer(), prompt, q); };
  CHECK_THROWS_WITH_AS(tell("hi", {.layer = 2}), "layer: expected 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell("hi", {.head = -1}), "head: expected 0 … 3, found -1", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell("hi", {.query = 2}), "query: expected a token's place, 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell(""), "prompt: expected some text, found none", std::invalid_argument);
  CHECK_THROWS_WITH_AS(tell(std::string(201, 'x')), "prompt: expected at most 200 tokens (the model's context), found 201",
                       std::invalid_argument);
  CHECK_NOTHROW(tell(std::string(200, 'x')));
}

TEST_CASE("stories260K: the heads of a model that others trained") {
  const std::filesystem::path path = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data" / "stories260K";
  if (!std::filesystem::exists(path)) {
    MESSAGE("skipped: there is no " << path.string());
    return;
  }
  const Expected<ModelFiles> model = load_model(path);
  if (!model) FAIL(model.error());
  const std::string prompt = "Once upon a time, there was a little girl named Lily.";
  GenerateOptions o;
  o.max_tokens = 1;
  const Generation g = generate(model->decoder, model->tokenizer, prompt, o);
  for (const Index layer : {0, 4}) {
    for (const Index head : {0, 7}) {
      const AttentionSteps s = explain_attention(model->decoder, model->tokenizer, prompt, {.layer = layer, .head = head});
      CHECK(s.ids == g.prompt_ids);  // as generation reads it
      CHECK(s.kv_head == head / 2);
      check_story(s);
      check_widths(s);
    }
  }
}
