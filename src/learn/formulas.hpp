// The formulas of the derivations, over any shape: that of a toy that the engine runs, and that of a model that people know.
// Legend: V vocabulary, T tokens, C width, L layers, H query heads, G key-value heads, D head width, F hidden width, P parameters.
#pragma once
#include "glassformer/model/config.hpp"

namespace glassformer::learn {

// Shapes as their makers published them.
ModelConfig gpt2_small();  // 124M: 12 layers, 12 heads, width 768, context 1,024 (Radford et al. 2019)
ModelConfig llama2_7b();   // 32 layers, 32 heads, width 4,096, hidden 11,008 (Touvron et al. 2023)
ModelConfig llama3_8b();   // 32 layers, 32 heads over 8 key-value heads, width 4,096, hidden 14,336, V 128,256 (Grattafiori et al. 2024)
ModelConfig mistral_7b();  // 32 layers, 32 heads over 8, hidden 14,336, V 32,000, window 4,096 (Jiang et al. 2023)

// All take a resolved configuration.
double attention_weights(const ModelConfig&);                                   // a layer, without biases: C·H·D + 2·C·G·D + H·D·C
double mlp_weights(const ModelConfig&);                                         // a layer, without biases: 2·C·F, SwiGLU 3·C·F
double block_parameters(const ModelConfig&);                                    // weights, biases, gains
double parameters(const ModelConfig&);                                          // of the whole model
double cache_bytes(const ModelConfig&, double tokens, double bytes_each);       // 2·L·T·G·D·b
double linear_multiplications(const ModelConfig&);                              // a token, without the head: L·(attention + MLP weights)
double score_multiplications(const ModelConfig&, double queries, double keys);  // q·k and p·v of all layers: 2·L·H·D·queries·keys
double adapter_parameters(double rank, double outputs, double inputs);          // r·(O + I)
double causal_pairs(double tokens, double window);                              // T(T+1)/2; with a window w < T: w(w+1)/2 + (T−w)·w

}  // namespace glassformer::learn
