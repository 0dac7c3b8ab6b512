// Legend: r rank, I inputs, O outputs, P tokens of a soft prompt, C channels.
#include "glassformer/io/adapter_directory.hpp"

#include <algorithm>
#include <deque>
#include <new>

#include "io/adapter_config.hpp"
#include "io/adapter_reader.hpp"
#include "io/base_fingerprint.hpp"

namespace glassformer {
namespace {

namespace fs = std::filesystem;
using io::AdapterModule;
using io::ModulePart;

constexpr const char* kFingerprint = "glassformer.base";  // in the metadata: io::base_fingerprint

Expected<AdapterFiles> load(const fs::path& dir, const Decoder<float>& base) {
  const auto config = io::read_adapter_config(dir / "adapter_config.json");
  if (!config) return tl::unexpected(config.error());
  const auto file = SafetensorsFile::open(dir / "adapter_model.safetensors");
  if (!file) return tl::unexpected(file.error());
  AdapterFiles files;
  files.base_model = config->base_model;
  files.metadata = file->metadata();
  auto adapter = io::read_adapter(*config, *file, base, files.warnings);
  if (!adapter) return tl::unexpected(adapter.error());
  files.adapter = std::move(*adapter);
  if (const auto recorded = files.metadata.find(kFingerprint); recorded != files.metadata.end()) {
    std::string warning;
    if (auto same = io::check_fingerprint(file->name(), recorded->second, base, warning); !same) return tl::unexpected(same.error());
    if (!warning.empty()) files.warnings.push_back(std::move(warning));
  }
  return files;
}

// The A [r, I], B [rows, r] and magnitude of a module, out of all targets on its rows. In double: where their scales differ, B is
// multiplied by one over the other, and divided again when it is read; with 53 bits that gives back the float to the bit.
struct Joined {
  Matrix<double> a, b, magnitude;
  Dtype b_type = Dtype::F32;
};
Joined join(const Adapter<float>& adapter, const AdapterModule& m, const Vector<float>& norms) {
  Joined j{Matrix<double>::Zero(m.rank, m.range.inputs), Matrix<double>::Zero(m.range.rows, m.rank), norms.cast<double>()};
  for (const ModulePart& p : m.parts) {
    const auto a = adapter.arena.view(p.target->name + ".lora_A"), b = adapter.arena.view(p.target->name + ".lora_B");
    j.a.middleRows(p.rank_begin, a.rows) = (*a).cast<double>();
    j.b.block(p.module_row, p.rank_begin, p.rows, b.cols) = p.ratio * (*b).middleRows(p.target_row, p.rows).cast<double>();
    if (p.ratio != 1) j.b_type = Dtype::F64;
    if (const auto magnitude = adapter.arena.view(p.target->name + ".magnitude")) {
      j.magnitude.middleCols(p.module_row, p.rows) = (*magnitude).middleCols(p.target_row, p.rows).cast<double>();
    }
  }
  return j;
}

Expected<void> write_lora(const fs::path& path, const Adapter<float>& adapter, const std::vector<AdapterModule>& used,
                          const std::vector<Vector<float>>& norms, const Metadata& metadata) {
  std::deque<Joined> values;
  std::vector<NamedTensor> tensors;
  for (std::size_t i = 0; i < used.size(); ++i) {
    const AdapterModule& m = used[i];
    const io::AdapterParts names = io::adapter_parts(m);
    const std::string prefix = fmt::format("{}{}.", io::kAdapterPrefix, m.name);
    const Joined& j = values.emplace_back(join(adapter, m, norms[i]));
    if (m.embedding) {  // theirs are our Bᵀ [r, V] and Aᵀ [C, r]
      tensors.push_back({prefix + names.a, Dtype::F32, {m.rank, m.range.rows}, j.b.data(), true});
      tensors.push_back({prefix + names.b, Dtype::F32, {m.range.inputs, m.rank}, j.a.data(), true});
    } else {
      tensors.push_back({prefix + names.a, Dtype::F32, {m.rank, m.range.inputs}, j.a.data(), false});
      tensors.push_back({prefix + names.b, j.b_type, {m.range.rows, m.rank}, j.b.data(), false});
    }
    if (adapter.config.dora) tensors.push_back({prefix + names.magnitude, Dtype::F32, {m.range.rows}, j.magnitude.data(), false});
  }
  return write_safetensors(path, tensors, metadata);
}

// Rows of a module that no target is for keep their length: DoRA's magnitude of them is the row's norm in the model.
std::vector<Vector<float>> row_norms_of(const Decoder<float>& base, const Adapter<float>& adapter, const std::vector<AdapterModule>& used) {
  std::vector<Vector<float>> norms(used.size());
  if (!adapter.config.dora) return norms;
  const auto weight_of = [&](const std::string& name) {
    const auto q = base.quantized.find(name);
    return q != base.quantized.end() ? ops::Weight<float>(q->second) : ops::Weight<float>(base.arena.view(name));
  };
  for (std::size_t i = 0; i < used.size(); ++i) {
    norms[i] = row_norms<float>(weight_of(used[i].range.tensor()), used[i].range.row_begin, used[i].range.rows);
  }
  return norms;
}

}  // namespace

Expected<AdapterFiles> load_adapter(const fs::path& dir, const Decoder<float>& base) {
  try {
    return load(dir, base);
  } catch (const std::bad_alloc&) {
    return unexpected("{}: expected an adapter that fits in memory, found a larger one", dir.string());
  }
}

std::vector<FileToSave> adapter_files(const Adapter<float>& adapter, const Decoder<float>& base, const std::string& base_name,
                                      const Metadata& extra) {
  Metadata metadata = extra;
  metadata.emplace("format", "pt");
  metadata[kFingerprint] = io::base_fingerprint(base, adapter);
  std::string json;
  WriteFile write_weights;
  if (const Index P = adapter.prompt_tokens(); P > 0) {
    json = io::prompt_config_json(base.config, P, base_name);
    write_weights = [&adapter, metadata](const fs::path& path) {
      const MatrixView<float> prompt = adapter.arena.view("prompt.weight");
      const NamedTensor tensor{io::kPromptTensor, Dtype::F32, {prompt.rows, prompt.cols}, static_cast<const float*>(prompt.data), false};
      return write_safetensors(path, std::span(&tensor, 1), metadata);
    };
  } else {
    const ModelFamily family = model_family(base.config);
    const std::vector<AdapterModule> used = io::used_modules(base.config, family, adapter);
    json = io::lora_config_json(adapter.config, family, used, base_name);
    metadata[io::kOwnConfig] = io::own_config(adapter.config);
    write_weights = [&adapter, used, norms = row_norms_of(base, adapter, used), metadata](const fs::path& path) {
      return write_lora(path, adapter, used, norms, metadata);
    };
  }
  return {{"adapter_config.json", [json = std::move(json)](const fs::path& path) { return write_bytes(path, json); }},
          {"adapter_model.safetensors", std::move(write_weights)}};
}

Expected<void> save_adapter(const fs::path& dir, const Adapter<float>& adapter, const Decoder<float>& base, const std::string& base_name) {
  return save_directory(dir, adapter_files(adapter, base, base_name));
}

}  // namespace glassformer
