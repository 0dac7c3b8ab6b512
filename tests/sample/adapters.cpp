// Generation with adapters: several over one base, mixed by request; soft prompts; quantized decoders.
#include <doctest/doctest.h>

#include <cstring>

#include "glassformer/model/adapter.hpp"
#include "glassformer/model/quantize.hpp"
#include "sample/models.hpp"

using namespace glassformer;

namespace {

// As if trained: B is not zero, and with DoRA the magnitudes are not the norms.
Adapter<float> trained(const Decoder<float>& m, LoraConfig lora, std::uint64_t seed) {
  lora.rank = 3, lora.alpha = 6;
  Adapter<float> a = make_adapter<float>(m, lora, seed);
  for (const TensorInfo& info : a.arena.layout().tensors()) {
    const MatrixView<float> view = a.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) {
      const auto n = static_cast<float>(random_normal(RandomStream{seed}.at(info.name), static_cast<std::uint64_t>(i)));
      view.data[i] = info.name.ends_with("magnitude") ? view.data[i] * (1 + 0.2f * n) : view.data[i] + 0.1f * n;
    }
  }
  return a;
}

// LoRA of all layers, DoRA, and one of the (tied) embedding.
struct Adapters {
  Adapter<float> lora, dora, embedding;
  explicit Adapters(const Decoder<float>& m)
      : lora(trained(m, {}, 1)), dora(trained(m, {.dora = true}, 2)), embedding(trained(m, {.targets = {"embed", "mlp.up"}}, 3)) {}
  const Adapter<float>& operator[](Index i) const { return i == 0 ? lora : i == 1 ? dora : embedding; }
};

GenerateOptions drawn(Index max_tokens) {
  GenerateOptions o;
  o.sampling.temperature = 1;
  o.max_tokens = max_tokens;
  return o;
}

// The logits of the last token, in a pass of its own.
Matrix<float> next_logits(const Decoder<float>& m, std::span<const Token> before, std::span<const Token> text) {
  std::vector<Token> ids(before.begin(), before.end());
  ids.insert(ids.end(), text.begin(), text.end());
  return full_logits(m, ids).bottomRows(1);
}

std::string message(const Decoder<float>& model, const GenerateOptions& o, const std::vector<std::string>& prompts = {"a", "b"}) {
  try {
    generate_batch(model, byte_tokenizer(), prompts, o);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

const std::vector<std::string> kPrompts{"a", "some longer prompt to begin with", "xyz", "prompts of different lengths", "a"};

}  // namespace

TEST_CASE("one batch serves requests with different adapters: each as with its own attached, and as merged") {
  Matrix<float> mix(5, 3);
  mix << 1, 0, 0,  //
      0, 1, 0,     //
      0, 0, 1,     //
      0.5f, -0.25f, 2, 0, 0, 0;
  for (const Position position : {Position::rope, Position::learned}) {
    for (const bool use_cache : {true, false}) {
      CAPTURE(choice_name(position));
      CAPTURE(use_cache);
      Decoder<float> model = random_model(tiny(position, 2, 40), 9);  // the longer texts outgrow the context
      const Adapters adapters(model);
      for (Index i = 0; i < 3; ++i) attach(model, adapters[i]);
      GenerateOptions o = drawn(20);
      o.use_cache = use_cache;
      o.mix = mix;
      SiteLog together;
      o.trace = &together;
      const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), kPrompts, o);
      o.mix = {};
      for (std::size_t s = 0; s < kPrompts.size(); ++s) {
        const auto row = static_cast<Index>(s);
        CAPTURE(s);
        o.first_sequence = s;
        Decoder<float> alone = random_model(tiny(position, 2, 40), 9);
        for (Index i = 0; i < 3; ++i) {
          if (mix(row, i) != 0) attach(alone, adapters[i], mix(row, i));
        }
        SiteLog log;
        o.trace = &log;
        CHECK(generate(alone, byte_tokenizer(), kPrompts[s], o).ids == batch[s].ids);
        CHECK((together.all[s] - log.all[0]).cwiseAbs().maxCoeff() < 1e-5f);
        detach(alone);

        Decoder<float> base = random_model(tiny(position, 2, 40), 9);  // an adapter's change is of this W, whatever was merged before
        for (Index i = 0; i < 3; ++i) {
          for (const AdapterTarget& t : adapters[i].targets)
            (*alone.arena.view(t.tensor())).middleRows(t.row_begin, t.rows) += mix(row, i) * adapter_change(base, adapters[i], t, {});
        }
        SiteLog merged;
        o.trace = &merged;
        CHECK(generate(alone, byte_tokenizer(), kPrompts[s], o).ids == batch[s].ids);
        CHECK((together.all[s] - merged.all[0]).cwiseAbs().maxCoeff() < 2e-5f);
      }
      CHECK(batch[0].ids != batch[4].ids);  // the same prompt, without any
    }
  }
}

