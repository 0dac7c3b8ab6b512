// Keys and values in 8 bits: what a cached pass then computes, and how far the logits move.
// Legend: N tokens, H query heads, G key-value heads, D head width, V vocabulary.
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>

#include "glassformer/core/random.hpp"
#include "glassformer/io/model_directory.hpp"
#include "sample/models.hpp"

using namespace glassformer;

namespace {

// logits [N, V] of ids, the first `prefill` read at once and the others one by one.
template <class S> Matrix<S> logits_through(KvCache<S>& cache, const Decoder<S>& model, std::span<const Token> ids, Index prefill) {
  Matrix<S> logits(static_cast<Index>(ids.size()), model.config.vocab);
  for (Index begin = 0, count = prefill; begin < logits.rows(); begin += count, count = 1) {
    const auto part = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    logits.middleRows(begin, count) = decoder_read<S>(model, part, {.exec = {.row_exact = begin > 0}, .cache = &cache});
  }
  return logits;
}

std::vector<Token> some_ids(Index count, Index vocab) {
  std::vector<Token> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<Token>(random_below({11}, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocab))));
  return ids;
}

// Puts each key and value row of a head through `change`: keys as the cache gets them, turned by RoPE where it is not sliding.
template <class S> struct EditRows : Trace<S> {
  std::function<void(Eigen::Ref<Vector<S>>)> change;
  Index head_dim;
  bool rope;
  EditRows(const ModelConfig& c, std::function<void(Eigen::Ref<Vector<S>>)> f) : change(std::move(f)), head_dim(c.head_dim), rope(c.position == Position::rope) {}
  bool wants(std::string_view site) const override { return site.ends_with(rope ? ".attn.rot_k" : ".attn.k") || site.ends_with(".attn.v"); }
  void visit(const Site&, MatrixRef<S> rows) override {
    for (Index n = 0; n < rows.rows(); ++n) {
      for (Index d = 0; d < rows.cols(); d += head_dim) {
        Vector<S> row = rows.row(n).segment(d, head_dim);
        change(row);
        rows.row(n).segment(d, head_dim) = row;
      }
    }
  }
};

// By the formula: scale = amax/127 as a float, x → scale·(x/scale rounded).
template <class S> void round_by_hand(Eigen::Ref<Vector<S>> row) {
  const S scale = static_cast<S>(static_cast<float>(row.cwiseAbs().maxCoeff() / S(127)));
  for (S& x : row) x = scale * std::nearbyint(x / scale);
}

// Rounding to multiples of a scale leaves errors spread evenly over ±scale/2. So draw such errors and put them on the keys and values of an
// uncached pass: how far the logits move predicts the error of an 8-bit cache, and no tolerance is chosen.
Matrix<float> noisy_logits(const Decoder<float>& model, std::span<const Token> ids, std::uint64_t seed) {
  std::uint64_t drawn = 0;
  EditRows<float> noise(model.config, [&](Eigen::Ref<Vector<float>> row) {
    const float scale = row.cwiseAbs().maxCoeff() / 127;
    for (float& x : row) x += scale * static_cast<float>(random_uniform({seed}, drawn++) - 0.5);
  });
  return decoder_read<float>(model, ids, {.trace = &noise});
}

double root_mean_square(const Matrix<float>& m) { return std::sqrt(m.cast<double>().squaredNorm() / static_cast<double>(m.size())); }

double mean_divergence(const Matrix<float>& logits, const Matrix<float>& others) {  // KL in nats
  double sum = 0;
  for (Index n = 0; n < logits.rows(); ++n) {
    const auto log_softmax = [n](const Matrix<float>& of) -> Eigen::ArrayXd {
      const Eigen::ArrayXd z = of.row(n).transpose().cast<double>();
      return z - z.maxCoeff() - std::log((z - z.maxCoeff()).exp().sum());
    };
    const Eigen::ArrayXd p = log_softmax(logits), q = log_softmax(others);
    sum += (p.exp() * (p - q)).sum();
  }
  return sum / static_cast<double>(logits.rows());
}

}  // namespace

