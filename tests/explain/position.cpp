// The story of positions: its numbers against arithmetic by hand, and its shifts against a decoder whose table was moved.
#include "glassformer/explain/position.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <complex>
#include <nlohmann/json.hpp>
#include <sstream>

#include "glassformer/model/reading.hpp"
#include "glassformer/model/stretch.hpp"
#include "glassformer/plot/text.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

constexpr Position kAll[] = {Position::none, Position::sinusoidal, Position::learned, Position::rope, Position::alibi};

Decoder<float> random_model(Position position, Index head_dim = 4, Index context = 40) {
  ModelConfig c;
  c.vocab = 256, c.context = context, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 4 * head_dim, c.position = position;
  c.embedding_std = 1, c.init_std = 1 / std::sqrt(static_cast<double>(c.width));
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  return m;
}

void check_widths(const PositionSteps& s) {
  for (const Index width : {60, 71, 80}) {
    for (const plot::Colour colour : {plot::Colour::none, plot::Colour::ansi256}) {
      std::istringstream text(story_text(position_story(s), colour, width));
      for (std::string line; std::getline(text, line);) {
        CHECK_MESSAGE(plot::display_width(line) <= width, line);
        CHECK((colour != plot::Colour::none || line.find('\x1b') == std::string::npos));
      }
    }
  }
}

double largest_change(const PositionSteps& s) {
  double most = 0;
  for (const ShiftedScore& moved : s.shifts) most = std::max(most, moved.largest_change);
  return most;
}

// "sat" and "cat", channels of head 0.
const double kSat[4] = {0.5, 0.5, 1.0, 0.0}, kCat[4] = {0.0, 1.0, 0.5, 0.0};

}  // namespace

TEST_CASE("RoPE's example, redone by hand") {
  const PositionSteps s = explain_position_example(Position::rope);
  CHECK(s.query == 2);
  CHECK(s.key == 1);
  CHECK(s.frequencies(0) == 1);
  CHECK(s.frequencies(1) == Approx(0.01).epsilon(1e-14));
  // Pairs (0, 2) and (1, 3), each as a complex number turned by place·θ.
  const auto turned = [](const double* x, double place) {
    return std::pair{std::complex<double>(x[0], x[2]) * std::polar(1.0, place * 1.0), std::complex<double>(x[1], x[3]) * std::polar(1.0, place * 0.01)};
  };
  const auto [q0, q1] = turned(kSat, 2);
  CHECK(s.attention.rot_q(2, 0) == Approx(q0.real()).epsilon(1e-13));
  CHECK(s.attention.rot_q(2, 2) == Approx(q0.imag()).epsilon(1e-13));
  CHECK(s.attention.rot_q(2, 1) == Approx(q1.real()).epsilon(1e-13));
  CHECK(s.attention.rot_q(2, 3) == Approx(q1.imag()).epsilon(1e-13));
  for (const ShiftedScore& moved : s.shifts) {
    const auto shift = static_cast<double>(moved.shift);
    const auto [a0, a1] = turned(kSat, 2 + shift);
    const auto [b0, b1] = turned(kCat, 1 + shift);
    CHECK(moved.score == Approx((a0 * std::conj(b0) + a1 * std::conj(b1)).real() / 2).epsilon(1e-13));
    CHECK(moved.largest_change < 1e-14);
  }
  CHECK(s.deviation < 1e-15);
  const std::string text = story_text(position_story(s));
  for (const char* line : {"q of place 2: φ = 2·1 = 2.000 radians = 114.6°", "a·cos φ − b·sin φ = 0.500·-0.416 − 1.000·0.909 = -1.117",
                           "a·sin φ + b·cos φ = 0.500·0.909 + 1.000·-0.416 = 0.039", "length √(a² + b²): 1.118 before, 1.118 after",
                           "1       0.01                628.32     0.0255", "8  10, 9   0.490"})
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
}

