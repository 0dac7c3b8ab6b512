// The decoder: embedding, blocks, head.
// Legend: N = ΣT tokens of all sequences, C channels, V vocabulary, L layers.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "glassformer/attention/attention.hpp"
#include "glassformer/core/arena.hpp"
#include "glassformer/mlp/mlp.hpp"
#include "glassformer/model/config.hpp"

namespace glassformer {

template <class S> struct NormParams {
  MatrixView<S> gain, bias;  // [1, C]; bias absent with RMSNorm
};
template <class S> struct BlockParams {
  NormParams<S> ln1, ln2;
  AttentionParams<S> attention;
  MlpParams<S> mlp;
};
template <class S> struct BlockGrads {
  NormParams<S> ln1, ln2;
  AttentionGrads<S> attention;
  MlpGrads<S> mlp;
};
template <class S> struct BlockSaved {
  Matrix<S> x, mid;                  // [N, C] what ln1 and ln2 read
  ops::NormStatistics<S> ln1, ln2;
  AttentionSaved<S> attention;
  MlpSaved<S> mlp;
};

// Quantized tensors by the name that decoder_layout has for them.
using QuantizedTensors = std::map<std::string, std::shared_ptr<const QuantizedMatrix>, std::less<>>;

// A model: its configuration, its parameters in one arena, and views of them by part.
template <class S> struct Decoder {
  ModelConfig config;
  Arena<S> arena;
  Projection<S> embed;      // [V, C]
  MatrixView<S> pos_embed;  // [T, C] or absent
  std::vector<BlockParams<S>> blocks;
  NormParams<S> ln_final;   // absent with post-norm
  Projection<S> unembed;    // [V, C]; the embedding itself when tied, adapters included
  MatrixView<S> prompt;     // [P, C] a soft prompt: trained embeddings for the ids V … V + P − 1 (Lester et al. 2021); or absent
  Index adapters = 0;       // attached: the columns of Pass::mix
  QuantizedTensors quantized;  // what is not in the arena, by name; empty: all is in floating point
  std::shared_ptr<const RopeTable<S>> rope;
  std::shared_ptr<Trace<S>> hook;  // sees (and edits) every pass before the pass's own trace: a model with a head cut out, say; null: none
};

// Gradients of a decoder: mirrors of its arena and of its adapter's. An empty arena is frozen.
template <class S> struct DecoderGrads {
  Arena<S> arena, adapter;
  MatrixView<S> pos_embed, prompt;
  ProjectionGradients<S> embed, unembed;
  std::vector<BlockGrads<S>> blocks;
  NormParams<S> ln_final;
  std::function<void(Index block)> block_done;  // told by decoder_backward, from the last block to the first, once a block's gradients are complete; may be empty
};

template <class S> struct DecoderSaved {
  std::vector<BlockSaved<S>> blocks;
  Matrix<S> x;                         // [N, C] what ln_final reads
  ops::NormStatistics<S> ln_final;
};

// Names and shapes of the parameters, in order: embed.weight, pos_embed.weight, blocks.0.ln1.weight, .bias, blocks.0.attn.qkv.weight,
// .bias, blocks.0.attn.out.*, blocks.0.ln2.*, blocks.0.mlp.up.*, blocks.0.mlp.down.*, …, ln_final.*, unembed.weight.
std::shared_ptr<const ArenaLayout> decoder_layout(const ModelConfig&);

// A model with all parameters zero, to be filled by a file; or drawn at random as GPT-2 does: weights N(0, init_std²), residual
// outputs divided by √(2L), gains one, biases zero. Each tensor has its own stream, so a shape change elsewhere changes no draw here.
template <class S> Decoder<S> make_decoder(const ModelConfig&);
// The same with some tensors quantized; the arena holds the rest. Throws std::invalid_argument for a name or a shape that the model has not.
template <class S> Decoder<S> make_decoder(const ModelConfig&, QuantizedTensors);
// Parameters of the model, quantized ones included.
template <class S> Index decoder_parameters(const Decoder<S>&);
template <class S> void initialize(Decoder<S>&, std::uint64_t seed);
// The same model in another precision, for checks.
template <class To, class From> Decoder<To> convert_decoder(const Decoder<From>&);

// Runs the decoder on ids [N] and leaves in `hidden` [N, C] what the head reads. Throws std::invalid_argument for ids outside the
// vocabulary and the soft prompt, bounds that do not fit, and places beyond a learned table.
template <class S>
void decoder_forward(const Decoder<S>&, const Pass<S>&, std::span<const Token> ids, MatrixRef<S> hidden, DecoderSaved<S>* saved = nullptr);
// logits [N, V] = hidden·Uᵀ
template <class S> void decoder_logits(const Decoder<S>&, const Pass<S>&, ConstMatrixRef<S> hidden, MatrixRef<S> logits);
// From d hidden [N, C] to all gradients, which accumulate.
template <class S>
void decoder_backward(const Decoder<S>&, const Pass<S>&, std::span<const Token> ids, const DecoderSaved<S>&, MatrixRef<S> dhidden, DecoderGrads<S>&);

// Σ of the losses in nats over the scored targets (target −1 is not scored), how many there were, and how many were right.
struct Loss {
  double sum_nats = 0;
  Index count = 0;
  Index correct = 0;  // targets that were the model's first choice
  double mean() const { return sum_nats / static_cast<double>(count); }
};
// Loss of ids against targets, both [N]. With `grads`, also the gradient of scale·Σ losses. `losses`, when not empty, gets each row's.
template <class S>
Loss decoder_loss(const Decoder<S>&, const Pass<S>&, std::span<const Token> ids, std::span<const Token> targets, DecoderSaved<S>* saved, DecoderGrads<S>* grads,
                  S scale, std::span<double> losses = {});

// Gradients for all parameters of the model (not its adapter), or for `part` of them: a slice of its arena (Arena::slice), the rest frozen.
// Throws std::invalid_argument for a quantized model, which cannot be trained.
template <class S> DecoderGrads<S> make_gradients(const Decoder<S>&);
template <class S> DecoderGrads<S> make_gradients(const Decoder<S>&, const Arena<S>& part);

// A cache that fits the model. capacity 0: the model's context.
template <class S>
KvCache<S> make_cache(const Decoder<S>&, Index slots, Index capacity = 0, bool sliding = false, Index sinks = 0,
                      CacheKind kind = CacheKind::floating);

}  // namespace glassformer
