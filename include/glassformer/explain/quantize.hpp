// Quantization, told: 64 neighbours of a matrix through each format, with what comes back and its error.
// Legend: W [O, I] a matrix; x a number of it, d a block's scale, q a code.   x ≈ d·step(q)
// Everything is what the engine's `quantize` has written and `dequantize` reads.
#pragma once
#include <string>

#include "glassformer/model/decoder.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct QuantizeQuestion {
  std::string tensor = {};  // of decoder_layout: "blocks.0.mlp.up.weight"; empty: the first block's attn.qkv
  Index row = 0;
  Index block = 0;          // of 64 numbers in that row: one block of int4 and nf4, two of q8_0 and q4_0
  Exec exec{};
};

// A matrix of the model, which must be in floating point, is quantized in each format. `model`: a line that describes it.
// Throws std::invalid_argument for a tensor that does not exist or is no matrix of rows of a multiple of 64 numbers (naming one that is), a row
// or block that does not exist.
Story explain_quantize(const Decoder<float>&, const std::string& model, const QuantizeQuestion& = {});

// Four blocks of mostly zeros: small enough to redo by hand.
Story explain_quantize_example();

}  // namespace glassformer
