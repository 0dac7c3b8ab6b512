// One block, told: the residual stream of one token on its way through it.
// Legend: C channels, F hidden width of the MLP.
//   pre-norm    x ← x + attention(ln1(x))     x ← x + mlp(ln2(x))        GPT-2, Llama
//   post-norm   x ← ln1(x + attention(x))     x ← ln2(x + mlp(x))        Vaswani et al. 2017
// The values are those that a Trace saw in decoder_forward. Sums that are written out for the reader are held against them.
#pragma once
#include "glassformer/explain/text.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct BlockQuestion {
  Index layer = 0;
  Index token = -1;  // its place; −1: the last (in the example: "cat")
  Index unit = -1;   // of the MLP, whose activation is written out; −1: the one whose activation is largest
  Exec exec{};
};

// The matrices of the story have the sites' names ("resid_pre", "ln1.normalized", "attn_out", "resid_mid", "ln2.normalized", "mlp.pre",
// "mlp.post", "mlp_out", "resid_post"), one row each; "parts" is a table of parameters and multiply-adds. Throws std::invalid_argument,
// naming the valid ones, for a layer, token or unit that does not exist; for no token, or more than the model's context.
template <class S>
Story explain_block(const Decoder<S>&, const ExplainedText&, const BlockQuestion& = {});

enum class BlockExample {
  gpt2,           // LayerNorm before, GELU, biases
  llama,          // RMSNorm before, SwiGLU, no biases
  post_norm,      // LayerNorm after, GELU, biases
  attention_only  // LayerNorm before, no MLP
};
// Two tokens, four channels, one head, three hidden units, weights of simple decimals: small enough to redo by hand. In double.
Story explain_block_example(BlockExample = BlockExample::gpt2, const BlockQuestion& = {});

}  // namespace glassformer