TEST_CASE("an 8-bit cache computes what a pass computes whose keys and values are rounded by the formula") {
  // In double, where the two ways differ by 1e-15 and hardly a number lies so near to where rounding turns.
  const std::vector<Token> ids = some_ids(96, 64);
  for (const Position position : all_positions()) {
    for (const Index kv_heads : {4, 1}) {
      CAPTURE(choice_name(position));
      CAPTURE(kv_heads);
      ModelConfig c = tiny(position, kv_heads, 96);
      c.vocab = 64;
      const Decoder<double> model = convert_decoder<double>(random_model(c, 3));
      EditRows<double> rounding(model.config, round_by_hand<double>);
      const Matrix<double> expected = decoder_read<double>(model, ids, {.trace = &rounding});
      KvCache<double> cache = make_cache(model, 1, 0, false, 0, CacheKind::int8);
      CHECK((logits_through(cache, model, ids, 37) - expected).cwiseAbs().maxCoeff() < 1e-10);
      const double moved = (expected - decoder_read<double>(model, ids)).cwiseAbs().maxCoeff();
      CHECK(moved > 1e-3);  // and that is not what the model says without
      MESSAGE(std::string(choice_name(position)) << ", " << kv_heads << " heads: logits moved by at most " << moved);
    }
  }
}

TEST_CASE("8 bits move the logits as much as noise of half a scale does") {
  const std::vector<Token> ids = some_ids(256, 64);
  for (const Position position : {Position::rope, Position::learned, Position::alibi}) {
    ModelConfig c = tiny(position, 2, 256);
    c.vocab = 64;
    const Decoder<float> model = random_model(c, 3);
    const Matrix<float> full = full_logits(model, ids);
    KvCache<float> cache = make_cache(model, 1, 0, false, 0, CacheKind::int8);
    const double rounded = root_mean_square(logits_through(cache, model, ids, 1) - full);
    double noise = 0;
    for (std::uint64_t seed = 0; seed < 3; ++seed) noise += root_mean_square(noisy_logits(model, ids, seed) - full) / 3;
    MESSAGE(std::string(choice_name(position)) << ": rms of the logits " << root_mean_square(full) << ", moved by 8 bits " << rounded << ", by noise " << noise);
    CHECK(rounded > 0.8 * noise);
    CHECK(rounded < 1.25 * noise);
  }
}

TEST_CASE("a sliding window of 8 bits forgets as one of floats does") {
  const std::vector<Token> ids = some_ids(120, 64);
  for (const Position position : {Position::rope, Position::alibi, Position::none}) {
    CAPTURE(choice_name(position));
    ModelConfig c = tiny(position, 2, 32);
    c.vocab = 64;
    const Decoder<float> model = random_model(c, 3);
    KvCache<float> floats = make_cache(model, 1, 0, true, 4), codes = make_cache(model, 1, 0, true, 4, CacheKind::int8);
    const Matrix<float> expected = logits_through(floats, model, ids, 8), got = logits_through(codes, model, ids, 8);
    CHECK(codes.length(0) == 32);
    // Past the window no further from the floats than before: rows move with their scales.
    const double before = root_mean_square((got - expected).topRows(32)), after = root_mean_square((got - expected).bottomRows(80));
    CHECK(before > 1e-4);
    CHECK(after < 2 * before);
  }
}

