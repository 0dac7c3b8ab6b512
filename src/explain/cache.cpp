// Legend: T tokens, G key-value heads, D head width, V vocabulary.
#include "glassformer/explain/cache.hpp"

#include <array>
#include <chrono>
#include <cmath>
#include <set>

#include "explain/cache_run.hpp"
#include "explain/teller.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/quantize/row.hpp"

namespace glassformer {
namespace {

// Counts the rows of keys that a pass makes in the first layer: every layer makes as many.
class RowCounter : public Trace<float> {
 public:
  bool wants(std::string_view site) const override { return site == "blocks.0.attn.k"; }
  void visit(const Site&, MatrixRef<float> keys) override { rows += keys.rows(); }
  Index rows = 0;
};

// One pass as `generate` makes it: the head reads only the last row. Logits [1, V].
Matrix<float> last_logits(const Decoder<float>& m, std::span<const Token> ids, KvCache<float>* cache, const Exec& exec, Trace<float>* trace,
                          double& ms) {
  const Index N = static_cast<Index>(ids.size());
  const std::array<Index, 2> starts = {0, N};
  const std::array<Index, 1> slots = {0};
  Workspace workspace;
  Pass<float> pass;
  pass.exec = exec, pass.starts = starts, pass.cache = cache, pass.trace = trace, pass.workspace = &workspace;
  if (cache) pass.slots = slots;
  Matrix<float> hidden(N, m.config.width), logits(1, m.config.vocab);
  const auto begin = std::chrono::steady_clock::now();
  decoder_forward<float>(m, pass, ids, hidden);
  decoder_logits<float>(m, pass, hidden.bottomRows(1), logits);
  ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  require(logits.allFinite(), "the model's logits are not finite");
  return logits;
}

Matrix<double> head_of(const ops::Heads<const float>& rows, Index tokens, Index width, Index head) {
  return Eigen::Map<const Matrix<float>>(rows.at(0, head), tokens, width).cast<double>();
}

// Σ p·(log p − log p') in nats, of the distributions of two rows of logits.
double divergence(const Matrix<float>& logits, const Matrix<float>& others) {
  const auto log_softmax = [](const Matrix<float>& of) -> Eigen::ArrayXd {
    const Eigen::ArrayXd z = of.row(0).transpose().cast<double>();
    return z - z.maxCoeff() - std::log((z - z.maxCoeff()).exp().sum());
  };
  const Eigen::ArrayXd p = log_softmax(logits);
  return (p.exp() * (p - log_softmax(others))).sum();
}

// The last token's key of a head, as an 8-bit cache keeps it.
RoundedRow rounded_row(const Matrix<double>& rows) {
  const Vector<float> x = rows.bottomRows(1).cast<float>();
  Vector<float> back(x.size());
  std::vector<std::int8_t> codes(static_cast<std::size_t>(x.size()));
  RoundedRow row;
  row.scale = quantize_row<float>({x.data(), codes.size()}, codes.data());
  dequantize_row<float>(static_cast<float>(row.scale), codes.data(), {back.data(), codes.size()});
  row.x = x.cast<double>(), row.back = back.cast<double>();
  row.codes.assign(codes.begin(), codes.end());
  return row;
}

void check_question(const Decoder<float>& m, const ExplainedText& text, const CacheQuestion& q) {
  const ModelConfig& c = m.config;
  require_layer(q.layer, c.layers);
  require(q.head >= 0 && q.head < c.heads, "head: expected 0 … {}, found {}", c.heads - 1, q.head);
  require_text(text, c.context);
  for (std::size_t l = 0; l < m.blocks.size(); ++l) {  // each block's own setting: a what-if changes it, not the configuration
    require(m.blocks[l].attention.config.core.causal,
            "cache: expected a causal model: where earlier tokens see later ones, each new token changes all rows; layer {} has no causal mask",
            l);
  }
  const Index room = c.context - static_cast<Index>(text.ids.size());
  require(room >= 1, "prompt: expected at most {} tokens (the model's context of {}, less one to decode), found {}", c.context - 1,
          c.context, text.ids.size());
  require(q.new_tokens >= 1 && q.new_tokens <= room,
          "max-tokens: expected 1 … {} (the model's context is {} and the prompt takes {}), found {}", room, c.context, text.ids.size(),
          q.new_tokens);
  require(q.sinks >= 0 && q.sinks < c.context, "sinks: expected 0 … {}, found {}", c.context - 1, q.sinks);
}

}  // namespace

CacheRun run_cache(const Decoder<float>& m, const ExplainedText& text, const CacheQuestion& q) {
  check_question(m, text, q);
  CacheRun run{.text = text, .prompt = static_cast<Index>(text.ids.size())};
  run.cache = std::make_unique<KvCache<float>>(make_cache(m, 1));
  KvCache<float> in_8_bits = make_cache(m, 1, 0, false, 0, CacheKind::int8);
  Exec decoding = q.exec;
  decoding.row_exact = true;
  std::vector<Token>& ids = run.text.ids;
  for (Index i = 0; i <= q.new_tokens; ++i) {
    const Index before = run.cache->length(0), now = static_cast<Index>(ids.size());
    const std::span<const Token> all(ids), fresh = all.subspan(static_cast<std::size_t>(before));
    CacheStep step{.read = now, .from_cache = before};
    RowCounter with, without;
    const Matrix<float> cached = last_logits(m, fresh, run.cache.get(), i == 0 ? q.exec : decoding, &with, step.ms);
    const Matrix<float> afresh = last_logits(m, all, nullptr, q.exec, &without, step.ms_without);
    step.computed = with.rows, step.computed_without = without.rows;
    step.difference = (cached - afresh).cwiseAbs().maxCoeff(), step.size = cached.cwiseAbs().maxCoeff();
    step.same_choice = first_choice(cached, 0) == first_choice(afresh, 0);
    const Matrix<float> rounded = last_logits(m, fresh, &in_8_bits, i == 0 ? q.exec : decoding, nullptr, step.ms_int8);
    step.difference_int8 = (rounded - cached).cwiseAbs().maxCoeff(), step.divergence_int8 = divergence(cached, rounded);
    step.same_choice_int8 = first_choice(rounded, 0) == first_choice(cached, 0);
    run.steps.push_back(step);
    if (i == q.new_tokens) break;
    const Token next = first_choice(cached, 0);
    ids.push_back(next);
    run.text.tokens.push_back(static_cast<std::size_t>(next) < text.vocabulary.size() ? text.vocabulary[static_cast<std::size_t>(next)]
                                                                                      : "?");
  }

  const CacheShape& shape = run.cache->shape();
  const Index T = run.cache->length(0), group = q.head / (m.config.heads / shape.kv_heads);
  Workspace workspace;
  run.keys = head_of(run.cache->keys(q.layer, 0, T, workspace), T, shape.head_dim, group);
  run.values = head_of(run.cache->values(q.layer, 0, T, workspace), T, shape.head_dim, group);
  run.key_int8 = rounded_row(run.keys);
  const std::string prefix = fmt::format("blocks.{}.attn.", q.layer), keys = prefix + (m.rope ? "rot_k" : "k"), values = prefix + "v";
  Recorder<float> full({keys, values});
  decoder_read<float>(m, ids, {.exec = q.exec, .trace = &full});
  run.full_keys = full.at(keys).middleCols(group * shape.head_dim, shape.head_dim).cast<double>();
  run.full_values = full.at(values).middleCols(group * shape.head_dim, shape.head_dim).cast<double>();
  run.measured_bytes = run.cache->bytes(), run.measured_bytes_int8 = in_8_bits.bytes();
  return run;
}

SlidingProbe probe_sliding(Index capacity, Index sinks, Index tokens) {
  SlidingProbe probe{.capacity = capacity, .sinks = sinks, .kept = {}};
  KvCache<double> cache({.layers = 1, .slots = 1, .kv_heads = 1, .capacity = capacity, .head_dim = 1, .sliding = true, .sinks = sinks});
  Workspace workspace;
  for (Index t = 0; t < tokens; ++t) {
    const double key = static_cast<double>(t), value = 0;
    cache.write(0, 0, cache.reserve(0, 1), &key, &value);
    cache.commit(0, 1);
    const ops::Heads<const double> keys = cache.keys(0, 0, cache.length(0), workspace);
    std::vector<Index> kept;
    for (Index i = 0; i < cache.length(0); ++i) kept.push_back(static_cast<Index>(*keys.at(i, 0)));
    probe.kept.push_back(std::move(kept));
  }
  return probe;
}

Story explain_cache(const Decoder<float>& m, const ExplainedText& text, const CacheQuestion& q) {
  const CacheRun run = run_cache(m, text, q);
  const Index capacity = run.cache->shape().capacity;
  return cache_story(m, run, q, probe_sliding(6, 2, 9), probe_sliding(capacity, q.sinks, capacity + 10), false);
}

Story explain_cache_example(Index kv_heads, const CacheQuestion& q) {
  require(kv_heads == 1 || kv_heads == 2, "kv_heads: expected 1 or 2 for the example's 2 heads, found {}", kv_heads);
  ModelConfig c;
  c.vocab = 6, c.context = 8, c.layers = 2, c.heads = 2, c.kv_heads = kv_heads, c.width = 4, c.hidden = 4, c.position = Position::rope;
  c.embedding_std = 1, c.init_std = 0.5, c.tied = false;
  Decoder<float> m = make_decoder<float>(c);
  initialize(m, 656);  // whose random weights, with two key-value heads, happen to say the right words
  const ExplainedText text{.ids = {0}, .tokens = {"the"}, .vocabulary = {"the", "cat", "sat", "on", "a", "mat"}};
  const CacheRun run = run_cache(m, text, q);
  return cache_story(m, run, q, probe_sliding(6, 2, 9), probe_sliding(c.context, q.sinks, c.context + 10), true);
}

}  // namespace glassformer
