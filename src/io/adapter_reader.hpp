// An adapter out of its two files.
#pragma once
#include "glassformer/io/safetensors.hpp"
#include "io/adapter_config.hpp"

namespace glassformer::io {

// What the tensors of a module are called behind its name.
struct AdapterParts {
  std::string a, b, magnitude = "lora_magnitude_vector";
};
AdapterParts adapter_parts(const AdapterModule&);

constexpr std::string_view kAdapterPrefix = "base_model.model.";
constexpr const char* kOwnConfig = "glassformer.adapter";  // in the metadata: own_config
constexpr const char* kPromptTensor = "prompt_embeddings";

// Errors: "FILE: …", of the configuration or of `file`. Throws std::bad_alloc for one larger than memory.
Expected<Adapter<float>> read_adapter(const AdapterConfig&, const SafetensorsFile& file, const Decoder<float>& base,
                                      std::vector<std::string>& warnings);

}  // namespace glassformer::io
