// LoRA on a decoder: attached, merged, restored; and the KV cache.
#include "glassformer/model/adapter.hpp"

#include <doctest/doctest.h>

#include "glassformer/model/quantize.hpp"
#include "model/models.hpp"

namespace glassformer {
using namespace test;

TEST_CASE("adapter: a fresh one changes nothing to the bit; attached equals merged; restore gives the bits back") {
  for (const auto& mlp : choices<Mlp>()) {
    for (const bool separate : {false, true}) {
      ModelConfig c = tiny_config();
      c.mlp = mlp.value;
      LoraConfig lora;
      lora.rank = 3;
      lora.rank_stabilized = separate;
      if (separate) lora.targets = {"attn.v", "attn.q", "attn.out"};
      const std::vector<Token> ids = random_ids(20, 23);
      Decoder<float> m = random_decoder<float>(c);
      const Arena<float> weights = m.arena.clone();
      const Matrix<float> before = logits_of(m, ids);
      const Adapter<float> fresh = make_adapter<float>(c, lora, 1);
      attach(m, fresh);
      CHECK(same_bits(logits_of(m, ids), before));
      detach(m);

      const Adapter<float> adapter = random_adapter<float>(c, lora);
      attach(m, adapter);
      const Matrix<float> attached = logits_of(m, ids);
      CHECK(relative_error(attached, before) > 1e-2);
      const Arena<float> kept = merge(m, adapter, {});
      CHECK(m.blocks[0].attention.qkv.adapters.empty());
      CHECK(largest_difference(logits_of(m, ids), attached) < 1e-5);
      CHECK_FALSE(same_bits(as_row(m.arena), as_row(weights)));
      restore(m, kept);
      CHECK(same_bits(as_row(m.arena), as_row(weights)));
      CHECK(same_bits(logits_of(m, ids), before));
    }
  }
}

TEST_CASE("adapter: names, shapes, the start of A and B") {
  ModelConfig c = tiny_config();
  c.mlp = Mlp::swiglu, c.layers = 1;
  const Adapter<double> a = make_adapter<double>(c, {}, 1);
  CHECK(a.config.targets == std::vector<std::string>{"attn.q", "attn.k", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down"});
  CHECK(a.arena.view("blocks.0.attn.k.lora_A").cols == 16);
  CHECK(a.arena.view("blocks.0.attn.k.lora_B").rows == 8);
  const auto A = *a.arena.view("blocks.0.mlp.down.lora_A");
  const double bound = 1 / std::sqrt(24.0);
  CHECK(A.cwiseAbs().maxCoeff() <= bound);
  CHECK(A.cwiseAbs().maxCoeff() > 0.9 * bound);
  CHECK(std::abs(A.mean()) < 0.2 * bound);
  CHECK((*a.arena.view("blocks.0.mlp.down.lora_B")).isZero(0));
}

TEST_CASE("adapter: what does not fit is refused before anything is changed") {
  const ModelConfig c = tiny_config();
  const auto says = [&](auto&& change) {
    LoraConfig lora;
    change(lora);
    return message_of([&] { make_adapter<float>(c, lora, 1); });
  };
  CHECK(says([](LoraConfig& l) { l.rank = 0; }) == "LoRA: expected a positive rank, found 0");
  CHECK(says([](LoraConfig& l) { l.rank = 17; }) == "LoRA: rank 17 is above that of attn.qkv [32, 16]");
  CHECK(says([](LoraConfig& l) { l.alpha = 0; }) == "LoRA: expected a positive alpha, found 0");
  CHECK(says([](LoraConfig& l) { l.dropout = 1; }) == "LoRA: expected a dropout of at least 0 and below 1, found 1");
  CHECK(says([](LoraConfig& l) { l.targets = {"mlp.gate"}; }) == "LoRA: expected targets of attn.qkv, attn.q, attn.k, attn.v, attn.out, mlp.up, mlp.down, embed, found mlp.gate");

  CHECK(says([](LoraConfig& l) { l.rank_pattern = {{"attn.q", 2}}; }) == "LoRA: rank pattern: expected one of the targets, found attn.q");
  CHECK(says([](LoraConfig& l) { l.alpha_pattern = {{"mlp.up", -1}}; }) == "LoRA: expected a positive alpha, found -1");
  CHECK(says([](LoraConfig& l) { l.rank_pattern = {{"blocks.1.mlp.up", 17}}; }) == "LoRA: rank 17 is above that of mlp.up [24, 16]");
  CHECK(says([](LoraConfig& l) { l.dora = true, l.targets = {"embed"}; }) == "LoRA: expected linear layers under DoRA, found embed");
  CHECK(says([](LoraConfig& l) { l.dora = true, l.targets = {"attn.k", "attn.qkv"}; }) ==
        "LoRA: expected each row in one target under DoRA, found rows of both blocks.0.attn.k and blocks.0.attn.qkv");
  CHECK(says([](LoraConfig& l) { l.targets = {"unembed"}; }).ends_with("mlp.down, embed, found unembed"));

  ModelConfig deeper = c, wider = c;
  deeper.layers = 3, wider.width = 32, wider.hidden = 48;
  Decoder<float> m = random_decoder<float>(c);
  const Arena<float> weights = m.arena.clone();
  const std::string blocks = "adapter blocks.2.attn.qkv: the model has 2 blocks";
  const std::string shape = "adapter blocks.0.attn.qkv: made for rows 0 to 64 of 32 inputs, but the model's attn.qkv is [32, 16]";
  CHECK(message_of([&] { attach(m, random_adapter<float>(deeper, {})); }) == blocks);
  CHECK(message_of([&] { merge(m, random_adapter<float>(deeper, {}), {}); }) == blocks);
  CHECK(message_of([&] { attach(m, random_adapter<float>(wider, {})); }) == shape);
  CHECK(message_of([&] { merge(m, random_adapter<float>(wider, {}), {}); }) == shape);
  CHECK(message_of([&] { restore(m, random_decoder<float>(wider).arena); }) == "restore: the kept weights are another model's");
  CHECK(m.blocks[0].attention.qkv.adapters.empty());
  CHECK(same_bits(as_row(m.arena), as_row(weights)));
}

// What an adapter may be, by name.
struct Variety {
  std::string name;
  LoraConfig lora;
  bool tied = true;
};
std::vector<Variety> varieties() {
  std::vector<Variety> all(7);
  all[0].name = "LoRA";
  all[1].name = "rsLoRA", all[1].lora.rank_stabilized = true;
  all[2].name = "DoRA", all[2].lora.dora = true;
  all[3].name = "DoRA of parts", all[3].lora.dora = true, all[3].lora.targets = {"attn.k", "blocks.1.attn.q", "mlp.down"};
  all[4].name = "tied embedding", all[4].lora.targets = {"embed", "attn.v"};
  all[5].name = "embedding and head", all[5].lora.targets = {"embed", "unembed"}, all[5].tied = false;
  all[6].name = "patterns", all[6].lora.rank_pattern = {{"attn.q", 1}, {"blocks.1.attn.out", 5}}, all[6].lora.alpha_pattern = {{"mlp.down", 3}};
  for (Variety& v : all) v.lora.rank = 3, v.lora.alpha = 7;
  all[6].lora.targets = {"attn.q", "attn.out", "mlp.down"};
  return all;
}
ModelConfig config_of(const Variety& v) {
  ModelConfig c = tiny_config();
  c.tied = v.tied;
  return c;
}
template <class S> Adapter<S> trained(const Decoder<S>& m, const LoraConfig& lora, std::uint64_t seed = 1) {
  Adapter<S> a = make_adapter<S>(m, lora, seed);
  const RandomStream stream = RandomStream{seed}.at("trained");
  for (const TensorInfo& info : a.arena.layout().tensors()) {
    const MatrixView<S> view = a.arena.view(info);
    for (Index i = 0; i < view.size(); ++i) {
      const auto n = static_cast<S>(random_normal(stream.at(info.name), static_cast<std::uint64_t>(i)));
      view.data[i] = info.name.ends_with("magnitude") ? view.data[i] * (1 + S(0.2) * n) : view.data[i] + S(0.1) * n;
    }
  }
  return a;
}

TEST_CASE_TEMPLATE("adapter: every kind changes nothing when fresh, is the same merged, and leaves the base's bits", S, float, double) {
  const double tolerance = std::is_same_v<S, float> ? 1e-5 : 1e-12;
  const std::vector<Token> ids = random_ids(20, 23);
  for (const Variety& v : varieties()) {
    INFO(v.name);
    Decoder<S> m = random_decoder<S>(config_of(v));
    const Arena<S> weights = m.arena.clone();
    const Matrix<S> before = logits_of(m, ids);
    const Adapter<S> fresh = make_adapter<S>(m, v.lora, 1), adapter = trained(m, v.lora);
    attach(m, fresh);
    CHECK(same_bits(logits_of(m, ids), before));
    detach(m);
    attach(m, adapter);
    const Matrix<S> attached = logits_of(m, ids);
    CHECK(relative_error(attached, before) > 1e-2);
    CHECK(same_bits(as_row(m.arena), as_row(weights)));
    // The sum of what adapter_change says is what merging adds.
    Arena<S> expected = m.arena.clone();
    for (const AdapterTarget& t : adapter.targets) (*expected.view(t.tensor())).middleRows(t.row_begin, t.rows) += adapter_change(m, adapter, t, {});
    const Arena<S> kept = merge(m, adapter, {});
    CHECK(relative_error(as_row(m.arena), as_row(expected)) < tolerance);
    CHECK(relative_error(logits_of(m, ids), attached) < tolerance);
    restore(m, kept);
    CHECK(same_bits(as_row(m.arena), as_row(weights)));
    CHECK(same_bits(logits_of(m, ids), before));
  }
}

TEST_CASE("adapter: ranks and alphas by pattern, one layer's before the target's") {
  const Variety v = varieties()[6];
  const Adapter<float> a = make_adapter<float>(config_of(v), v.lora, 1);
  const auto target = [&](const std::string& name) { return *std::ranges::find(a.targets, name, &AdapterTarget::name); };
  CHECK(target("blocks.0.attn.q").rank == 1);
  CHECK(target("blocks.0.attn.out").rank == 3);
  CHECK(target("blocks.1.attn.out").rank == 5);
  CHECK(target("blocks.1.mlp.down").alpha == 3);
  CHECK(a.arena.view("blocks.1.attn.out.lora_A").rows == 5);
  Decoder<float> m = random_decoder<float>(config_of(v));
  attach(m, a);
  CHECK(m.blocks[0].mlp.down.adapters[0].scale == 1.0F);  // 3/3
  CHECK(m.blocks[1].attention.out.adapters[0].scale == doctest::Approx(7.0 / 5));
}

TEST_CASE("adapters: mixed by weight, by sequence, and switched off, over one base") {
  ModelConfig c = tiny_config();
  Decoder<double> m = random_decoder<double>(c);
  LoraConfig lora, dora, embedding;
  dora.dora = true, embedding.targets = {"embed", "mlp.up"};
  const Adapter<double> a = trained(m, lora, 1), b = trained(m, dora, 2), e = trained(m, embedding, 3);
  const std::vector<Token> ids = random_ids(12, 23);
  const Matrix<double> base = logits_of(m, ids);

  // Weights: the model is W + 0.5·ΔWa − 0.25·ΔWb + 2·ΔWe.
  attach(m, a, 0.5), attach(m, b, -0.25), attach(m, e, 2);
  const Matrix<double> mixed = logits_of(m, ids);
  Decoder<double> summed = random_decoder<double>(c);
  const Decoder<double> plain = random_decoder<double>(c);
  for (const auto& [adapter, weight] : {std::pair(&a, 0.5), std::pair(&b, -0.25), std::pair(&e, 2.0)}) {
    for (const AdapterTarget& t : adapter->targets) {
      (*summed.arena.view(t.tensor())).middleRows(t.row_begin, t.rows) += weight * adapter_change(plain, *adapter, t, {});
    }
  }
  CHECK(relative_error(mixed, logits_of(summed, ids)) < 1e-12);
  CHECK(relative_error(mixed, base) > 1e-2);
  detach(m);
  attach(m, a, 0), attach(m, b, 0);
  CHECK(same_bits(logits_of(m, ids), base));
  detach(m);

  // Requests: two sequences of one pass, each with a mixture of its own.
  attach(m, a), attach(m, b), attach(m, e);
  const Matrix<double> mix = (Matrix<double>(2, 3) << 0.5, -0.25, 2, 0, 1, 0).finished();
  Runner<double> run{m};
  Pass<double> pass = run.pass({12, 12});
  pass.mix = {mix.data(), 2, 3};
  std::vector<Token> both = ids;
  both.insert(both.end(), ids.begin(), ids.end());
  Matrix<double> hidden(24, c.width), logits(24, c.vocab);
  decoder_forward<double>(m, pass, both, hidden);
  decoder_logits<double>(m, pass, hidden, logits);
  CHECK(relative_error(Matrix<double>(logits.topRows(12)), mixed) < 1e-12);
  detach(m), attach(m, b);
  CHECK(relative_error(Matrix<double>(logits.bottomRows(12)), logits_of(m, ids)) < 1e-12);
  pass.mix = {mix.data(), 2, 3};
  CHECK(message_of([&] { decoder_forward<double>(m, pass, both, hidden); }) == "a mix of adapters: expected shape [2, 1], found [2, 3]");
}

TEST_CASE("soft prompt: rows before the text, in the cache too; it is no token of the vocabulary") {
  const ModelConfig c = tiny_config(Position::rope);
  Decoder<double> m = random_decoder<double>(c);
  const std::vector<Token> ids = random_ids(9, 23);
  Adapter<double> prompt = make_soft_prompt<double>(m, 3, 1);
  CHECK(prompt.prompt_tokens() == 3);
  // A prompt of embeddings of real tokens is those tokens.
  const std::vector<Token> words = {4, 17, 9};
  for (Index i = 0; i < 3; ++i) (*prompt.arena.view("prompt.weight")).row(i) = (*m.embed.weight).row(words[static_cast<std::size_t>(i)]);
  std::vector<Token> text = words;
  text.insert(text.end(), ids.begin(), ids.end());
  const Matrix<double> expected = logits_of(m, text);
  attach(m, prompt);
  std::vector<Token> virtual_ids = soft_prompt_ids(m);
  CHECK(virtual_ids == std::vector<Token>{23, 24, 25});
  virtual_ids.insert(virtual_ids.end(), ids.begin(), ids.end());
  CHECK(same_bits(logits_of(m, virtual_ids), expected));
  KvCache<double> cache = make_cache(m, 1);
  Runner<double> run{m, {}, nullptr, &cache, {0}};
  run.logits({virtual_ids.begin(), virtual_ids.begin() + 5});
  CHECK(largest_difference(run.logits({virtual_ids.begin() + 5, virtual_ids.end()}), Matrix<double>(expected.bottomRows(7))) < 1e-12);
  CHECK(message_of([&] { logits_of(m, {26}); }) == "expected a token in 0 … 25, found 26");
  CHECK(message_of([&] { attach(m, prompt); }) == "soft prompt: expected one at a time, found another attached");
  CHECK(message_of([&] { merge(m, prompt, {}); }) == "merge: expected an adapter of the weights, found a soft prompt, which is a text and no change of them");
  detach(m);
  CHECK(message_of([&] { logits_of(m, {23}); }) == "expected a token in 0 … 22, found 23");
  CHECK(message_of([&] { make_soft_prompt(m, c.context, 1); }).starts_with("soft prompt: expected 1 to "));
}

TEST_CASE("quantized: a decoder computes what its dequantized copy does, decodes alike, and is never merged into or trained by mistake") {
  ModelConfig c = tiny_config(Position::rope);
  c.width = c.hidden = 64, c.mlp = Mlp::swiglu, c.bias = false, c.head_dim = 16;
  const Decoder<float> full = random_decoder<float>(c);
  const std::vector<Token> ids = random_ids(20, 23);
  for (const QuantizedType type : {QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4}) {
    INFO(quantized_name(type));
    Decoder<float> m = quantize_decoder(full, QuantizeTypes::all(type));
    CHECK(m.quantized.size() == 1 + 4 * 2);
    CHECK(m.arena.view("blocks.0.mlp.up.weight").data == nullptr);
    CHECK(decoder_parameters(m) == decoder_parameters(full));
    CHECK(decoder_bytes(m) < decoder_bytes(full) / 3);
    const Decoder<float> copy = dequantize_decoder(m);
    const Matrix<float> logits = logits_of(m, ids);
    CHECK(relative_error(logits, logits_of(copy, ids)) < 1e-5);
    const double cost = relative_error(logits, logits_of(full, ids));
    CHECK(cost > 1e-4);
    CHECK(cost < (type == QuantizedType::q8_0 ? 0.05 : 0.5));
    KvCache<float> cache = make_cache(m, 1);
    Runner<float> run{m, {}, nullptr, &cache, {0}};
    run.exec.row_exact = true;
    run.logits({ids.begin(), ids.begin() + 19});
    CHECK(largest_difference(run.logits({ids.back()}), Matrix<float>(logits.bottomRows(1))) < 1e-5);

    // An adapter sits on it as on its copy.
    const Adapter<float> adapter = trained(copy, {});
    Decoder<float> other = dequantize_decoder(m);
    attach(m, adapter), attach(other, adapter);
    CHECK(relative_error(logits_of(m, ids), logits_of(other, ids)) < 1e-5);
    CHECK(message_of([&] { merge(m, adapter, {}); }) ==
          fmt::format("merge: expected blocks.0.attn.qkv.weight in floating point, found it in {}", quantized_name(type)));
    CHECK(message_of([&] { make_gradients(m); }) == "gradients: expected a model in floating point, found 9 quantized tensors: train an adapter of it");
    CHECK(message_of([&] { quantize_decoder(m, {}); }) == "quantize: expected a model in floating point, found a quantized one");
  }
}

TEST_CASE_TEMPLATE("cache: a prompt in two pieces and then token by token gives the logits of one pass", S, float, double) {
  const double tolerance = std::is_same_v<S, float> ? 1e-5 : 1e-12;
  for (const auto& position : choices<Position>()) {
    for (const Index kv_heads : {4, 2, 1}) {
      for (const Index window : {0, 4}) {
        ModelConfig c = tiny_config(position.value);
        c.kv_heads = kv_heads, c.window = window;
        Decoder<S> m = random_decoder<S>(c);
        const Adapter<S> adapter = random_adapter<S>(c, {});
        attach(m, adapter);
        const std::vector<Token> ids = random_ids(24, 23), other = random_ids(24, 23, 2);
        const Matrix<S> whole = logits_of(m, ids), whole_other = logits_of(m, other);
        KvCache<S> cache = make_cache(m, 2);
        Runner<S> run{m, {}, nullptr, &cache, {0}};
        Matrix<S> cached(24, 23), cached_other(24, 23);
        const auto piece = [](const std::vector<Token>& all, Index begin, Index end) { return std::vector<Token>(all.begin() + begin, all.begin() + end); };
        cached.topRows(7) = run.logits(piece(ids, 0, 7));
        cached.middleRows(7, 9) = run.logits(piece(ids, 7, 16));
        run.slots = {1};
        cached_other.topRows(16) = run.logits(piece(other, 0, 16));
        run.slots = {1, 0};  // decoding both at once, in the other order
        for (Index t = 16; t < 24; ++t) {
          const Matrix<S> both = run.logits({other[static_cast<std::size_t>(t)], ids[static_cast<std::size_t>(t)]}, {1, 1});
          cached_other.row(t) = both.row(0), cached.row(t) = both.row(1);
        }
        INFO(position.name, " kv heads ", kv_heads, " window ", window);
        CHECK(largest_difference(cached, whole) < tolerance);
        CHECK(largest_difference(cached_other, whole_other) < tolerance);
      }
    }
  }
}

}  // namespace glassformer