TEST_CASE("RoPE's example stretched by YaRN, redone by hand") {
  // L 16, s 4, θ = 1 and 0.01: 2.546 turns and 0.025, so γ = 1.546/31 = 0.0499 and 0.
  const PositionSteps s = explain_position_example(Position::rope, {.stretch = {RopeScaling::yarn, 4, 16}});
  const double gamma = (16 / (2 * std::acos(-1.0)) - 1) / 31, first = (1 - gamma) / 4 + gamma, m = 0.1 * std::log(4.0) + 1;
  CHECK(s.frequencies(0) == Approx(first).epsilon(1e-14));
  CHECK(s.frequencies(1) == Approx(0.0025).epsilon(1e-14));
  CHECK(s.unscaled(0) == 1);
  CHECK(s.length == Approx(m));
  const auto q = std::complex<double>(kSat[0], kSat[2]) * std::polar(m, 2 * first);
  CHECK(s.attention.rot_q(2, 0) == Approx(q.real()).epsilon(1e-13));
  CHECK(s.attention.rot_q(2, 2) == Approx(q.imag()).epsilon(1e-13));
  CHECK(s.deviation < 1e-14);
  for (const ShiftedScore& moved : s.shifts) CHECK(moved.largest_change < 1e-14);
  const std::string text = story_text(position_story(s));
  for (const char* line : {"RoPE stretched: yarn", "This turn makes them m = 1.1386 times longer.", "1.118 before, 1.273 after",
                           "the turns, as the paper has it."})
    CHECK_MESSAGE(text.find(line) != std::string::npos, text);
  for (const auto& scaling : choices<RopeScaling>()) {
    const PositionSteps each =
        explain_position_example(Position::rope, {.stretch = {scaling.value, scaling.value == RopeScaling::none ? 1.0 : 3.0, 16}});
    CHECK(each.deviation < 1e-14);
    CHECK((each.unscaled.size() == 0) == (scaling.value == RopeScaling::none));
    check_widths(each);
    const auto j = nlohmann::json::parse(story_json(position_story(each)));
    CHECK(j.contains("unscaled_frequencies") == (scaling.value != RopeScaling::none));
    if (scaling.value != RopeScaling::none) {
      CHECK(j["rope_scaling"] == scaling.name);
      CHECK(j["length"].get<double>() == each.length);
      CHECK(j["unscaled_frequencies"][1].get<double>() == Approx(0.01));
    }
  }
  CHECK_THROWS_WITH_AS(explain_position_example(Position::alibi, {.stretch = {RopeScaling::linear, 2}}),
                       "rope-scaling: expected the example with rope, found alibi", std::invalid_argument);
}

TEST_CASE("a stretched model's story") {
  for (const RopeScaling scaling : {RopeScaling::linear, RopeScaling::ntk, RopeScaling::yarn, RopeScaling::yarn_pairs}) {
    const PositionSteps s =
        explain_position(stretched(random_model(Position::rope, 40, 90), 360, {scaling, 4}), byte_tokenizer(), "a cat sat", {.layer = 1});
    CHECK(s.deviation < 1e-5);
    CHECK(s.context == 360);
    CHECK(s.stretch.factor == 4);
    CHECK(largest_change(s) < 1e-5);
    check_widths(s);
  }
}

TEST_CASE("the sinusoidal example, redone by hand: p·p knows the distance alone, the mixed terms do not") {
  const PositionSteps s = explain_position_example(Position::sinusoidal);
  const auto wave = [](Index p, Index c) {
    const double angle = static_cast<double>(p) / std::pow(10.0, c / 2);  // 10000^(−2i/8) = 10^−i
    return c % 2 == 0 ? std::sin(angle) : std::cos(angle);
  };
  for (Index p = 0; p < 16; ++p) {
    for (Index c = 0; c < 8; ++c) CHECK(s.encoding(p, c) == Approx(wave(p, c)).epsilon(1e-12));
    CHECK(s.similarity(p, 0) == Approx((std::cos(p) + std::cos(0.1 * static_cast<double>(p)) + std::cos(0.01 * static_cast<double>(p)) + std::cos(0.001 * static_cast<double>(p))) / 4));
  }
  const double content = (0.5 * 0 + 0.5 * 1 + 1 * 0.5 + 0) / 2, places = (std::cos(1.0) + std::cos(0.1)) / 2;
  for (const ShiftedScore& moved : s.shifts) {
    double score = 0;
    for (Index c = 0; c < 4; ++c) score += (kSat[c] + wave(2 + moved.shift, c)) * (kCat[c] + wave(1 + moved.shift, c)) / 2;
    CHECK(moved.score == Approx(score).epsilon(1e-12));
    CHECK(moved.content == Approx(content));
    CHECK(moved.place == Approx(places));
    CHECK(moved.mixed == Approx(score - content - places));
  }
  CHECK(largest_change(s) > 0.5);
  CHECK(story_text(position_story(s)).find("1  0.500  -0.198  0.768  1.069  -4.4e-01") != std::string::npos);
}

