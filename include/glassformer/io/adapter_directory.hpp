// Adapters and soft prompts as PEFT stores them: adapter_config.json and adapter_model.safetensors. See docs/checkpoints.md.
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

// Loads an adapter or a soft prompt for this model. Tensors that are no part of it (a classification head, say) are passed over with a
// warning. Errors: "FILE: …" for a missing or misshapen tensor, a module that the model has not (listing those that it has), numbers that
// are not finite, whatever would change what is computed and is not read here (trained biases, whole matrices, DoRA on embeddings), and a
// base whose weights are not those that it was trained over (naming the first tensor that differs). A base of the same weights in another
// type is a warning. An adapter that says nothing of its base is taken as it is.
Expected<AdapterFiles> load_adapter(const std::filesystem::path& dir, const Decoder<float>& base);

// Saves atomically (save_directory), with the fingerprints of the base. Modules are the base model's as Hugging Face names them: adapters
// on parts of a joined matrix (our attn.q and attn.v of GPT-2's c_attn) are written as the equal one of the whole, with zeros between them,
// one on a joined matrix (our attn.qkv of Llama's q, k, v) as one for each, and that of a tied embedding twice, for the head too. Our own
// names for them are in the metadata, and everything comes back to the bit.
Expected<void> save_adapter(const std::filesystem::path& dir, const Adapter<float>&, const Decoder<float>& base,
                            const std::string& base_name);
// The files of such a directory, for who saves more beside them; `extra` joins the metadata of adapter_model.safetensors. They read the
// adapter when they are written.
std::vector<FileToSave> adapter_files(const Adapter<float>&, const Decoder<float>& base, const std::string& base_name,
                                      const Metadata& extra = {});

}  // namespace glassformer
