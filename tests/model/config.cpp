// What a configuration refuses, what it fills in, and which parameters it stands for.
#include "glassformer/model/config.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "model/models.hpp"

namespace glassformer {
using namespace test;

TEST_CASE("config: what cannot be built is refused in one sentence that names it") {
  struct Case {
    const char* message;
    std::function<void(ModelConfig&)> change;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Case> cases = {
      {"vocabulary: expected a number from 1 to 16777216, found 0", [](ModelConfig& c) { c.vocab = 0; }},
      {"context: expected a number from 1 to 16777216, found -3", [](ModelConfig& c) { c.context = -3; }},
      {"layers: expected a number from 1 to 4096, found 0", [](ModelConfig& c) { c.layers = 0; }},
      {"layers: expected a number from 1 to 4096, found 16777216", [](ModelConfig& c) { c.layers = 1 << 24; }},
      {"heads: expected a number from 1 to 16777216, found 0", [](ModelConfig& c) { c.heads = 0; }},
      {"width: expected a number from 1 to 16777216, found 33554432", [](ModelConfig& c) { c.width = 1 << 25; }},
      {"kv-heads: expected a number from 0 to 16777216, found -1", [](ModelConfig& c) { c.kv_heads = -1; }},
      {"head-dim: expected a number from 0 to 16777216, found -1", [](ModelConfig& c) { c.head_dim = -1; }},
      {"hidden: expected a number from 0 to 16777216, found -1", [](ModelConfig& c) { c.hidden = -1; }},
      {"window: expected a number from 0 to 16777216, found -1", [](ModelConfig& c) { c.window = -1; }},
      {"4 heads cannot be grouped over 3 key-value heads: expected a divisor", [](ModelConfig& c) { c.kv_heads = 3; }},
      {"4 heads cannot be grouped over 8 key-value heads: expected a divisor", [](ModelConfig& c) { c.kv_heads = 8; }},
      {"4 heads do not divide the width 18: expected a divisor of the width", [](ModelConfig& c) { c.width = 18; }},
      {"RoPE turns pairs: expected an even head width, found 5 (width 20, 4 heads)", [](ModelConfig& c) { c.width = 20; }},
      {"norm-epsilon: expected a positive number, found 0", [](ModelConfig& c) { c.norm_epsilon = 0; }},
      {"norm-epsilon: expected a positive number, found nan", [nan](ModelConfig& c) { c.norm_epsilon = nan; }},
      {"rope-base: expected a positive number, found -1", [](ModelConfig& c) { c.rope_base = -1; }},
      {"rope-factor: expected a number from 1 to 1e+06, found 0.9", [](ModelConfig& c) { c.rope_stretch = {RopeScaling::linear, 0.9}; }},
      {"rope-factor: expected a number from 1 to 1e+06, found nan", [nan](ModelConfig& c) { c.rope_stretch = {RopeScaling::linear, nan}; }},
      {"rope-factor: expected a scaling of RoPE beside 2, found none", [](ModelConfig& c) { c.rope_stretch = {RopeScaling::none, 2}; }},
      {"NTK scaling of RoPE: expected a head width above 2, found 2", [](ModelConfig& c) { c.rope_stretch = {RopeScaling::ntk, 2}, c.width = 8; }},
      {"rope-scaling: expected rope positions beside linear, found alibi", [](ModelConfig& c) { c.position = Position::alibi, c.rope_stretch = {RopeScaling::linear, 2}; }},
      {"YaRN: expected the context that the model was trained on, 1 to 16777216 tokens, found 0", [](ModelConfig& c) { c.rope_stretch = {RopeScaling::yarn, 2}; }},
      {"initial deviation: expected 0 to 100, found -1 and 0.02", [](ModelConfig& c) { c.init_std = -1; }},
      {"dropout: expected a rate of at least 0 and below 1, found 1", [](ModelConfig& c) { c.dropout = 1; }},
      {"dropout: expected a rate of at least 0 and below 1, found nan", [nan](ModelConfig& c) { c.dropout = nan; }},
      {"start and end tokens 23 and -1 are outside the vocabulary of 23", [](ModelConfig& c) { c.bos = 23; }},
      {"start and end tokens -1 and -2 are outside the vocabulary of 23", [](ModelConfig& c) { c.eos = -2; }},
  };
  for (const Case& bad : cases) {
    ModelConfig c = tiny_config();
    bad.change(c);
    CHECK(message_of([&] { resolved(c); }) == bad.message);
    CHECK(message_of([&] { make_decoder<float>(c); }) == bad.message);
  }
  CHECK(message_of([] { resolved(tiny_config()); }).empty());
}

TEST_CASE("config: zeros stand for the usual sizes, and resolving twice changes nothing") {
  ModelConfig c = tiny_config();
  c.width = 48, c.kv_heads = 0, c.hidden = 0;
  const ModelConfig r = resolved(c);
  CHECK(r.kv_heads == 4);
  CHECK(r.head_dim == 12);
  CHECK(r.hidden == 192);
  CHECK(resolved(r) == r);
  c.mlp = Mlp::swiglu;
  CHECK(resolved(c).hidden == 128);  // 8/3·48
  c.width = 44;                      // 8/3·44 = 117.3, up to a multiple of 8
  c.position = Position::none;
  CHECK(resolved(c).hidden == 120);
  c.mlp = Mlp::none;
  CHECK(resolved(c).hidden == 0);
  c.norm = ops::Norm::rms;
  CHECK_FALSE(resolved(c).norm_bias);
  ModelConfig stretch = tiny_config();
  stretch.rope_stretch = {RopeScaling::linear, 2, 64};
  CHECK(resolved(stretch).rope_stretch == RopeStretch{RopeScaling::linear, 2});  // only YaRN reads the trained context
  stretch.rope_stretch.scaling = RopeScaling::yarn;
  CHECK(resolved(stretch).rope_stretch.trained_context == 64);
}

TEST_CASE("config: choices and presets by name") {
  CHECK(*choice_named<Position>("alibi") == Position::alibi);
  CHECK(choice_named<Mlp>("relu").error() == "expected one of gelu, gelu-exact, swiglu, none, found relu");
  CHECK(choice_name(NormPlacement::post) == "post");
  CHECK(choice_named<RopeScaling>("dynamic").error() == "expected one of none, linear, ntk, yarn, yarn-pairs, found dynamic");
  CHECK(model_preset("nanno").error() == "expected a preset of nano, nano-llama, stories, shakespeare, gpt2, found nanno");
  for (const std::string& name : model_preset_names()) {
    ModelConfig c = model_preset(name).value();
    c.vocab = 65;
    CHECK(message_of([&] { resolved(c); }).empty());
  }
  const auto parameters = [](const char* name, Index vocab) {
    ModelConfig c = model_preset(name).value();
    c.vocab = vocab;
    return decoder_layout(c)->parameters();
  };
  CHECK(parameters("gpt2", 50257) == 124439808);  // as published
  CHECK(parameters("nano-llama", 65) <= parameters("nano", 65));
}

TEST_CASE("layout: names and shapes, in order") {
  const auto names = [](const ModelConfig& c) {
    std::string all;
    const auto layout = decoder_layout(c);  // lives as long as the loop
    for (const TensorInfo& t : layout->tensors()) all += t.name + " " + std::to_string(t.rows) + "x" + std::to_string(t.cols) + "\n";
    return all;
  };
  ModelConfig c = tiny_config(Position::learned);
  c.layers = 1, c.head_dim = 6;  // (4 + 2·2)·6 = 48 rows of q, k and v
  CHECK(names(c) ==
        "embed.weight 23x16\npos_embed.weight 32x16\nblocks.0.ln1.weight 1x16\nblocks.0.ln1.bias 1x16\nblocks.0.attn.qkv.weight 48x16\n"
        "blocks.0.attn.qkv.bias 1x48\nblocks.0.attn.out.weight 16x24\nblocks.0.attn.out.bias 1x16\nblocks.0.ln2.weight 1x16\nblocks.0.ln2.bias 1x16\n"
        "blocks.0.mlp.up.weight 24x16\nblocks.0.mlp.up.bias 1x24\nblocks.0.mlp.down.weight 16x24\nblocks.0.mlp.down.bias 1x16\nln_final.weight 1x16\n"
        "ln_final.bias 1x16\n");
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.tied = false, c.placement = NormPlacement::post;
  CHECK(names(c) ==
        "embed.weight 23x16\nblocks.0.ln1.weight 1x16\nblocks.0.attn.qkv.weight 48x16\nblocks.0.attn.out.weight 16x24\nblocks.0.ln2.weight 1x16\n"
        "blocks.0.mlp.up.weight 48x16\nblocks.0.mlp.down.weight 16x24\nunembed.weight 23x16\n");
  c.mlp = Mlp::none;
  CHECK(names(c) == "embed.weight 23x16\nblocks.0.ln1.weight 1x16\nblocks.0.attn.qkv.weight 48x16\nblocks.0.attn.out.weight 16x24\nunembed.weight 23x16\n");
}

TEST_CASE("initialize: deviations as GPT-2, gains one, biases zero, each tensor a stream of its own") {
  ModelConfig c = tiny_config(Position::learned);
  c.vocab = 300, c.width = 64, c.hidden = 256, c.layers = 3, c.init_std = 0.05, c.embedding_std = 0.3, c.tied = false;
  Decoder<double> m = make_decoder<double>(c);
  CHECK(as_row(m.arena).isZero(0));
  initialize(m, 5);
  for (const TensorInfo& t : m.arena.layout().tensors()) {
    const auto view = *m.arena.view(t);
    INFO(t.name);
    if (t.kind == ParameterKind::vector) {
      CHECK((view.array() == (t.name.ends_with(".weight") ? 1 : 0)).all());
      CHECK_FALSE(t.decay());
      continue;
    }
    const bool residual = t.name.ends_with("out.weight") || t.name.ends_with("down.weight");
    const bool head = t.name == "unembed.weight";  // a head of its own starts small
    const double expected = t.kind == ParameterKind::embedding && !head ? 0.3 : residual ? 0.05 / std::sqrt(6.0) : 0.05;
    const double n = static_cast<double>(view.size()), deviation = std::sqrt(view.squaredNorm() / n);
    CHECK(std::abs(view.mean()) < 5 * expected / std::sqrt(n));
    CHECK(std::abs(deviation / expected - 1) < 5 / std::sqrt(2 * n));
  }
  CHECK((*m.blocks[0].mlp.up.weight - *m.blocks[1].mlp.up.weight).norm() > 1);

  Decoder<double> again = make_decoder<double>(c), other = make_decoder<double>(c);
  initialize(again, 5), initialize(other, 6);
  CHECK(same_bits(as_row(m.arena), as_row(again.arena)));
  CHECK_FALSE(same_bits(as_row(m.arena), as_row(other.arena)));
  c.hidden = 100, c.position = Position::alibi;  // a change elsewhere changes no draw here
  Decoder<double> changed = make_decoder<double>(c);
  initialize(changed, 5);
  CHECK(same_bits(*m.blocks[2].attention.qkv.weight, *changed.blocks[2].attention.qkv.weight));
}

TEST_CASE("tied: the head is the embedding, and its gradient is the sum of both uses") {
  ModelConfig c = tiny_config();
  const Decoder<double> tied = random_decoder<double>(c);
  CHECK(tied.unembed.weight.dense.data == tied.embed.weight.dense.data);
  c.tied = false;
  Decoder<double> untied = random_decoder<double>(c);
  CHECK(untied.unembed.weight.dense.data != untied.embed.weight.dense.data);
  *untied.unembed.weight = *untied.embed.weight;
  const std::vector<Token> ids = random_ids(12, c.vocab);
  CHECK(largest_difference(logits_of(tied, ids), logits_of(untied, ids)) == 0);
  const auto a = Runner<double>{tied}.gradients(ids, {12}), b = Runner<double>{untied}.gradients(ids, {12});
  CHECK(relative_error(*a.embed.weight, *b.embed.weight + *b.unembed.weight) < 1e-14);
}

TEST_CASE("convert: a model in another precision is the same model") {
  const Decoder<double> d = random_decoder<double>(tiny_config());
  const Decoder<float> f = convert_decoder<float, double>(d);
  CHECK(same_bits(as_row(convert_decoder<float, double>(convert_decoder<double, float>(f)).arena), as_row(f.arena)));
  const std::vector<Token> ids = random_ids(12, 23);
  CHECK(relative_error(logits_of(d, ids), logits_of(f, ids)) < 1e-6);
}

}  // namespace glassformer
