// What is trained beside a frozen decoder: a LoRA or DoRA adapter of its matrices, or a soft prompt. All of it in one arena of its own, so
// that only it is trained, saved and exchanged. Several may be attached at once, each with a weight, or mixed unalike by each sequence
// of a pass (Pass::mix): the base is never copied.
#pragma once
#include "glassformer/model/decoder.hpp"

namespace glassformer {

// One adapted range of a projection's rows. Names as in the decoder ("blocks.0.attn.qkv"), or a part of a joined projection:
// "blocks.0.attn.q", ".k", ".v" and, with SwiGLU, "blocks.0.mlp.gate", ".up"; and "embed", "unembed".
struct AdapterTarget {
  std::string name;
  Index block = 0;         // −1: the embedding or the head
  std::string projection;  // attn.qkv, attn.out, mlp.up, mlp.down, embed, unembed
  Index row_begin = 0, rows = 0, inputs = 0;
  Index rank = 0;          // r and α of this one: rank_pattern, alpha_pattern
  double alpha = 0;
  std::string tensor() const { return block < 0 ? projection + ".weight" : fmt::format("blocks.{}.{}.weight", block, projection); }  // of the decoder
  std::string kind() const { return block < 0 ? name : name.substr(fmt::format("blocks.{}.", block).size()); }                       // "attn.q"
};

template <class S> struct Adapter {
  LoraConfig config;                   // of the targets; none of it matters to a soft prompt
  std::vector<AdapterTarget> targets;  // none: a soft prompt
  Arena<S> arena;                      // NAME.lora_A [r, I], NAME.lora_B [O, r], with DoRA NAME.magnitude [1, O]; or prompt.weight [P, C]
  Index prompt_tokens() const { return arena ? arena.view("prompt.weight").rows : 0; }
};

// The names that `LoraConfig::targets` may have for this model: attn.q, attn.k, attn.v, attn.qkv, attn.out, mlp.gate, mlp.up, mlp.gate_up,
// mlp.down, embed, and unembed where the head is a matrix of its own. A tied embedding is one matrix: its adapter acts on the head too.
std::vector<std::string> adapter_target_names(const ModelConfig&);
// The targets of an adapter of a model whose configuration is resolved: block by block in the order of LoraConfig::targets, which are not
// empty; then the embedding and the head. Throws as make_adapter does.
std::vector<AdapterTarget> adapter_targets(const ModelConfig&, const LoraConfig&);
// All linear layers of the model, as its family adapts them: GPT-2 attn.qkv joined, others q, k, v apart.
std::vector<std::string> default_adapter_targets(const ModelConfig&);

// A fresh adapter: A Kaiming-uniform (a = √5: ±1/√I), B zero, so it changes nothing. With DoRA the magnitudes start at the row norms of the
// model that it is for; made for a configuration alone they are zero, to be filled by a file. Throws std::invalid_argument for an unknown
// target or a pattern that fits none (listing the valid ones), a rank that is not positive or larger than the matrix, a scale that
// is not positive, DoRA on an embedding or twice on the same rows.
template <class S> Adapter<S> make_adapter(const ModelConfig&, const LoraConfig&, std::uint64_t seed);
template <class S> Adapter<S> make_adapter(const Decoder<S>&, const LoraConfig&, std::uint64_t seed);
// A fresh soft prompt of `tokens` rows: embeddings of tokens drawn at random (Lester et al. 2021). Throws unless 0 < tokens < context.
template <class S> Adapter<S> make_soft_prompt(const Decoder<S>&, Index tokens, std::uint64_t seed);

// The model now computes with the adapter, its change multiplied by `weight`. Views share the adapter's memory: training it changes the
// model, and it must live as long as it is attached. Adapters add up; there can be one soft prompt (of weight 1). detach removes all.
template <class S> void attach(Decoder<S>&, const Adapter<S>&, double weight = 1);
template <class S> void detach(Decoder<S>&);
// DoRA divides by norms that are kept, not computed in each pass: anew after A or B has changed. The Trainer calls it.
template <class S> void refresh(const Decoder<S>&, const Exec& = {});
// The ids to put before each text for an attached soft prompt: V … V + P − 1; empty without one.
template <class S> std::vector<Token> soft_prompt_ids(const Decoder<S>&);
// Which of the attached adapters the soft prompt is, counted from 0: its column of Pass::mix. −1 without one.
template <class S> Index soft_prompt_adapter(const Decoder<S>&);

// Adds the adapter's change, times `weight`, to the weights and detaches all. Returns the weights as they were: `restore` puts them
// back, to the bit. Throws std::invalid_argument for a soft prompt, and for a quantized matrix: see dequantize_decoder.
template <class S> Arena<S> merge(Decoder<S>&, const Adapter<S>&, const Exec&, double weight = 1);
template <class S> void restore(Decoder<S>&, const Arena<S>& kept);
// ΔW [rows, inputs] of one target, whatever kind it is.
template <class S> Matrix<S> adapter_change(const Decoder<S>&, const Adapter<S>&, const AdapterTarget&, const Exec&);
// Where a target acts: the rows [row_begin, row_begin + rows) of this projection.
template <class S> const Projection<S>& adapted_projection(const Decoder<S>&, const AdapterTarget&);
// Gradients for the adapter alone; the model must have it attached, and no other.
template <class S> DecoderGrads<S> make_adapter_gradients(const Decoder<S>&, const Adapter<S>&);

}  // namespace glassformer
