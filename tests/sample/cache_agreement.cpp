// With the cache and without: the same logits, the same text. Alone and in a batch: the same bits.
#include <doctest/doctest.h>

#include <cstring>

#include "sample/models.hpp"

using namespace glassformer;

namespace {

// logits [N, V] of ids, the first `prefill` read at once and the others one by one through a cache.
Matrix<float> cached_logits(const Decoder<float>& model, std::span<const Token> ids, Index prefill, bool sliding) {
  Workspace workspace;
  KvCache<float> cache = make_cache(model, 1, 0, sliding, sliding ? 4 : 0);
  const Index N = static_cast<Index>(ids.size()), slot = 0;
  Matrix<float> logits(N, model.config.vocab);
  for (Index begin = 0; begin < N;) {
    const Index count = begin == 0 ? prefill : 1;
    const Index starts[2] = {0, count};
    Pass<float> pass;
    pass.starts = starts;
    pass.cache = &cache;
    pass.slots = {&slot, 1};
    pass.workspace = &workspace;
    pass.exec.row_exact = begin > 0;
    Matrix<float> hidden(count, model.config.width);
    decoder_forward(model, pass, ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)), hidden);
    decoder_logits(model, pass, hidden, logits.middleRows(begin, count));
    begin += count;
  }
  return logits;
}

void check_same_greedy_text(const Decoder<float>& model, Index max_tokens) {
  GenerateOptions o;
  o.sampling.temperature = 0;
  o.max_tokens = max_tokens;
  SiteLog with, without;
  o.trace = &with;
  const Generation cached = generate(model, byte_tokenizer(), "the prompt", o);
  o.trace = &without;
  o.use_cache = false;
  const Generation uncached = generate(model, byte_tokenizer(), "the prompt", o);
  REQUIRE(cached.ids.size() == static_cast<std::size_t>(max_tokens));
  REQUIRE(with.all.size() == cached.ids.size());
  REQUIRE(without.all.size() == cached.ids.size());
  for (std::size_t i = 0; i < cached.ids.size(); ++i) {
    CHECK((with.all[i] - without.all[i]).cwiseAbs().maxCoeff() <= 1e-5f);
    if (cached.ids[i] == uncached.ids[i]) continue;
    CHECK(best_two_gap(without.all[i]) <= 1e-4f);  // too close to call: the texts may part here
    return;
  }
  CHECK(cached.text == uncached.text);
}

}  // namespace

TEST_CASE("logits over 512 tokens: cached and uncached within 1e-5, for every position and head grouping") {
  std::vector<Token> ids;
  for (std::uint64_t i = 0; i < 512; ++i) ids.push_back(static_cast<Token>(random_below({11}, i, 64)));
  for (const Position position : all_positions()) {
    for (const Index kv_heads : {4, 2, 1}) {
      CAPTURE(choice_name(position));
      CAPTURE(kv_heads);
      ModelConfig c = tiny(position, kv_heads, 512);
      c.vocab = 64;
      const Decoder<float> model = random_model(c, 3);
      const Matrix<float> full = full_logits(model, ids);
      const double size = std::sqrt(full.squaredNorm() / static_cast<float>(full.size()));
      CHECK(size > 0.3);
      CHECK(size < 3);
      CHECK((full.topRows(511) - full.bottomRows(511)).cwiseAbs().maxCoeff() > 0.5);
      CHECK((cached_logits(model, ids, 37, false) - full).cwiseAbs().maxCoeff() <= 1e-5f);
      CHECK((cached_logits(model, ids, 1, true) - full).cwiseAbs().maxCoeff() <= 1e-5f);
    }
  }
}

TEST_CASE("greedy text is the same with the cache and without") {
  for (const Position position : all_positions()) {
    for (const Index kv_heads : {4, 2, 1}) {
      CAPTURE(choice_name(position));
      CAPTURE(kv_heads);
      check_same_greedy_text(random_model(tiny(position, kv_heads, 96), 5), 80);
    }
  }
}

TEST_CASE("positions that cannot move read the last half again past the context, with the cache and without") {
  for (const Position position : {Position::learned, Position::sinusoidal})
    check_same_greedy_text(random_model(tiny(position, 2, 16), 7), 60);
}

TEST_CASE("a sequence decoded in a batch gets the bits that it gets alone") {
  const std::vector<std::string> prompts{"a", "some longer prompt to begin with", "xyz", "prompts of different lengths", "b", "c", "ddd"};
  for (const bool odd : {false, true}) {  // odd: rows of a batch that do not lie alike in memory, with every norm and non-linearity
    for (const Position position : all_positions()) {
      for (const int threads : {1, 2}) {
        CAPTURE(choice_name(position));
        CAPTURE(odd);
        ModelConfig config = tiny(position, 2, 40);  // the longer texts outgrow it
        if (odd) {
          config.width = 36, config.heads = 2, config.kv_heads = 1, config.hidden = 172;
          config.norm = threads == 1 ? ops::Norm::rms : ops::Norm::layer;
          config.mlp = position == Position::rope    ? Mlp::swiglu
                       : position == Position::alibi ? Mlp::gelu_exact
                       : position == Position::none  ? Mlp::swiglu
                                                     : Mlp::gelu_tanh;
          config.hidden = config.mlp == Mlp::swiglu ? 172 : 75;
        }
        const Decoder<float> model = random_model(config, 9);
        GenerateOptions o;
        o.sampling.temperature = 1;
        o.max_tokens = 24;
        o.exec.threads = threads;
        SiteLog together;
        o.trace = &together;
        const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), prompts, o);
        REQUIRE(batch.size() == prompts.size());
        for (std::size_t s = 0; s < prompts.size(); ++s) {
          SiteLog alone;
          o.trace = &alone;
          o.first_sequence = s;
          const Generation g = generate(model, byte_tokenizer(), prompts[s], o);
          CHECK(g.ids == batch[s].ids);
          CHECK(g.text == batch[s].text);
          CHECK(g.notes == batch[s].notes);
          // The first steps are in the log by row: before any text of the batch outgrows the context, all sequences step together.
          const Matrix<float>&first = together.all[s], &second = together.all[prompts.size()];
          REQUIRE(second.rows() == static_cast<Index>(prompts.size()));
          CHECK(std::memcmp(first.data(), alone.all[0].data(), sizeof(float) * 256) == 0);
          CHECK(std::memcmp(second.row(static_cast<Index>(s)).data(), alone.all[1].data(), sizeof(float) * 256) == 0);
          o.first_sequence = 0;
        }
        CHECK(batch[0].ids != batch[4].ids);
      }
    }
  }
}
