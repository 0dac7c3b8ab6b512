#include "glassformer/bench/inference.hpp"

#include "bench/timing.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/sample/reader.hpp"

namespace glassformer {
namespace {

// Weights between activations: those that a product reads for every token. The head is not among them.
Index block_weights(const ModelConfig& config) {
  Index count = 0;
  const auto layout = decoder_layout(config);
  for (const TensorInfo& info : layout->tensors()) count += info.kind == ParameterKind::hidden ? info.size() : 0;
  return count;
}

void check(const ModelConfig& config, const InferenceOptions& o) {
  require(o.batch > 0 && o.tokens > 0 && o.repeats > 0, "bench: expected a batch, tokens and repeats above 0, found {}, {} and {}", o.batch,
          o.tokens, o.repeats);
  require(o.tokens <= config.context, "bench: expected at most {} tokens, the context, found {}", config.context, o.tokens);
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
  check(model.config, o);
  Reader reader(model, {.max_tokens = o.tokens, .exec = o.exec});
  for (Index s = 0; s < o.batch; ++s) reader.add(1);
  reader.make_cache_for_all();
  const MemoryMeter memory(o.exec.threads);
  std::vector<std::vector<Token>> texts(static_cast<std::size_t>(o.batch));
  std::vector<Reader::Text> unread(texts.size());
  const auto decode = [&](Index tokens) {
    for (Index s = 0; s < o.batch; ++s) {
      reader.cut(s, 0);
      texts[static_cast<std::size_t>(s)] = {static_cast<Token>((1 + s) % model.config.vocab)};
    }
    for (Index i = 0; i < tokens; ++i) {
      for (std::size_t s = 0; s < texts.size(); ++s) unread[s] = {static_cast<Index>(s), texts[s]};
      const Matrix<float>& logits = reader.read_together(unread, true);
      for (std::size_t s = 0; s < texts.size(); ++s) {
        Index best = 0;
        logits.row(static_cast<Index>(s)).maxCoeff(&best);
        texts[s].push_back(static_cast<Token>(best));
      }
    }
  };
  DecodeBench result;
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
  result.ids.assign(texts[0].begin() + 1, texts[0].end());
  return result;
}

PrefillBench bench_prefill(const Decoder<float>& model, const InferenceOptions& o) {
  const ModelConfig& c = model.config;
  check(c, o);
  Reader reader(model, {.max_tokens = 1, .exec = o.exec});
  reader.add(o.tokens);
  reader.make_cache_for_all();
  Vector<float> logits;
  std::vector<Token> prompt;
  for (Index i = 0; i < o.tokens; ++i) prompt.push_back(static_cast<Token>(i * 7919 % c.vocab));
  std::vector<double> seconds;
  for (Index r = 0; r <= o.repeats; ++r) {
    reader.cut(0, 0);
    const auto start = Clock::now();
    reader.read_alone(0, prompt, logits);
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
  reader.cut(0, 0);
  Profile profile;
  reader.read_alone(0, prompt, logits);
  profile.stop();
  result.operations = operation_times(profile, 1);
  result.fma_peak_gflops_per_s = fma_peak_gflops(o.exec.threads);
  return result;
}

}  // namespace glassformer
