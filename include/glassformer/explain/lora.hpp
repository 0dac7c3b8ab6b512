// LoRA, told: one linear layer and the low-rank change that an adapter makes to it (Hu et al. 2021).
// Legend: T tokens, I inputs, O outputs, r rank.
//   y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ = x·(W + s·B·A)ᵀ    A [r, I], B [O, r], s = α/r (rsLoRA: α/√r)
// Everything is computed by the engine's projection, merge and backward pass.
#pragma once
#include "glassformer/explain/text.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct LoraQuestion {
  std::string target = {};  // "blocks.0.attn.q"; empty: the adapter's first
  Index token = -1;         // whose row of x and y is shown; −1: the last
  Exec exec{};
};

// The layer `target` of the model, reading the text. The story also has the whole model's logits with the adapter, merged and without it,
// and the gradient of the text's mean loss. Throws std::invalid_argument for a target that the adapter does not have (naming those that it
// has) or the embedding or the head, a token that does not exist, fewer than two tokens or more than the model's context, an adapter of
// another model, DoRA, a quantized model.
Story explain_lora(const Decoder<float>&, const Adapter<float>&, const ExplainedText&, const LoraQuestion& = {});

// A layer of four inputs and three outputs, rank 1, two tokens: small enough to redo by hand. In double.
Story explain_lora_example(const Exec& = {});

// Singular values of s·B·A, largest first: all r of them, from two r×r triangles (B = Q_B·R_B, Aᵀ = Q_A·R_A; s·R_B·R_Aᵀ has the same).
Vector<double> lora_singular_values(double scale, const Matrix<double>& a, const Matrix<double>& b);
// exp(−Σ p ln p) with p = σ/Σσ (Roy, Vetterli 2007): as many directions as are used. 0 when all are zero.
double effective_rank(const Vector<double>& singular_values);

}  // namespace glassformer