TEST_CASE("the other examples") {
  const PositionSteps alibi = explain_position_example(Position::alibi);
  CHECK(alibi.slopes == Vector<double>{{1 / 16.0, 1 / 256.0}});
  CHECK(alibi.penalty(3, 0) == Approx(-3 / 16.0));
  CHECK(std::isnan(alibi.penalty(0, 3)));
  CHECK(alibi.shifts[0].score == Approx(0.5 - 1 / 16.0));
  CHECK(largest_change(alibi) == 0);
  CHECK(largest_change(explain_position_example(Position::none)) == 0);
  CHECK(explain_position_example(Position::none).shifts[0].score == 0.5);
  CHECK(largest_change(explain_position_example(Position::learned)) > 0.5);
  for (const Position kind : kAll) {
    for (const Index head : {0, 1}) {
      for (const Index query : {-1, 0, 3}) {
        const PositionSteps s = explain_position_example(kind, {.head = head, .query = query});
        CHECK(s.deviation < 1e-14);
        CHECK(s.shifts.size() == 4);
        check_widths(s);
      }
    }
  }
}

TEST_CASE("a model's shift is that of a decoder whose position table was moved") {
  Decoder<float> m = random_model(Position::learned);
  const PositionSteps s = explain_position(m, byte_tokenizer(), "a cat sat", {.layer = 1, .head = 2});
  REQUIRE(s.shifts.size() == 3);  // 0, 1, 8: for 64 there is no row
  CHECK(s.encoding.row(5) == Vector<double>((*m.pos_embed).row(5).cast<double>()));
  for (const ShiftedScore& moved : s.shifts) {
    Decoder<float> later = random_model(Position::learned);
    for (Index t = 0; t < 9; ++t) (*later.pos_embed).row(t) = (*m.pos_embed).row(t + moved.shift);
    Recorder<float> seen({"blocks.1.attn.attn_scores"});
    decoder_read<float>(later, s.attention.ids, {.trace = &seen});
    const Matrix<float>& scores = seen.at("blocks.1.attn.attn_scores", 0, 2);
    CHECK(moved.score == scores(s.query, s.key));
    if (moved.shift > 0) CHECK(moved.score != s.shifts[0].score);
  }
}

TEST_CASE("in a model: RoPE, ALiBi and no positions know the distance alone, what is added does not") {
  for (const Position kind : kAll) {
    for (const Index layer : {0, 1}) {
      const PositionSteps s = explain_position(random_model(kind), byte_tokenizer(), "a cat sat", {.layer = layer, .head = 3});
      CHECK(s.shifts[0].score == s.attention.scores(s.query, s.key));
      CHECK(s.shifts[0].largest_change == 0);
      const bool added = kind == Position::sinusoidal || kind == Position::learned;
      if (added)
        CHECK(largest_change(s) > 0.05);
      else
        CHECK(largest_change(s) < 1e-5);
      CHECK(s.deviation < 1e-5);
      CHECK(s.frequencies.size() == (kind == Position::rope ? 2 : kind == Position::sinusoidal ? 8 : 0));
      check_widths(s);
    }
  }
  for (const Position kind : kAll) {  // wide heads, a long text, a text that fills the context
    for (const std::string& text : {std::string(1, 'x'), std::string(90, 'y')}) check_widths(explain_position(random_model(kind, 40, 90), byte_tokenizer(), text));
  }
  CHECK(explain_position(random_model(Position::learned), byte_tokenizer(), std::string(40, 'x')).shifts.size() == 1);
  const std::string none = story_text(position_story(explain_position(random_model(Position::none), byte_tokenizer(), "cat")));
  CHECK(none.find("This model has no position encoding.") != std::string::npos);
}

