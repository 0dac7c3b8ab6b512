#include "glassformer/sample/generate.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "sample/models.hpp"

using namespace glassformer;

namespace {

GenerateOptions greedy(Index max_tokens) {
  GenerateOptions o;
  o.sampling.temperature = 0;
  o.max_tokens = max_tokens;
  return o;
}

std::string message(const Decoder<float>& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerateOptions& o) {
  try {
    generate(model, tokenizer, prompt, o);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

// What a sliding cache of T places with `sinks` holds of the ids.
std::vector<Token> window_of(std::span<const Token> ids, Index context, Index sinks) {
  std::vector<Token> window(ids.begin(), ids.begin() + sinks);
  window.insert(window.end(), ids.end() - (context - sinks), ids.end());
  return window;
}

}  // namespace

TEST_CASE("greedy text is the argmax of each step's full pass") {
  const Decoder<float> model = random_model(tiny(Position::rope));
  const Generation g = generate(model, byte_tokenizer(), "abc", greedy(40));
  CHECK(g.stopped_by == "length");
  CHECK(g.notes.empty());
  CHECK(g.prompt_ids == std::vector<Token>{'a', 'b', 'c'});
  REQUIRE(g.ids.size() == 40);
  CHECK(g.text == byte_tokenizer().decode(g.ids));
  CHECK(g.decode_steps == 39);
  CHECK(g.tokens_per_s() > 0);
  std::vector<Token> ids = g.prompt_ids;
  for (const Token t : g.ids) {
    const Matrix<float> logits = full_logits(model, ids).bottomRows(1);
    Index best = 0;
    logits.row(0).maxCoeff(&best);
    if (best_two_gap(logits) > 1e-4f) CHECK(t == best);
    ids.push_back(t);
  }
}

TEST_CASE("a seed gives one text; another seed another") {
  const Decoder<float> model = random_model(tiny(Position::alibi));
  GenerateOptions o = greedy(30);
  o.sampling.temperature = 1;
  const Generation first = generate(model, byte_tokenizer(), "abc", o);
  CHECK(generate(model, byte_tokenizer(), "abc", o).ids == first.ids);
  o.seed = 2;
  CHECK(generate(model, byte_tokenizer(), "abc", o).ids != first.ids);
}

TEST_CASE("the repetition penalty sees the prompt and all that was drawn") {
  const Decoder<float> model = random_model(tiny(Position::rope, 2, 256));
  GenerateOptions o = greedy(50);
  o.sampling.repetition_penalty = 1e6;
  std::string prompt;
  for (char c = 0; c < 100; ++c) prompt += c;
  const Generation g = generate(model, byte_tokenizer(), prompt, o);
  std::vector<Token> all = g.prompt_ids;
  all.insert(all.end(), g.ids.begin(), g.ids.end());
  std::sort(all.begin(), all.end());
  CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
}

TEST_CASE("a stop string over several tokens ends the text before it, and the stream never shows it") {
  const Decoder<float> model = random_model(tiny(Position::rope));
  GenerateOptions o = greedy(50);
  o.sampling.temperature = 1;
  const std::string whole = generate(model, byte_tokenizer(), "abc", o).text;
  const std::string stop = whole.substr(20, 3);
  std::string shown;
  o.stop = {stop};
  o.on_text = [&](std::string_view piece) {
    CHECK(valid_utf8(piece) == piece);
    shown += piece;
  };
  const Generation g = generate(model, byte_tokenizer(), "abc", o);
  CHECK(g.stopped_by == "stop");
  CHECK(g.text == whole.substr(0, whole.find(stop)));
  CHECK(g.ids.size() == g.text.size() + 3);
  CHECK(shown == valid_utf8(g.text));
}

TEST_CASE("the end token and the start token end the text, and are not in it") {
  Decoder<float> model = random_model(tiny(Position::rope));
  GenerateOptions o = greedy(40);
  o.sampling.temperature = 1;
  const Generation whole = generate(model, byte_tokenizer(), "abc", o);
  const Token end = whole.ids[12];
  const auto first = static_cast<std::size_t>(std::find(whole.ids.begin(), whole.ids.end(), end) - whole.ids.begin());
  for (Token* which : {&model.config.eos, &model.config.bos}) {
    *which = end;
    const Generation g = generate(model, byte_tokenizer(), "abc", o);
    *which = -1;
    CHECK(g.stopped_by == "eos");
    CHECK(g.ids == std::vector<Token>(whole.ids.begin(), whole.ids.begin() + static_cast<std::ptrdiff_t>(first)));
    CHECK(g.text == whole.text.substr(0, first));
  }
}

TEST_CASE("what a text starts from") {
  Decoder<float> model = random_model(tiny(Position::rope));
  const Generation newline = generate(model, byte_tokenizer(), "", greedy(5));
  CHECK(newline.prompt_ids == std::vector<Token>{'\n'});
  CHECK(newline.notes.size() == 1);
  model.config.bos = 7;
  CHECK(generate(model, byte_tokenizer(), "", greedy(5)).prompt_ids == std::vector<Token>{7});
  CHECK(generate(model, byte_tokenizer(), "a", greedy(5)).prompt_ids == std::vector<Token>{'a'});
  model.config.prepend_bos = true;
  CHECK(generate(model, byte_tokenizer(), "a", greedy(5)).prompt_ids == std::vector<Token>{7, 'a'});
  CHECK(generate(model, byte_tokenizer(), "", greedy(5)).prompt_ids == std::vector<Token>{7});
  ModelConfig c = tiny(Position::rope);
  c.vocab = 3;
  CHECK(message(random_model(c), character_tokenizer("abc"), "", greedy(5)).find("prompt: expected some text") == 0);
}

TEST_CASE("RoPE, ALiBi and none slide past the context: the logits are those of the sinks and the newest tokens") {
  // In a model of one layer a cached key does not depend on what was forgotten, so a pass over what the cache holds gives the same.
  const Index T = 24, sinks = 3;
  for (const Position position : {Position::rope, Position::alibi, Position::none}) {
    for (const std::size_t prompt : {std::size_t(5), std::size_t(24), std::size_t(25), std::size_t(70)}) {
      CAPTURE(choice_name(position));
      CAPTURE(prompt);
      const Decoder<float> model = random_model(tiny(position, 2, T, 1), 4);
      GenerateOptions o = greedy(60);
      o.sampling.temperature = 1;
      o.sinks = sinks;
      SiteLog log;
      o.trace = &log;
      const Generation g =
          generate(model, byte_tokenizer(),
                   std::string("The quick brown fox jumps over the lazy dog, and then once more it runs").substr(0, prompt), o);
      REQUIRE(g.ids.size() == 60);
      REQUIRE(g.notes.size() == 1);
      CHECK(g.notes[0].find("the cache slides, keeping the first 3") != std::string::npos);
      std::vector<Token> ids = g.prompt_ids;
      for (std::size_t i = 0; i < g.ids.size(); ++i) {
        const std::vector<Token> seen = static_cast<Index>(ids.size()) <= T ? ids : window_of(ids, T, sinks);
        CHECK((full_logits(model, seen).bottomRows(1) - log.all[i]).cwiseAbs().maxCoeff() <= 1e-5f);
        ids.push_back(g.ids[i]);
      }
    }
  }
}

TEST_CASE("a prompt longer than the context is read in a first piece that fills it, then in eighths of the window") {
  const Decoder<float> model = random_model(tiny(Position::rope, 2, 20));
  GenerateOptions o = greedy(3);
  SiteLog log("embed");
  o.trace = &log;
  generate(model, byte_tokenizer(), std::string(25, 'x'), o);
  std::vector<Index> rows;
  for (const Matrix<float>& m : log.all) rows.push_back(m.rows());
  CHECK(rows == std::vector<Index>{20, 2, 2, 1, 1, 1});  // (20 − 4)/8 = 2
}

TEST_CASE("learned positions read the last half again, and say so") {
  const Index T = 16;
  const Decoder<float> model = random_model(tiny(Position::learned, 2, T), 4);
  GenerateOptions o = greedy(40);
  SiteLog log;
  o.trace = &log;
  const Generation g = generate(model, byte_tokenizer(), "0123456789", o);
  REQUIRE(g.ids.size() == 40);
  REQUIRE(g.notes.size() == 1);
  CHECK(g.notes[0].find("learned positions cannot move, so the last 8 tokens are read afresh") != std::string::npos);
  std::vector<Token> ids = g.prompt_ids;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < g.ids.size(); ++i) {
    if (ids.size() - begin > 16) begin = ids.size() - 8;
    CHECK((full_logits(model, std::span(ids).subspan(begin)).bottomRows(1) - log.all[i]).cwiseAbs().maxCoeff() <= 1e-5f);
    ids.push_back(g.ids[i]);
  }
  CHECK(begin > 16);
  CHECK(generate(model, byte_tokenizer(), std::string(50, 'x'), greedy(3)).ids ==
        generate(model, byte_tokenizer(), std::string(8, 'x'), greedy(3)).ids);
}

TEST_CASE("when asked to stop, the text ends where the context is full") {
  for (const Position position : all_positions()) {
    for (const bool use_cache : {true, false}) {
      const Decoder<float> model = random_model(tiny(position, 2, 16));
      GenerateOptions o = greedy(40);
      o.past_context = PastContext::stop;
      o.use_cache = use_cache;
      const Generation g = generate(model, byte_tokenizer(), "0123456789", o);
      CHECK(g.stopped_by == "context");
      CHECK(g.ids.size() == 7);  // after 16 tokens one more can be drawn, but not read
      const Generation full = generate(model, byte_tokenizer(), std::string(17, 'x'), o);
      CHECK(full.stopped_by == "context");
      CHECK(full.ids.empty());
      CHECK(full.notes.size() == 1);
    }
  }
}

TEST_CASE("small contexts, no tokens, no prompts") {
  for (const Position position : all_positions()) {
    for (const Index context : {1, 2, 3}) {
      for (const bool use_cache : {true, false}) {
        GenerateOptions o = greedy(9);
        o.use_cache = use_cache;
        CHECK(generate(random_model(tiny(position, 2, context)), byte_tokenizer(), "abcde", o).ids.size() == 9);
      }
    }
  }
  const Decoder<float> model = random_model(tiny(Position::rope));
  CHECK(generate(model, byte_tokenizer(), "a", greedy(0)).stopped_by == "length");
  CHECK(generate(model, byte_tokenizer(), "a", greedy(0)).ids.empty());
  CHECK(generate_batch(model, byte_tokenizer(), {}, greedy(5)).empty());
}

TEST_CASE("a batch tells its listener which text a piece belongs to") {
  const Decoder<float> model = random_model(tiny(Position::rope));
  std::vector<std::string> shown(3);
  const auto all = generate_batch(model, byte_tokenizer(), {"a", "bc", "def"}, greedy(20),
                                  [&](Index s, std::string_view piece) { shown[static_cast<std::size_t>(s)] += piece; });
  for (std::size_t s = 0; s < 3; ++s) CHECK(shown[s] == valid_utf8(all[s].text));
}

TEST_CASE("tokens that the tokenizer does not have are never drawn") {
  ModelConfig c = tiny(Position::rope);
  c.vocab = 1000;
  GenerateOptions o = greedy(60);
  o.sampling.temperature = 1;
  const Generation g = generate(random_model(c), byte_tokenizer(), "a", o);
  CHECK(g.ids.size() == 60);
  CHECK(*std::max_element(g.ids.begin(), g.ids.end()) < 256);
}

TEST_CASE("what cannot be generated is said in one sentence") {
  Decoder<float> model = random_model(tiny(Position::rope));
  GenerateOptions o = greedy(5);
  o.max_tokens = -1;
  CHECK(message(model, byte_tokenizer(), "a", o).find("max-tokens") == 0);
  o = greedy(5), o.sinks = -1;
  CHECK(message(model, byte_tokenizer(), "a", o).find("sinks") == 0);
  o = greedy(5), o.stop = {""};
  CHECK(message(model, byte_tokenizer(), "a", o).find("stop") == 0);
  o = greedy(5), o.sampling.top_p = 2;
  CHECK(message(model, byte_tokenizer(), "a", o).find("top-p") == 0);
  o = greedy(5), o.on_text = [](std::string_view) {};
  CHECK_THROWS_AS(generate_batch(model, byte_tokenizer(), {"a"}, o), std::invalid_argument);
  ModelConfig c = tiny(Position::rope);
  c.vocab = 100;
  CHECK(message(random_model(c), byte_tokenizer(), "a", greedy(5)).find("the tokenizer has 256 tokens and the model 100") !=
        std::string::npos);
  c.vocab = 256, c.causal = false;
  CHECK(message(random_model(c), byte_tokenizer(), "a", greedy(5)).find("causal") != std::string::npos);
  for (float& w : model.arena.values()) w = std::numeric_limits<float>::quiet_NaN();
  CHECK(message(model, byte_tokenizer(), "a", greedy(5)).find("NaN or infinity") != std::string::npos);
}
