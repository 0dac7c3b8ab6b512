// What `explain_lora` has read of the engine, and `lora_story` tells. Legend: T tokens, I inputs, O outputs, r rank.
#pragma once
#include <optional>

#include "glassformer/explain/lora.hpp"

namespace glassformer {

// A quantized matrix under an adapter. Norms are Frobenius, of the adapted rows.
struct LoraOverQuantized {
  std::string type;
  double bits = 0;                                  // a number
  double requantized_error = 0;                     // ‖Q(W′) − W′‖: merged and quantized again
  double surviving_share = 0;                       // ⟨Q(W′) − Q(W), ΔW⟩/‖ΔW‖²: of the change, after that
  std::optional<double> error, error_with_adapter;  // ‖W₀ − W‖, ‖W₀ − W′‖, where the original W₀ is known
};

// One matrix with its adapter. Of an embedding, which is looked up, only the rows of the text's tokens: then O is T in all that is [O, …].
struct LoraLayer {
  std::string name, tensor;                        // "blocks.0.attn.q", rows of "blocks.0.attn.qkv.weight"
  Index row_begin = 0, rows = 0, tensor_rows = 0;  // of the tensor
  bool looked_up = false, rank_stabilized = false;
  double alpha = 0, scale = 0;                                       // of this target
  Matrix<double> x;                                                  // [T, I]; empty when looked up
  Matrix<double> weight, bias, a, b;                                 // [O, I], [1, O] or empty, [r, I], [O, r]
  Vector<double> magnitude, base_norms, v_norms, merged_norms;       // [O] DoRA's m (or empty), ‖w_o‖, ‖V_o‖ (DoRA), ‖w′_o‖
  Matrix<double> low;                                                // [T, r] x·Aᵀ
  Matrix<double> change, merged;                                     // [O, I] W′ − W, W′
  Matrix<double> y_base, y_adapted, y_merged;                        // [T, O]
  bool fresh_same_bits = false;                                      // with B = 0, y is the base's to the bit
  Matrix<double> dy;                                                 // [T, O] of the example; empty for a model
  Matrix<double> da, db, dm, da_fresh, db_fresh, dm_fresh;           // gradients of A, B, m; with B = 0
  bool weight_untouched = false;                                     // W has the same bits after the backward pass, and no gradient
  double gradient_error = 0;                                         // of dA and dB against the formula, relative; the example's only
  double weight_norm = 0;                                            // of the whole matrix, though only some rows be shown
  Vector<double> singular_values;                                    // of the whole ΔW
  double magnitude_share = 0;                                        // Σ (‖w′_o‖ − ‖w_o‖)²/‖ΔW‖²; the rest is direction
  Vector<double> angles;                                             // [O] degrees between w_o and w′_o
  std::vector<std::pair<std::string, std::array<double, 2>>> parts;  // of a joined matrix: "q" with ‖W‖ and ‖ΔW‖ of its rows
  std::optional<LoraOverQuantized> quantized;
};

// The whole model around it.
struct LoraModel {
  Index layers = 0, targets = 0;
  Index parameters = 0, trainable = 0;
  double change_of_logits = 0, merged_difference = 0, largest_logit = 0;  // adapter against base; merged against adapter
  double loss_base = 0, loss_adapted = 0;                                 // nats a token of the text
  std::string next_base, next_adapted;                                    // first choices after the text
};

// `model` is null for the example.
Story lora_story(const LoraLayer&, const ExplainedText&, Index place, const LoraModel* model);

// What explain_lora tells of a soft prompt.
Story soft_prompt_story(const Decoder<float>&, const Adapter<float>&, const ExplainedText&, const LoraQuestion&);

}  // namespace glassformer
