#include "glassformer/explain/backward.hpp"

#include "explain/backward_teller.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

Story told(const Decoder<double>& m, const ExplainedText& text, std::vector<Token> targets, const BackwardQuestion& q, bool example) {
  require_layer(q.layer, m.config.layers);
  require(q.head >= 0 && q.head < m.config.heads, "head: expected 0 … {}, found {}", m.config.heads - 1, q.head);
  checked_place(q.token, text);
  const BackwardPass pass(m, text.ids, std::move(targets), q);
  return BackwardTeller(pass, text, q, example).tell();
}

// Four words are the vocabulary. Channels: article, noun, verb, direction.
Decoder<double> example_model() {
  ModelConfig c;
  c.vocab = 4, c.context = 4, c.layers = 1, c.heads = 1, c.width = 4, c.head_dim = 2, c.hidden = 3;
  c.position = Position::none, c.norm = ops::Norm::rms, c.mlp = Mlp::gelu_exact, c.bias = false, c.norm_bias = false;
  Decoder<double> m = make_decoder<double>(c);
  set_parameter(m, "embed.weight", {{1, 0, 0, 0.5}, {0, 1, 0.5, 0}, {0, 0.5, 1, 0.5}, {0.5, 0, 0.5, 1}});
  set_parameter(m, "blocks.0.ln1.weight", {{1, 1, 1, 1}});
  set_parameter(m, "blocks.0.attn.qkv.weight",
                {{0, 1, 1, 0}, {0.5, 0, 0, 1}, {0, 1, 0, 0}, {1, 0, 0, 0.5}, {0, 1, 0, 0.5}, {1, 0, 0.5, 0}});
  set_parameter(m, "blocks.0.attn.out.weight", {{0.5, 0}, {0, 1}, {1, 0}, {0, 0.5}});
  set_parameter(m, "blocks.0.ln2.weight", {{1, 1, 1, 1}});
  set_parameter(m, "blocks.0.mlp.up.weight", {{0, 0.5, 1, 0}, {0.5, 0, 0, -0.5}, {-0.5, 0, 0.5, 1}});
  set_parameter(m, "blocks.0.mlp.down.weight", {{0, 1, 0}, {0.5, 0, 0}, {0, 0.5, 0.5}, {1, 0, 0.5}});
  set_parameter(m, "ln_final.weight", {{1, 1, 1, 1}});
  return m;
}

}  // namespace

Story explain_backward(const Decoder<double>& m, const ExplainedText& text, const BackwardQuestion& q) {
  require_text(text, m.config.context);
  const Index T = static_cast<Index>(text.ids.size());
  require(T >= 2, "prompt: expected at least two tokens, one to predict the other, found {}", T);
  for (const BlockParams<double>& b : m.blocks) {
    for (const Projection<double>* p : {&b.attention.qkv, &b.attention.out, &b.mlp.up, &b.mlp.down})
      require(p->adapters.empty(), "backward: expected a model without an attached adapter, found one: merge it first");
  }
  std::vector<Token> targets(text.ids.begin() + 1, text.ids.end());
  targets.push_back(-1);
  return told(m, text, std::move(targets), q, false);
}

Story explain_backward_example(const BackwardQuestion& q) {
  ExplainedText text;
  text.ids = {0, 1, 2}, text.tokens = {"the", "cat", "sat"}, text.vocabulary = {"the", "cat", "sat", "down"};
  text.model = "tiny example";
  return told(example_model(), text, {-1, -1, 3}, q, true);
}

}  // namespace glassformer