TEST_CASE("a request of a mixed batch gets the bits that it gets alone") {
  Matrix<float> mix(5, 3);
  mix << 1, 0, 0.5f, 0, 1, 0, 0, 0, 1, 0.5f, -0.25f, 2, 0, 0, 0;
  for (const int threads : {1, 2}) {
    Decoder<float> model = random_model(tiny(Position::rope, 2, 40), 9);
    const Adapters adapters(model);
    for (Index i = 0; i < 3; ++i) attach(model, adapters[i]);
    GenerateOptions o = drawn(24);
    o.exec.threads = threads;
    o.mix = mix;
    SiteLog together;
    o.trace = &together;
    const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), kPrompts, o);
    for (std::size_t s = 0; s < kPrompts.size(); ++s) {
      SiteLog alone;
      o.trace = &alone, o.first_sequence = s, o.mix = mix.row(static_cast<Index>(s));
      CHECK(generate(model, byte_tokenizer(), kPrompts[s], o).ids == batch[s].ids);
      const Matrix<float>& second = together.all[kPrompts.size()];  // the first step of all
      REQUIRE(second.rows() == 5);
      CHECK(std::memcmp(together.all[s].data(), alone.all[0].data(), sizeof(float) * 256) == 0);
      CHECK(std::memcmp(second.row(static_cast<Index>(s)).data(), alone.all[1].data(), sizeof(float) * 256) == 0);
    }
  }
}

TEST_CASE("a soft prompt: generation is the loop over whole passes, and no virtual id leaves it") {
  for (const Position position : all_positions()) {
    for (const bool use_cache : {true, false}) {
      CAPTURE(choice_name(position));
      CAPTURE(use_cache);
      Decoder<float> model = random_model(tiny(position), 5);
      const Adapter<float> prompt = make_soft_prompt(model, 6, 1);
      const std::vector<Token> without = generate(model, byte_tokenizer(), "the prompt", drawn(30)).ids;
      attach(model, prompt);
      const std::vector<Token> soft = soft_prompt_ids(model);
      GenerateOptions o = drawn(30);
      o.use_cache = use_cache;
      o.sampling.repetition_penalty = 1.3, o.sampling.top_p = 0.95;
      SiteLog log;
      o.trace = &log;
      std::string shown;
      o.on_text = [&](std::string_view piece) { shown += piece; };
      const Generation g = generate(model, byte_tokenizer(), "the prompt", o);
      CHECK(g.ids != without);
      CHECK(g.notes.empty());
      CHECK(g.prompt_ids == byte_tokenizer().encode("the prompt"));
      CHECK(shown == valid_utf8(g.text));

      std::vector<Token> text = g.prompt_ids, expected;
      const RandomStream stream = RandomStream{o.seed}.at("sample").at(std::uint64_t{0});
      for (Index i = 0; i < 30; ++i) {
        const Matrix<float> logits = next_logits(model, soft, text);
        CHECK((logits - log.all[static_cast<std::size_t>(i)]).cwiseAbs().maxCoeff() <= 1e-5f);
        const Distribution d = sampling_distribution({logits.data(), 256}, text, o.sampling);
        expected.push_back(draw(d, random_uniform(stream, static_cast<std::uint64_t>(i))));
        text.push_back(expected.back());
      }
      CHECK(g.ids == expected);

      o.trace = nullptr, o.stop = {g.text.substr(10, 2)}, shown.clear();
      const Generation stopped = generate(model, byte_tokenizer(), "the prompt", o);
      CHECK(stopped.stopped_by == "stop");
      CHECK(stopped.text == g.text.substr(0, g.text.find(o.stop[0])));
      CHECK(shown == valid_utf8(stopped.text));
    }
  }
}

