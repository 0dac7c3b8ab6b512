// Speculative decoding: the same text where nothing is left to chance, the same distribution where it is.
#include "sample/draft.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "glassformer/model/adapter.hpp"
#include "glassformer/model/quantize.hpp"
#include "sample/models.hpp"

using namespace glassformer;

namespace {

GenerateOptions options(double temperature, Index max_tokens) {
  GenerateOptions o;
  o.sampling.temperature = temperature;
  o.max_tokens = max_tokens;
  return o;
}

// The model with its weights moved a little: drafts are taken often, not always.
Decoder<float> shaken(const Decoder<float>& model, double by, std::uint64_t seed = 77) {
  Decoder<float> other = make_decoder<float>(model.config);
  for (std::size_t i = 0; i < other.arena.values().size(); ++i) {
    other.arena.values()[i] = model.arena.values()[i] * static_cast<float>(1 + by * random_normal({seed}, i));
  }
  return other;
}

std::string message(const Decoder<float>& model, const GenerateOptions& o, const Tokenizer& tokenizer = byte_tokenizer()) {
  try {
    generate(model, tokenizer, "a", o);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

const std::vector<std::string> kPrompts{"a", "some longer prompt to begin with", "xyz"};

}  // namespace

TEST_CASE("rows that one pass checks have the bits that they have one by one") {
  std::vector<Token> ids;
  for (std::uint64_t i = 0; i < 40; ++i) ids.push_back(static_cast<Token>(random_below({11}, i, 256)));
  for (const Position position : all_positions()) {
    for (const CacheKind kind : {CacheKind::floating, CacheKind::int8}) {
      for (const Index window : {0, 7}) {
        CAPTURE(choice_name(position));
        ModelConfig c = tiny(position, position == Position::alibi ? 1 : 2);
        c.window = window;
        if (position == Position::rope) c.width = 36, c.heads = 3, c.kv_heads = 1, c.mlp = Mlp::swiglu, c.norm = ops::Norm::rms;
        const Decoder<float> model = random_model(c, 3);
        const ReaderOptions o{.max_tokens = 40, .cache_kind = kind, .sinks = 4};
        Reader one(model, o), several(model, o);
        for (Reader* reader : {&one, &several}) {
          reader->add(5), reader->make_cache_for_all();
          Vector<float> logits;
          reader->read_alone(0, std::span(ids).first(5), logits);
        }
        Matrix<float> expected(35, 256);
        for (Index i = 0; i < 35; ++i) {
          const Reader::Text text{0, std::span(ids).first(static_cast<std::size_t>(6 + i))};
          expected.row(i) = one.read_together({&text, 1}, false);
        }
        for (Index begin = 0, n = 1; begin < 35; begin += n, n = std::min<Index>(n + 1, 35 - begin)) {
          // What is cut off again leaves nothing behind.
          std::vector<Token> wrong(ids.begin(), ids.begin() + 5 + begin);
          wrong.insert(wrong.end(), 3, Token{200});
          const Reader::Text drafted{0, wrong}, text{0, std::span(ids).first(static_cast<std::size_t>(5 + begin + n))};
          if (begin + n < 35) several.read_together({&drafted, 1}, false), several.cut(0, 5 + begin);
          const Matrix<float>& logits = several.read_together({&text, 1}, false);
          REQUIRE(logits.rows() == n);
          CHECK(std::memcmp(logits.data(), expected.row(begin).data(), sizeof(float) * static_cast<std::size_t>(n * 256)) == 0);
        }
      }
    }
  }
}

TEST_CASE("greedy text is the same with a draft and without, whoever drafts, past the context too") {
  for (const Position position : all_positions()) {
    for (const CacheKind kind : {CacheKind::floating, CacheKind::int8}) {
      if (kind == CacheKind::int8 && position != Position::rope && position != Position::learned) continue;
      const Decoder<float> model = random_model(tiny(position, 2, 48), 5);
      const Decoder<float> close = shaken(model, 0.02), far = random_model(tiny(Position::learned, 1, 12, 1), 8);
      GenerateOptions o = options(0, 70);
      o.cache_kind = kind;
      for (const PastContext past : {PastContext::slide, PastContext::stop}) {
        o.past_context = past, o.draft = nullptr;
        const std::vector<Generation> plain = generate_batch(model, byte_tokenizer(), kPrompts, o);
        for (const Decoder<float>* draft : {&model, &close, &far}) {
          for (const Index k : {1, 3, 20}) {
            CAPTURE(choice_name(position));
            CAPTURE(k);
            o.draft = draft, o.draft_tokens = k, o.exec.threads = draft == &close && k == 3 && position == Position::rope ? 2 : 1;
            const std::vector<Generation> drafted = generate_batch(model, byte_tokenizer(), kPrompts, o);
            for (std::size_t s = 0; s < kPrompts.size(); ++s) {
              CHECK(drafted[s].ids == plain[s].ids);
              CHECK(drafted[s].text == plain[s].text);
              CHECK(drafted[s].stopped_by == plain[s].stopped_by);
              CHECK(drafted[s].accepted <= drafted[s].drafted);
              CHECK(drafted[s].decode_steps + drafted[s].accepted + 1 == static_cast<Index>(drafted[s].ids.size()));
              if (draft == &model && past == PastContext::stop && kind == CacheKind::floating) CHECK(drafted[s].acceptance_rate() == 1);
              if (draft == &close) CHECK(drafted[s].accepted > 0);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a model that drafts for itself is believed; each pass then writes k + 1 tokens") {
  const Decoder<float> model = random_model(tiny(Position::rope, 2, 128), 5);
  for (const double temperature : {0.0, 1.0}) {
    GenerateOptions o = options(temperature, 61);
    o.draft = &model, o.draft_tokens = 5;
    SiteLog log;
    o.trace = &log;
    const Generation g = generate(model, byte_tokenizer(), "abc", o);
    CHECK(g.ids.size() == 61);
    CHECK(g.decode_steps == 10);
    CHECK(g.drafted == 50);
    CHECK(g.accepted == 50);
    REQUIRE(log.all.size() == 11);
    CHECK(log.all[1].rows() == 6);
    CHECK(g.notes.empty());
  }
}

TEST_CASE("stop strings, end tokens and streaming are as without a draft") {
  Decoder<float> model = random_model(tiny(Position::alibi), 5);
  const Decoder<float> draft = shaken(model, 0.02);
  GenerateOptions o = options(0, 50);
  o.sampling.repetition_penalty = 1.5;  // of what was drafted too; and without it such a model writes one word for ever
  const Generation whole = generate(model, byte_tokenizer(), "abc", o);
  const auto check = [&] {
    std::string shown;
    o.draft = nullptr;
    const Generation plain = generate(model, byte_tokenizer(), "abc", o);
    o.draft = &draft, o.draft_tokens = 7, o.on_text = [&](std::string_view piece) { shown += piece; };
    const Generation g = generate(model, byte_tokenizer(), "abc", o);
    o.on_text = {};
    CHECK(g.ids == plain.ids);
    CHECK(g.text == plain.text);
    CHECK(g.stopped_by == plain.stopped_by);
    CHECK(shown == valid_utf8(plain.text));
    CHECK(g.accepted > 0);
    return g.stopped_by;
  };
  CHECK(check() == "length");
  o.stop = {whole.text.substr(21, 3)};
  CHECK(check() == "stop");
  o.stop = {};
  model.config.eos = whole.ids[25];
  CHECK(check() == "eos");
}

TEST_CASE("adapters, mixes, soft prompts and quantized models: greedy text is the same") {
  Decoder<float> model = random_model(tiny(Position::rope, 2, 40), 6);
  Decoder<float> draft = shaken(model, 0.02);
  Adapter<float> lora = make_adapter<float>(model, {.rank = 3, .alpha = 6}, 1);
  for (std::size_t i = 0; i < lora.arena.values().size(); ++i) lora.arena.values()[i] += 0.1f * static_cast<float>(random_normal({4}, i));
  const Adapter<float> prompt = make_soft_prompt(model, 4, 2), own = make_soft_prompt(draft, 7, 3);
  attach(model, lora), attach(model, prompt), attach(draft, own);
  GenerateOptions o = options(0, 50);
  o.mix.resize(3, 2);
  o.mix << 1, 1, 0.5f, 0, 0, 1;
  const std::vector<Generation> plain = generate_batch(model, byte_tokenizer(), kPrompts, o);
  o.draft = &draft;
  const std::vector<Generation> drafted = generate_batch(model, byte_tokenizer(), kPrompts, o);
  for (std::size_t s = 0; s < 3; ++s) CHECK(drafted[s].ids == plain[s].ids);

  ModelConfig c = tiny(Position::learned, 2, 64);
  c.width = c.hidden = 64;
  const Decoder<float> full = random_model(c, 3);
  for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::nf4}) {
    const Decoder<float> small = quantize_decoder(full, QuantizeTypes::all(type));
    for (const auto& [larger, smaller] : {std::pair(&full, &small), std::pair(&small, &full)}) {
      o = options(0, 80);
      const std::vector<Token> ids = generate(*larger, byte_tokenizer(), "abc", o).ids;
      o.draft = smaller;
      const Generation g = generate(*larger, byte_tokenizer(), "abc", o);
      CHECK(g.ids == ids);
      CHECK(g.accepted > 0);
    }
  }
}

TEST_CASE("a batch with drafts: each text is as alone") {
  for (const Position position : {Position::rope, Position::learned}) {
    const Decoder<float> model = random_model(tiny(position, 2, 40), 9), draft = shaken(model, 0.1);
    GenerateOptions o = options(1, 60);
    o.draft = &draft;
    const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), kPrompts, o);
    for (std::size_t s = 0; s < kPrompts.size(); ++s) {
      o.first_sequence = s;
      const Generation alone = generate(model, byte_tokenizer(), kPrompts[s], o);
      CHECK(alone.ids == batch[s].ids);
      CHECK(alone.accepted == batch[s].accepted);
      CHECK(alone.notes == batch[s].notes);
      o.first_sequence = 0;
    }
  }
}

TEST_CASE("what is drawn instead of a draft") {
  const Distribution p{{1, 3, 5}, {0.5, 0.25, 0.25}}, q{{1, 2, 5}, {0.25, 0.5, 0.25}};
  CHECK(residual(p, q).ids == std::vector<Token>{1, 3});
  CHECK(residual(p, q).probability == std::vector<double>{0.5, 0.5});
  CHECK(residual(p, p).ids == p.ids);
  CHECK(probability_of(p, 3) == 0.25);
  CHECK(probability_of(p, 2) == 0);
  CHECK(probability_of(p, 9) == 0);
}

// The first three tokens, with their exact probabilities by the chain rule: p(a)·p(b|a)·p(c|a, b), each from a whole pass.
TEST_CASE("what is drawn with a draft has the larger model's distribution: chi-squared of 20,000 texts") {
  const Tokenizer tokenizer = character_tokenizer("abcd");
  ModelConfig c = tiny(Position::rope, 2, 16);
  c.vocab = 4;
  const Decoder<float> model = random_model(c, 5);
  c.layers = 1, c.width = 16, c.heads = 2, c.kv_heads = 1, c.position = Position::learned;
  const Decoder<float> draft = random_model(c, 6);
  struct Case {
    SamplingOptions sampling;
    Index k;
  };
  for (const Case& test :
       {Case{{.temperature = 1}, 1}, Case{{.temperature = 0.7}, 2}, Case{{.temperature = 1.3, .top_k = 3}, 3},
        Case{{.temperature = 1, .top_p = 0.8}, 2}, Case{{.temperature = 1, .min_p = 0.2, .repetition_penalty = 1.3}, 4}}) {
    std::map<std::vector<Token>, double> expected;
    const auto follow = [&](auto&& self, std::vector<Token> text, double mass) -> void {
      if (text.size() == 5) {
        expected[{text.end() - 3, text.end()}] += mass;
        return;
      }
      const Matrix<float> logits = full_logits(model, text).bottomRows(1);
      const Distribution d = sampling_distribution({logits.data(), 4}, text, test.sampling);
      for (std::size_t i = 0; i < d.ids.size(); ++i) {
        std::vector<Token> next = text;
        next.push_back(d.ids[i]);
        self(self, next, mass * d.probability[i]);
      }
    };
    follow(follow, tokenizer.encode("ab"), 1);
    const int texts = 20000;
    std::map<std::vector<Token>, int> found;
    Index drafted = 0, accepted = 0;
    GenerateOptions o = options(1, 6);  // so that three are drafted and more
    o.sampling = test.sampling, o.draft = &draft, o.draft_tokens = test.k;
    for (int i = 0; i < texts; ++i) {
      o.seed = static_cast<std::uint64_t>(i);
      const Generation g = generate(model, tokenizer, "ab", o);
      ++found[{g.ids.begin(), g.ids.begin() + 3}];
      drafted += g.drafted, accepted += g.accepted;
    }
    double chi = 0, rest_expected = 0, rest_found = texts;  // cells of fewer than 5 are one
    Index cells = 0;
    for (const auto& [ids, mass] : expected) {
      const double e = mass * texts, n = found.contains(ids) ? found[ids] : 0;
      if (e < 5) {
        rest_expected += e;
        continue;
      }
      rest_found -= n, ++cells;
      chi += (n - e) * (n - e) / e;
    }
    if (rest_expected > 1) chi += (rest_found - rest_expected) * (rest_found - rest_expected) / rest_expected, ++cells;
    // χ² of cells − 1 degrees of freedom is above this with probability 0.001 (Wilson and Hilferty 1931)
    const double df = static_cast<double>(cells - 1), critical = df * std::pow(1 - 2 / (9 * df) + 3.0902 * std::sqrt(2 / (9 * df)), 3);
    CAPTURE(test.k);
    MESSAGE("chi-squared " << chi << " of " << df << " degrees of freedom, critical " << critical << "; accepted " << accepted << " of "
                           << drafted);
    CHECK(chi < critical);
    CHECK(accepted < 0.9 * static_cast<double>(drafted));
    CHECK(accepted > 0.1 * static_cast<double>(drafted));
  }
}

TEST_CASE("drafts that cannot be are said in one sentence; where drafting must end, a note says so") {
  const Decoder<float> model = random_model(tiny(Position::rope, 2, 24));
  GenerateOptions o = options(0, 5);
  o.draft = &model, o.draft_tokens = 0;
  CHECK(message(model, o) == "draft-tokens: expected 1 or more, found 0");
  o.draft_tokens = 2, o.use_cache = false;
  CHECK(message(model, o) == "draft: expected the KV cache, from which a token that was not taken is cut off again");
  o.use_cache = true;
  ModelConfig c = tiny(Position::rope);
  c.vocab = 100;
  const Decoder<float> narrow = random_model(c);
  o.draft = &narrow;
  CHECK(message(model, o) == "draft: the tokenizer has 256 tokens and the model that drafts 100: they do not belong together");
  c.vocab = 256, c.causal = false;
  const Decoder<float> sees_all = random_model(c);
  o.draft = &sees_all;
  CHECK(message(model, o) == "draft: expected a causal model");

  const Decoder<float> small = random_model(tiny(Position::learned, 2, 12));
  o = options(0, 40), o.draft = &small;
  const Generation g = generate(model, byte_tokenizer(), "abc", o);
  CHECK(g.notes == std::vector<std::string>{
                       "The model that drafts: Past the context of 12 tokens: learned positions cannot move, so the last 6 tokens are read "
                       "afresh each time it is full.",
                       "Past the context nothing is drafted: a cache that slides cannot take back what it forgot.",
                       "Past the context of 24 tokens: the cache slides, keeping the first 4."});
}
