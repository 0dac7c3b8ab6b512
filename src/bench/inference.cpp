#include "glassformer/bench/inference.hpp"

#include <numeric>

#include "bench/timing.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

// B sequences that are read into one cache, and the logits after the last token of each.
class Reader {
 public:
  Reader(const Decoder<float>& model, Index batch, Index tokens, const Exec& exec)
      : model_(model),
        exec_(exec),
        cache_(make_cache(model, batch, tokens)),
        slots_(static_cast<std::size_t>(batch)),
        bounds_(slots_.size() + 1),
        hidden_(batch * tokens, model.config.width),
        logits_(batch, model.config.vocab) {
    require(tokens <= model.config.context, "bench: expected at most {} tokens, the context, found {}", model.config.context, tokens);
    std::iota(slots_.begin(), slots_.end(), Index{0});
  }

  void forget() {
    for (const Index s : slots_) cache_.truncate(s, 0);
  }

  // Reads ids [B·n], n more tokens of each sequence; B or n is 1. `row_exact` as in generate: one at a time, but not where a prompt is read.
  const Matrix<float>& read(std::span<const Token> ids, bool row_exact) {
    const Index batch = static_cast<Index>(slots_.size()), each = static_cast<Index>(ids.size()) / batch;
    for (Index s = 0; s <= batch; ++s) bounds_[static_cast<std::size_t>(s)] = s * each;
    Pass<float> pass = this->pass(row_exact);
    pass.cache = &cache_, pass.slots = slots_;
    auto hidden = hidden_.topRows(batch * each);
    decoder_forward<float>(model_, pass, ids, hidden);

    std::iota(bounds_.begin(), bounds_.end(), Index{0});
    decoder_logits<float>(model_, this->pass(true), hidden.bottomRows(batch), logits_);
    return logits_;
  }

 private:
  Pass<float> pass(bool row_exact) {
    Pass<float> pass;
    pass.exec = exec_;
    pass.exec.row_exact = row_exact;
    pass.starts = bounds_;
    pass.workspace = &workspace_;
    return pass;
  }

  const Decoder<float>& model_;
  Exec exec_;
  KvCache<float> cache_;
  std::vector<Index> slots_, bounds_;
  Matrix<float> hidden_, logits_;  // [N, C], [B, V]
  Workspace workspace_;
};

// Weights between activations: those that a product reads for every token. The head is not among them.
Index block_weights(const ModelConfig& config) {
  Index count = 0;
  const auto layout = decoder_layout(config);
  for (const TensorInfo& info : layout->tensors()) count += info.kind == ParameterKind::hidden ? info.size() : 0;
  return count;
}

void check(const InferenceOptions& o) {
  require(o.batch > 0 && o.tokens > 0 && o.repeats > 0, "bench: expected a batch, tokens and repeats above 0, found {}, {} and {}", o.batch,
          o.tokens, o.repeats);
}

}  // namespace

Decoder<float> random_model(const ModelConfig& config, const std::optional<QuantizeTypes>& types, const Exec& exec) {
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, 1);
  return types ? quantize_decoder(model, *types, exec) : std::move(model);
}

Index decode_step_bytes(const Decoder<float>& m, Index batch, double places) {
  const ModelConfig& c = m.config;
  const Index table = m.pos_embed.size() * static_cast<Index>(sizeof(float));
  const Index looked_up = c.tied                     ? 0
                          : m.embed.weight.quantized ? m.embed.weight.quantized->bytes()
                                                     : m.embed.weight.size() * static_cast<Index>(sizeof(float));
  const double cache = 2.0 * static_cast<double>(c.layers * c.kv_heads * c.head_dim * batch) * places * sizeof(float);
  return decoder_bytes(m) - table - looked_up + static_cast<Index>(cache);
}

DecodeBench bench_decode(const Decoder<float>& model, const InferenceOptions& o) {
  check(o);
  const Index V = model.config.vocab;
  Reader reader(model, o.batch, o.tokens, o.exec);
  const MemoryMeter memory(o.exec.threads);
  DecodeBench result;
  std::vector<Token> next(static_cast<std::size_t>(o.batch));
  const auto decode = [&](Index tokens) {
    reader.forget();
    result.ids.clear();
    for (std::size_t s = 0; s < next.size(); ++s) next[s] = static_cast<Token>((1 + static_cast<Index>(s)) % V);
    for (Index i = 0; i < tokens; ++i) {
      const Matrix<float>& logits = reader.read(next, true);
      for (std::size_t s = 0; s < next.size(); ++s) {
        Index best = 0;
        logits.row(static_cast<Index>(s)).maxCoeff(&best);
        next[s] = static_cast<Token>(best);
      }
      result.ids.push_back(next[0]);
    }
  };
  result.weight_bytes = decoder_bytes(model);
  result.step_bytes = decode_step_bytes(model, o.batch, static_cast<double>(o.tokens + 1) / 2);
  const double bytes = static_cast<double>(result.step_bytes * o.tokens);

  decode(1);  // allocates
  std::vector<double> seconds, shares;
  double before = memory.read_gb_per_s();
  for (Index r = 0; r < o.repeats; ++r) {
    const auto start = Clock::now();
    decode(o.tokens);
    seconds.push_back(seconds_since(start));
    const double after = memory.read_gb_per_s();
    shares.push_back(bytes / seconds.back() / 1e9 / std::max(before, after));
    result.memory_gb_per_s = std::max({result.memory_gb_per_s, before, after});
    before = after;
  }
  const double tokens = static_cast<double>(o.batch * o.tokens);
  result.seconds = std::ranges::min(seconds);
  result.tokens_per_s = tokens / result.seconds;
  result.median_tokens_per_s = tokens / median(seconds);
  result.step_ms = 1e3 * result.seconds / static_cast<double>(o.tokens);
  result.read_gb_per_s = bytes / result.seconds / 1e9;
  result.share_of_memory_limit = median(shares);
  Profile profile;
  decode(o.tokens);
  profile.stop();
  result.operations = operation_times(profile, static_cast<double>(o.tokens));
  return result;
}

PrefillBench bench_prefill(const Decoder<float>& model, const InferenceOptions& o) {
  check(o);
  const ModelConfig& c = model.config;
  Reader reader(model, 1, o.tokens, o.exec);
  std::vector<Token> prompt;
  for (Index i = 0; i < o.tokens; ++i) prompt.push_back(static_cast<Token>(i * 7919 % c.vocab));
  std::vector<double> seconds;
  for (Index r = 0; r <= o.repeats; ++r) {
    reader.forget();
    const auto start = Clock::now();
    reader.read(prompt, false);
    if (r > 0) seconds.push_back(seconds_since(start));
  }
  const double N = static_cast<double>(o.tokens), best = std::ranges::min(seconds);
  const double products = static_cast<double>(block_weights(c)) * N + static_cast<double>(c.vocab * c.width);
  const double attention = static_cast<double>(c.layers * c.heads * c.head_dim) * N * (N + 1);  // q·k and p·v, each for N(N + 1)/2 pairs
  PrefillBench result;
  result.ms = 1e3 * best;
  result.tokens_per_s = N / best;
  result.median_tokens_per_s = N / median(seconds);
  result.gflops_per_s = 2 * (products + attention) / best / 1e9;
  reader.forget();
  Profile profile;
  reader.read(prompt, false);
  profile.stop();
  result.operations = operation_times(profile, 1);
  result.fma_peak_gflops_per_s = fma_peak_gflops(o.exec.threads);
  return result;
}

}  // namespace glassformer
