// GGUF version 3, the file of llama.cpp: a model and its tokenizer in one.
#pragma once
#include <filesystem>

#include "glassformer/model/quantize.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

// Creates or replaces the file, atomically (save_file). Matrices are written as they are, in f32, q8_0 or q4_0 (whose blocks are GGUF's
// own); rows of q and k are put from Hugging Face's half-splits into the pairs that llama.cpp's RoPE turns. A tied head is left out. The
// tokenizer is "llama" (score-merge) or "gpt2" (byte-level BPE); where the model has more ids, the rest are unused ones, [PAD300], and the
// first of them ends a text if nothing else does. Errors: "FILE: expected …, found …" for what llama.cpp's llama cannot compute or GGUF
// cannot hold (another family, a stretched RoPE, attached adapters, int4 or nf4, a tokenizer of another kind or without an end), and
// whatever saving meets.
Expected<void> save_gguf(const std::filesystem::path& file, const Decoder<float>&, const Tokenizer&);

}  // namespace glassformer
