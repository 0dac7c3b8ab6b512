// What `explain_lora` has read of the engine, and `lora_story` tells. Legend: T tokens, I inputs, O outputs, r rank.
#pragma once
#include "glassformer/explain/lora.hpp"

namespace glassformer {

// One layer with its adapter.
struct LoraLayer {
  std::string name;
  LoraConfig config;
  Matrix<double> x;                            // [T, I]
  Matrix<double> weight, bias, a, b;           // [O, I], [1, O] or empty, [r, I], [O, r]
  Matrix<double> low;                          // [T, r] x·Aᵀ
  Matrix<double> change, merged;               // [O, I] s·B·A, W + s·B·A
  Matrix<double> y_base, y_adapted, y_merged;  // [T, O]
  bool fresh_same_bits = false;                // with B = 0, y is the base's to the bit
  Matrix<double> dy;                           // [T, O] of the example; empty for a model
  Matrix<double> da, db, da_fresh, db_fresh;   // gradients of A and B; with B = 0
  bool weight_untouched = false;               // W has the same bits after the backward pass, and no gradient
  double gradient_error = 0;                   // of dA and dB against the formula, relative; the example's only
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

}  // namespace glassformer