TEST_CASE("a soft prompt takes places of the context, and stays when the text slides") {
  const Index T = 24, P = 5, sinks = 3;
  const std::string_view words = "The quick brown fox jumps over the lazy dog, and then once more it runs";
  for (const std::size_t length : {std::size_t(4), std::size_t(19), std::size_t(20), std::size_t(60)}) {
    CAPTURE(length);
    // One layer: a cached key does not depend on what was forgotten, so a pass over what the cache holds gives the same.
    for (const Position position : {Position::rope, Position::alibi, Position::none}) {
      Decoder<float> model = random_model(tiny(position, 2, T, 1), 4);
      const Adapter<float> prompt = make_soft_prompt(model, P, 2);
      attach(model, prompt);
      GenerateOptions o = drawn(40);
      o.sinks = sinks;
      SiteLog log;
      o.trace = &log;
      const Generation g = generate(model, byte_tokenizer(), words.substr(0, length), o);
      REQUIRE(g.ids.size() == 40);
      CHECK(g.notes ==
            std::vector<std::string>{"Past the context of 24 tokens, 5 of them the soft prompt's: the cache slides, keeping the first 8."});
      std::vector<Token> ids = g.prompt_ids;
      for (std::size_t i = 0; i < g.ids.size(); ++i) {
        std::vector<Token> seen = ids;
        if (static_cast<Index>(ids.size()) > T - P) seen.erase(seen.begin() + sinks, seen.end() - (T - P - sinks));
        CHECK((next_logits(model, soft_prompt_ids(model), seen) - log.all[i]).cwiseAbs().maxCoeff() <= 1e-5f);
        ids.push_back(g.ids[i]);
      }
    }
    // Places that cannot move: the last half of what is left is read again, behind the soft prompt.
    Decoder<float> model = random_model(tiny(Position::learned, 2, T), 4);
    const Adapter<float> prompt = make_soft_prompt(model, P, 2);
    attach(model, prompt);
    GenerateOptions o = drawn(40);
    SiteLog log;
    o.trace = &log;
    const Generation g = generate(model, byte_tokenizer(), words.substr(0, length), o);
    REQUIRE(g.ids.size() == 40);
    std::vector<Token> ids = g.prompt_ids;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < g.ids.size(); ++i) {
      if (ids.size() - begin > 19) begin = ids.size() - 9;
      CHECK((next_logits(model, soft_prompt_ids(model), std::span(ids).subspan(begin)) - log.all[i]).cwiseAbs().maxCoeff() <= 1e-5f);
      ids.push_back(g.ids[i]);
    }
    // Asked to stop there: 24 places are 5 and 19 tokens, and one more can be drawn.
    for (const bool use_cache : {true, false}) {
      o = drawn(40), o.past_context = PastContext::stop, o.use_cache = use_cache;
      const Generation stopped = generate(model, byte_tokenizer(), words.substr(0, length), o);
      CHECK(stopped.stopped_by == "context");
      CHECK(static_cast<Index>(stopped.ids.size()) == std::max<Index>(0, 20 - static_cast<Index>(length)));
    }
  }
}

