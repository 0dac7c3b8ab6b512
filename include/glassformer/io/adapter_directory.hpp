// LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors. See docs/checkpoints.md.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "glassformer/io/safetensors.hpp"
#include "glassformer/io/save.hpp"
#include "glassformer/model/adapter.hpp"

namespace glassformer {

struct AdapterFiles {
  Adapter<float> adapter;
  std::string base_model;             // base_model_name_or_path; "" when there is none
  Metadata metadata;                  // of adapter_model.safetensors
  std::vector<std::string> warnings;  // whole sentences, "FILE: …"
};

// Loads an adapter for this model. Tensors that are no part of LoRA (a classification head, say) are passed over with
// a warning. Errors: "FILE: …" for a missing or misshapen A or B, an unknown module, numbers that are not finite, a kind of adapter
// that we do not compute (DoRA, ranks that differ, trained biases).
Expected<AdapterFiles> load_adapter(const std::filesystem::path& dir, const Decoder<float>& base);

// Saves atomically (save_directory). Modules are the base model's as Hugging Face names them: an adapter on part of a joined matrix (our
// attn.q of GPT-2's c_attn) is written as the equal one of the whole, with zeros, and one on a joined matrix (our attn.qkv of Llama's
// q, k, v) as one for each; `glassformer_targets` and `glassformer_rank` in the configuration bring the original back.
Expected<void> save_adapter(const std::filesystem::path& dir, const Adapter<float>&, const Decoder<float>& base, const std::string& base_name);
// The files of such a directory, for who saves more beside them; `extra` joins the metadata of adapter_model.safetensors. They read the
// adapter when they are written.
std::vector<FileToSave> adapter_files(const Adapter<float>&, const Decoder<float>& base, const std::string& base_name,
                                      const Metadata& extra = {});

}  // namespace glassformer
