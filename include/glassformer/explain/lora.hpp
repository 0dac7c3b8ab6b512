// What an adapter does, told: one matrix and its low-rank change (Hu et al. 2021; Liu et al. 2024), or a soft prompt (Lester et al. 2021).
// Legend: T tokens, I inputs, O outputs, r rank, P tokens of a soft prompt.
//   LoRA   y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ = x·(W + s·B·A)ᵀ    A [r, I], B [O, r], s = α/r (rsLoRA: α/√r)
//   DoRA   row o of W′ is m_o·V_o/‖V_o‖, V = W + s·B·A
// Everything is computed by the engine's projection, merge and backward pass.
#pragma once
#include "glassformer/explain/text.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct LoraQuestion {
  std::string target = {};  // "blocks.0.attn.q", "embed"; empty: the adapter's first
  Index token = -1;         // whose row of x and y is shown; −1: the last
  Exec exec{};
  const Decoder<float>* original = nullptr;  // what a quantized model was quantized from, to tell its error; null: not known
};

// The matrix `target` of the model, reading the text: its change, what is length and what is direction, over a quantized matrix also what
// merging would cost. The story also has the whole model's logits with the adapter, merged and without it, and the gradient of the text's
// mean loss. Of a soft prompt: its rows beside the vocabulary's, who attends to them, the loss of the text with it and without.
// The model must have no adapter attached. Throws std::invalid_argument for a target that the adapter does not have (naming those that it
// has), a token that does not exist, fewer than two tokens or more than the model's context, an adapter or an original of another model.
Story explain_lora(const Decoder<float>&, const Adapter<float>&, const ExplainedText&, const LoraQuestion& = {});

// A layer of four inputs and three outputs, rank 1, two tokens: small enough to redo by hand. In double.
Story explain_lora_example(const Exec& = {});

// Singular values of s·B·A, largest first: all r of them, from two r×r triangles (B = Q_B·R_B, Aᵀ = Q_A·R_A; s·R_B·R_Aᵀ has the same).
Vector<double> lora_singular_values(double scale, const Matrix<double>& a, const Matrix<double>& b);
// exp(−Σ p ln p) with p = σ/Σσ (Roy, Vetterli 2007): as many directions as are used. 0 when all are zero.
double effective_rank(const Vector<double>& singular_values);

}  // namespace glassformer