TEST_CASE("ALiBi's formula is that of the slopes, also for six heads") {
  ModelConfig c;
  c.vocab = 256, c.context = 40, c.layers = 1, c.heads = c.kv_heads = 6, c.width = 24, c.position = Position::alibi;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 3);
  const PositionSteps s = explain_position(m, byte_tokenizer(), "a cat");
  REQUIRE(s.slopes.size() == 6);
  for (int h = 1; h <= 4; ++h) CHECK(s.slopes(h - 1) == Approx(std::exp2(-8.0 * h / 4)));
  for (int j = 1; j <= 2; ++j) CHECK(s.slopes(4 + j - 1) == Approx(std::exp2(-8.0 * (2 * j - 1) / 8)));
  const std::string told = story_json(position_story(s));
  CHECK(told.find("m_h = 2^(−8h/P), h = 1 … P = 4") != std::string::npos);
  CHECK(told.find("m_(P+j) = 2^(−8(2j−1)/8), j = 1 … 2") != std::string::npos);
  CHECK(told.find("this layer's attention runs again") != std::string::npos);
  check_widths(s);
  CHECK(story_json(position_story(explain_position_example(Position::alibi))).find("m_h = 2^(−8h/H)") != std::string::npos);
}

TEST_CASE("the JSON holds every number") {
  for (const Position kind : kAll) {
    const PositionSteps s = explain_position_example(kind);
    const std::string text = story_json(position_story(s));
    CHECK(text.find('\n') == std::string::npos);
    const auto j = nlohmann::json::parse(text);
    const auto equal = [&j](const char* key, const auto& m) {
      if (m.size() == 0) return !j.contains(key);
      std::vector<double> values;
      for (const auto& row : j[key]) {
        if (row.is_array())
          for (const auto& x : row) values.push_back(x.is_null() ? 0 : x.template get<double>());
        else
          values.push_back(row.template get<double>());
      }
      bool same = static_cast<Index>(values.size()) == m.size();
      for (Index i = 0; same && i < m.size(); ++i) same = std::isfinite(m.data()[i]) ? values[static_cast<std::size_t>(i)] == m.data()[i] : true;
      return same;
    };
    CHECK(equal("encoding", s.encoding));
    CHECK(equal("similarity", s.similarity));
    CHECK(equal("frequencies", s.frequencies));
    CHECK(equal("cosine", s.cosine));
    CHECK(equal("sine", s.sine));
    CHECK(equal("slopes", s.slopes));
    CHECK(equal("penalty", s.penalty));
    CHECK(equal("q", s.attention.q));
    CHECK(equal("k", s.attention.k));
    CHECK(equal("rot_q", s.attention.rot_q));
    CHECK(equal("rot_k", s.attention.rot_k));
    REQUIRE(j["shifts"].size() == s.shifts.size());
    for (std::size_t i = 0; i < s.shifts.size(); ++i) {
      const ShiftedScore& m = s.shifts[i];
      CHECK(j["shifts"][i].get<std::vector<double>>() == std::vector<double>{static_cast<double>(m.shift), m.score, m.largest_change, m.content, m.mixed, m.place});
    }
  }
}

TEST_CASE("what does not exist is answered with what does") {
  CHECK_THROWS_WITH_AS(explain_position_example(Position::rope, {.layer = 1}), "layer: expected 0, found 1: the example has only one",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_position_example(Position::rope, {.head = 2}), "head: expected 0 … 1, found 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_position_example(Position::rope, {.query = 4}), "token: expected a place, 0 … 3, found 4", std::invalid_argument);
  const Decoder<float> m = random_model(Position::rope);
  CHECK_THROWS_WITH_AS(explain_position(m, byte_tokenizer(), ""), "prompt: expected some text, found none", std::invalid_argument);
  CHECK_THROWS_WITH_AS(explain_position(m, byte_tokenizer(), "x", {.layer = 2}), "layer: expected 0 … 1, found 2", std::invalid_argument);
}
