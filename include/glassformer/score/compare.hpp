// A changed model beside the one that it was made from, on the same text: what a quantization, a merge or a pruning costs.
// Legend: p the base's probabilities of the next token, q the model's, over the vocabulary; means are over the scored tokens.
#pragma once
#include <span>

#include "glassformer/data/dataset.hpp"
#include "glassformer/model/decoder.hpp"

namespace glassformer {

struct ModelComparison {
  Index tokens = 0;              // scored
  double loss_nats = 0;          // mean of −log q(target)
  double base_loss_nats = 0;     // mean of −log p(target)
  double perplexity_ratio = 1;   // exp(loss − base loss): the model's perplexity over the base's
  double mean_kl_nats = 0;       // mean of KL(p‖q) = Σ p·(log p − log q)
  double top1_agreement = 1;     // share of tokens where both have the same first choice (of equal ones the lowest id)
};

// Runs both models on the batches (whole_split, pack_examples); targets of −1 are not scored. Logits are held for some rows at a time,
// probabilities are in double. The models need the same vocabulary, not the same shape.
// Throws std::invalid_argument for vocabularies that differ, or when nothing is scored.
ModelComparison compare_models(const Decoder<float>& base, const Decoder<float>& model, std::span<const Batch> batches, const Exec& = {});

}  // namespace glassformer
