// A LoRA adapter of a decoder: which projections, and the A and B of each in one arena of its own, so that only they are trained.
#pragma once
#include "glassformer/model/decoder.hpp"

namespace glassformer {

// One adapted range of a projection's rows. Names as in the decoder ("blocks.0.attn.qkv"), or a part of a joined projection:
// "blocks.0.attn.q", ".k", ".v" and, with SwiGLU, "blocks.0.mlp.gate", ".up".
struct AdapterTarget {
  std::string name;
  Index block = 0;
  std::string projection;  // attn.qkv, attn.out, mlp.up, mlp.down
  Index row_begin = 0, rows = 0, inputs = 0;
};

template <class S> struct Adapter {
  LoraConfig config;
  std::vector<AdapterTarget> targets;
  Arena<S> arena;  // NAME.lora_A [r, I], NAME.lora_B [O, r]
};

// The names that `LoraConfig::targets` may have for this model: attn.q, attn.k, attn.v, attn.qkv, attn.out, mlp.gate, mlp.up, mlp.gate_up, mlp.down.
std::vector<std::string> adapter_target_names(const ModelConfig&);
// All linear layers of the model, as its family adapts them: GPT-2 attn.qkv joined, others q, k, v apart.
std::vector<std::string> default_adapter_targets(const ModelConfig&);

// A fresh adapter: A Kaiming-uniform (a = √5: ±1/√I), B zero. Throws std::invalid_argument for an unknown target (listing the valid
// ones), a rank that is not positive or larger than the matrix, or a scale that is not positive.
template <class S> Adapter<S> make_adapter(const ModelConfig&, const LoraConfig&, std::uint64_t seed);
// The model now computes with the adapter. Views share the adapter's memory: training it changes the model, and it must live as long as
// it is attached. detach removes all adapters.
template <class S> void attach(Decoder<S>&, const Adapter<S>&);
template <class S> void detach(Decoder<S>&);
// Adds the adapter to the weights and detaches it. Returns the weights as they were: `restore` puts them back, to the bit.
template <class S> Arena<S> merge(Decoder<S>&, const Adapter<S>&, const Exec&);
template <class S> void restore(Decoder<S>&, const Arena<S>& kept);
// Gradients for the adapter alone; the model must have it attached.
template <class S> DecoderGrads<S> make_adapter_gradients(const Decoder<S>&, const Adapter<S>&);

}  // namespace glassformer
