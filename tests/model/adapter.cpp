// LoRA on a decoder: attached, merged, restored; and the KV cache.
#include "glassformer/model/adapter.hpp"

#include <doctest/doctest.h>

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