TEST_CASE("in 8 bits too, a sequence gets in a batch the bits that it gets alone, by any number of threads") {
  const std::vector<std::string> prompts{"a", "some longer prompt to begin with", "xyz", "prompts of different lengths"};
  for (const Position position : all_positions()) {
    CAPTURE(choice_name(position));
    const Decoder<float> model = random_model(tiny(position, 2, 40), 9);  // the longer texts outgrow it
    GenerateOptions o;
    o.sampling.temperature = 1;
    o.max_tokens = 24;
    o.cache_kind = CacheKind::int8;
    SiteLog one_thread, two_threads, floats;
    o.trace = &one_thread;
    const std::vector<Generation> batch = generate_batch(model, byte_tokenizer(), prompts, o);
    o.trace = &two_threads;
    o.exec.threads = 2;
    (void)generate_batch(model, byte_tokenizer(), prompts, o);
    REQUIRE(one_thread.all.size() == two_threads.all.size());
    for (std::size_t i = 0; i < one_thread.all.size(); ++i) CHECK(one_thread.all[i] == two_threads.all[i]);
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      SiteLog alone;
      o.trace = &alone;
      o.first_sequence = s;
      const Generation g = generate(model, byte_tokenizer(), prompts[s], o);
      CHECK(g.ids == batch[s].ids);
      const Matrix<float>& second = one_thread.all[prompts.size()];  // the first step that all make together
      CHECK(std::memcmp(second.row(static_cast<Index>(s)).data(), alone.all[1].data(), sizeof(float) * 256) == 0);
    }
    o.first_sequence = 0, o.trace = nullptr, o.max_tokens = 1;
    CHECK(generate(model, byte_tokenizer(), "", o).ids.size() == 1);  // a cache smaller than its sinks would be
    o.cache_kind = CacheKind::floating, o.trace = &floats;
    (void)generate_batch(model, byte_tokenizer(), prompts, o);
    CHECK(floats.all[0] != one_thread.all[0]);
  }
}

TEST_CASE("what is not finite in a key or value shows in the logits of an 8-bit cache") {
  const std::vector<Token> ids = some_ids(6, 64);
  ModelConfig c = tiny(Position::rope);
  c.vocab = 64;
  const Decoder<float> model = random_model(c, 3);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const char* site : {"blocks.1.attn.rot_k", "blocks.1.attn.v"}) {
      struct Spoil : Trace<float> {  // one number of token 2
        std::string_view name;
        float number;
        Spoil(std::string_view n, float x) : name(n), number(x) {}
        bool wants(std::string_view s) const override { return s == name; }
        void visit(const Site&, MatrixRef<float> rows) override { rows(2, 1) = number; }
      } spoil(site, bad);
      KvCache<float> cache = make_cache(model, 1, 0, false, 0, CacheKind::int8);
      const Matrix<float> logits = decoder_read<float>(model, ids, {.trace = &spoil, .cache = &cache});
      CHECK(logits.bottomRows(4).array().isNaN().all());
      CHECK(decoder_read<float>(model, std::span(ids).first(1), {.cache = &cache}).array().isNaN().all());
    }
  }
}

TEST_CASE("stories260K, its own story of 200 tokens: what 8 bits cost") {
  const std::filesystem::path path = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data" / "stories260K";
  if (!std::filesystem::exists(path)) {
    MESSAGE("skipped: there is no " << path.string());
    return;
  }
  const Expected<ModelFiles> model = load_model(path);
  if (!model) FAIL(model.error());
  GenerateOptions o;
  o.sampling.temperature = 0;
  o.max_tokens = 200;
  const Generation g = generate(model->decoder, model->tokenizer, "", o);
  std::vector<Token> ids = g.prompt_ids;
  ids.insert(ids.end(), g.ids.begin(), g.ids.end());
  KvCache<float> floats = make_cache(model->decoder, 1), codes = make_cache(model->decoder, 1, 0, false, 0, CacheKind::int8);
  const Matrix<float> expected = logits_through(floats, model->decoder, ids, 1), got = logits_through(codes, model->decoder, ids, 1);
  Index same = 0;
  for (Index n = 0; n < got.rows(); ++n) {
    Index a = 0, b = 0;
    expected.row(n).maxCoeff(&a), got.row(n).maxCoeff(&b);
    same += a == b;
  }
  const double divergence = mean_divergence(expected, got);
  double noise = 0;
  for (std::uint64_t seed = 0; seed < 3; ++seed) noise += mean_divergence(expected, noisy_logits(model->decoder, ids, seed)) / 3;
  MESSAGE("largest difference of a logit " << (got - expected).cwiseAbs().maxCoeff() << ", mean KL " << divergence << " nats (noise of half a scale: " << noise << "), same first choice in " << same
                                           << " of " << got.rows() << "; " << codes.bytes() << " bytes for " << floats.bytes());
  CHECK(divergence > noise / 2);  // KL goes with the square of the error
  CHECK(divergence < noise * 2);
  CHECK(codes.bytes() * 8 * 4 == floats.bytes() * (8 + 4));  // D = 8
}
