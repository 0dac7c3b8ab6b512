// Models on disk: Hugging Face directories (gpt2, llama, and our own glassformer), and llama2.c's .bin. See docs/checkpoints.md.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "glassformer/io/safetensors.hpp"
#include "glassformer/io/save.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

// What `model_type` of config.json a model is written as.
enum class ModelFamily {
  gpt2,        // learned positions, LayerNorm before, GELU
  llama,       // RoPE, RMSNorm before, SwiGLU, no bias
  glassformer  // any other combination: our own names for everything
};
ModelFamily model_family(const ModelConfig&);
std::string_view family_name(ModelFamily);

struct ModelFiles {
  Decoder<float> decoder;
  Tokenizer tokenizer;
  std::string description;            // one line: family, sizes, parameters, tokenizer
  Metadata metadata;                  // of model.safetensors
  std::vector<std::string> warnings;  // whole sentences, "FILE: …"
  std::optional<QuantizeTypes> stored = {};  // what the files hold: a quantized model; none: one in floating point
};

struct LoadOptions {
  // Quantize while loading: each matrix is read, quantized and let go before the next, so that the model is never whole in floating point.
  // One that is stored quantized must have these types.
  std::optional<QuantizeTypes> quantize = {};
  // Called after each matrix that was quantized so, with the numbers that it was made from.
  std::function<void(const TensorInfo&, ConstMatrixRef<float> numbers, const QuantizedMatrix&)> quantized = {};
  Exec exec = {};  // threads that quantize
};

// Loads a Hugging Face directory; a directory with llama2.c's model.bin; or such a .bin file, tokenizer.bin beside it. Errors: "FILE: …"
// for whatever is missing, of another shape, not finite, unknown, or does not fit together.
Expected<ModelFiles> load_model(const std::filesystem::path&, const LoadOptions& = {});

// Saves a whole directory, atomically (save_directory): config.json, model.safetensors, the tokenizer. `extra` joins the metadata of
// model.safetensors; `dtype` is F32, F16 or BF16; `keep` names what else of an existing directory must stay. A quantized model is written as it is, as a
// `glassformer` whose config.json has the types; `dtype` is then that of the rest.
// Throws std::invalid_argument when the tokenizer does not fit the model, and for a quantized model that quantize_types has no words for.
Expected<void> save_model(const std::filesystem::path& dir, const Decoder<float>&, const Tokenizer&, const Metadata& extra = {},
                          Dtype dtype = Dtype::F32, const std::vector<std::string>& keep = {});
// The files of such a directory, for who saves more beside them. They read the decoder when they are written.
std::vector<FileToSave> model_files(const Decoder<float>&, const Tokenizer&, const Metadata& extra = {}, Dtype dtype = Dtype::F32);
// Replaces model.safetensors alone, atomically. The directory's config.json must be this model's.
Expected<void> save_weights(const std::filesystem::path& dir, const Decoder<float>&, const Metadata& extra = {});

// The text of config.json, and what it says. `warnings` and `types` may be null. Errors: "NAME: field: expected …, found …".
std::string config_json(const ModelConfig&, const std::optional<QuantizeTypes>& = {});
Expected<ModelConfig> parse_config_json(const std::string& name, std::string_view text, std::vector<std::string>* warnings,
                                        std::optional<QuantizeTypes>* types = nullptr);

// The tensors of a model in floating point as its family names them: views of its arena.
template <class S>
std::vector<NamedTensor> model_tensors(const Decoder<S>&, Dtype);
// Fills a decoder from a file in any of the three namings (told by its names), with or without the prefix "transformer." or "model.".
template <class S>
Expected<void> read_into(Decoder<S>&, const SafetensorsFile&);

// A text file's mistake where a tokenizer cannot serve a model: one larger than its vocabulary; for kinds character and byte also a
// smaller one. Others may be smaller (embeddings are padded to round numbers): ids beyond the tokenizer's are never to be sampled.
Expected<void> check_tokenizer(const std::string& name, const Tokenizer&, const ModelConfig&);

}  // namespace glassformer
