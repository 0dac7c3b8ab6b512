// What the benchmarks count and report; nothing is timed.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "glassformer/bench/inference.hpp"
#include "glassformer/bench/machine.hpp"
#include "glassformer/bench/train.hpp"
#include "glassformer/sample/generate.hpp"

using namespace glassformer;

namespace {

ModelConfig small_llama() {
  ModelConfig c;
  c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 64, c.hidden = 96, c.vocab = 256, c.context = 32;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false;
  return resolved(c);
}

bool has(const std::vector<OperationTime>& operations, const std::string& name) {
  return std::ranges::any_of(operations, [&](const OperationTime& o) { return o.name == name && o.ms > 0 && o.share > 0; });
}

double shares(const std::vector<OperationTime>& operations) {
  double sum = 0;
  for (const OperationTime& o : operations) sum += o.share;
  return sum;
}

}  // namespace

TEST_CASE("the limits of the machine are numbers above 0") {
  CHECK(fma_peak_gflops(2, 0.01) > 0);
  for (const Product p : {Product::forward, Product::input, Product::parameters}) CHECK(gemm_gflops(p, 33, 17, 65, 2, 0.001) > 0);
  CHECK(MemoryMeter(2, 1 << 20).read_gb_per_s(1) > 0);
  CHECK_THROWS_AS(MemoryMeter(0, 1), std::invalid_argument);
}

TEST_CASE("a training step's time has its operations, which are the whole") {
  ModelConfig c;
  c.layers = 1, c.heads = 2, c.width = 16, c.vocab = 11, c.context = 8;
  const TrainBench gpt2 = bench_train(resolved(c), 2, 2, {});
  for (const char* name : {"linear", "attention", "norm", "activation", "embedding", "loss", "optimizer", "rest"})
    CHECK_MESSAGE(has(gpt2.operations, name), name);
  CHECK_FALSE(has(gpt2.operations, "position"));
  CHECK(shares(gpt2.operations) == doctest::Approx(1));
  CHECK(has(bench_train(small_llama(), 1, 1, {}).operations, "position"));
}

TEST_CASE("bench decode writes what generate writes") {
  const Decoder<float> model = random_model(small_llama(), std::nullopt, {});
  const DecodeBench bench = bench_decode(model, {.batch = 3, .tokens = 20, .repeats = 1});
  REQUIRE(bench.ids.size() == 20);
  for (const char* name : {"linear", "attention", "norm", "activation", "embedding", "position"})
    CHECK_MESSAGE(has(bench.operations, name), name);

  GenerateOptions options;
  options.sampling.temperature = 0, options.max_tokens = 20;
  const Generation text = generate(model, byte_tokenizer(), "\x01", options);
  REQUIRE(text.prompt_ids == std::vector<Token>{1});
  CHECK(bench.ids == text.ids);
  CHECK(bench_decode(model, {.tokens = 20, .repeats = 1}).ids == bench.ids);  // alone as in company
}

TEST_CASE("bytes of a step: every weight that is read, and the cache") {
  ModelConfig c = small_llama();
  const Index cache = 2 * 2 * 2 * 16 * 4 * 7 * 3;  // keys and values, layers, heads, width, bytes, places, sequences
  const Decoder<float> tied = random_model(c, std::nullopt, {});
  CHECK(decode_step_bytes(tied, 3, 7) == decoder_bytes(tied) + cache);
  const Decoder<float> small = random_model(c, QuantizeTypes{QuantizedType::q4_0, QuantizedType::q8_0}, {});
  CHECK(decode_step_bytes(small, 3, 7) == decoder_bytes(small) + cache);
  c.tied = false;
  CHECK(decode_step_bytes(random_model(c, std::nullopt, {}), 3, 7) == decoder_bytes(tied) + cache);  // one table more, which is looked up
}

TEST_CASE("what cannot be benched is refused") {
  const Decoder<float> model = random_model(small_llama(), std::nullopt, {});
  CHECK_THROWS_WITH_AS(bench_decode(model, {.tokens = 33}), "bench: expected at most 32 tokens, the context, found 33",
                       std::invalid_argument);
  CHECK_THROWS_AS(bench_decode(model, {.batch = 0}), std::invalid_argument);
  CHECK_THROWS_AS(bench_prefill(model, {.tokens = 8, .repeats = 0}), std::invalid_argument);
  CHECK_THROWS_AS(bench_train(small_llama(), 1, 0, {}), std::invalid_argument);
}

TEST_CASE("a prompt's time has its operations") {
  const PrefillBench bench =
      bench_prefill(random_model(small_llama(), QuantizeTypes::all(QuantizedType::q8_0), {}), {.tokens = 16, .repeats = 2});
  for (const char* name : {"linear", "attention", "norm", "activation", "embedding", "position"})
    CHECK_MESSAGE(has(bench.operations, name), name);
  CHECK(shares(bench.operations) == doctest::Approx(1));
}