TEST_CASE("a soft prompt is switched by request, beside an adapter of the weights") {
  for (const Index context : {64, 20}) {  // 20: the text outgrows it, behind 4 sinks of the soft prompt's and 4 of the text's
    Decoder<float> model = random_model(tiny(Position::rope, 2, context), 6), plain = random_model(tiny(Position::rope, 2, context), 6);
    const Adapter<float> lora = trained(model, {}, 1), prompt = make_soft_prompt(model, 4, 2);
    attach(model, lora), attach(model, prompt);
    CHECK(soft_prompt_adapter(model) == 1);
    GenerateOptions o = drawn(20);
    o.mix.resize(4, 2);
    o.mix << 1, 1, 1, 0, 0, 1, 0, 0;
    const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), {"abc", "abc", "abc", "abc"}, o);
    o.mix = {};
    for (std::size_t s = 0; s < 4; ++s) {
      CAPTURE(s);
      detach(plain);
      if (s < 2) attach(plain, lora);
      if (s % 2 == 0) attach(plain, prompt);
      o.first_sequence = s;
      o.sinks = s % 2 == 0 ? 4 : 8;  // the cache of a batch has as many sinks for all
      CHECK(generate(plain, byte_tokenizer(), "abc", o).ids == batch[s].ids);
    }
  }
}

TEST_CASE("a quantized decoder writes what its dequantized copy writes, with adapters over it") {
  ModelConfig c = tiny(Position::rope);
  c.width = c.hidden = 64, c.mlp = Mlp::swiglu, c.bias = false;
  const Decoder<float> full = random_model(c, 3);
  for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4}) {
    CAPTURE(quantized_name(type));
    Decoder<float> model = quantize_decoder(full, QuantizeTypes::all(type)), copy = dequantize_decoder(model);
    REQUIRE(model.embed.weight.quantized);
    const Adapters adapters(copy);
    for (Index i = 0; i < 3; ++i) attach(model, adapters[i]), attach(copy, adapters[i]);
    GenerateOptions o = drawn(20);
    o.mix.resize(5, 3);
    o.mix << 0, 0, 0, 1, 0, 0, 0, 1, 0, 0.5f, -0.25f, 2, 0, 0, 1;
    SiteLog small, large;
    o.trace = &small;
    const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), kPrompts, o);
    o.trace = &large;
    const std::vector<Generation> expected = generate_batch(copy, byte_tokenizer(), kPrompts, o);
    for (std::size_t s = 0; s < 5; ++s) {
      CHECK(batch[s].ids == expected[s].ids);
      CHECK((small.all[s] - large.all[s]).cwiseAbs().maxCoeff() < 1e-5f);
    }
    CHECK((small.all[5] - large.all[5]).cwiseAbs().maxCoeff() < 1e-5f);
    CHECK(batch[0].ids !=
          generate(full, byte_tokenizer(), kPrompts[0], drawn(20)).ids);  // it is another model than the one in floating point
  }
}

TEST_CASE("mixes and soft prompts that cannot be are said in one sentence") {
  Decoder<float> model = random_model(tiny(Position::rope, 2, 8));
  const Adapter<float> lora = trained(model, {}, 1), prompt = make_soft_prompt(model, 7, 2);
  GenerateOptions o = drawn(5);
  o.mix = Matrix<float>::Ones(2, 1);
  CHECK(message(model, o) == "mix: expected shape [2, 0], found [2, 1]");
  attach(model, lora), attach(model, prompt);
  CHECK(message(model, o) == "mix: expected shape [2, 2], found [2, 1]");
  o.mix = Matrix<float>::Ones(3, 2);
  CHECK(message(model, o) == "mix: expected shape [2, 2], found [3, 2]");
  o.mix = Matrix<float>::Constant(2, 2, std::numeric_limits<float>::infinity());
  CHECK(message(model, o) == "mix: expected weights that are finite numbers");
  o.mix = Matrix<float>::Constant(2, 2, 0.5f);
  CHECK(message(model, o) == "mix: expected 0 or 1 for a soft prompt, which is there or not, found 0.5");
  o.mix.col(1).setOnes();
  CHECK(message(model, o) == "");  // one token of text at a time is enough
  model.config.context = 7;
  CHECK(message(model, o) == "generate: expected a context of more than the 7 tokens of the soft prompt, found 7");
}
