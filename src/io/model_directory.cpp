#include "glassformer/io/model_directory.hpp"

#include <new>

#include "glassformer/io/save.hpp"
#include "io/llama2c.hpp"
#include "io/tensor_names.hpp"
#include "io/weights.hpp"

namespace glassformer {
namespace {

namespace fs = std::filesystem;

std::string_view kind_name(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::character:
      return "characters";
    case TokenizerKind::byte:
      return "bytes";
    case TokenizerKind::bpe:
      return "byte-level BPE";
    case TokenizerKind::score:
      return "score-merge BPE";
  }
  return "?";
}

std::string describe(std::string_view source, const Decoder<float>& decoder, const Tokenizer& tokenizer) {
  const ModelConfig& c = decoder.config;
  const auto types = quantize_types(decoder);
  return fmt::format("{}{}: {} parameters, {} layers, {} heads{}, width {}, hidden {}, context {}, vocabulary {} ({})", source,
                     types ? fmt::format(" in {}", quantize_types_name(*types)) : "", decoder_parameters(decoder), c.layers, c.heads,
                     c.kv_heads == c.heads ? "" : fmt::format(" over {} key-value heads", c.kv_heads), c.width, c.hidden, c.context,
                     c.vocab, kind_name(tokenizer.kind()));
}

Expected<ModelFiles> with_tokenizer(Decoder<float> decoder, const fs::path& tokenizer_path, std::string_view source, Metadata metadata,
                                    std::vector<std::string> warnings) {
  auto tokenizer = load_tokenizer(tokenizer_path);
  if (!tokenizer) return tl::unexpected(tokenizer.error());
  const ModelConfig& config = decoder.config;
  if (auto fits = check_tokenizer(tokenizer_path.string(), *tokenizer, config); !fits) return tl::unexpected(fits.error());
  if (tokenizer->vocab_size() < config.vocab) {
    warnings.push_back(fmt::format("{}: expected a tokenizer of {} tokens, found {}: the ids from there on have no text",
                                   tokenizer_path.string(), config.vocab, tokenizer->vocab_size()));
  }
  std::string description = describe(source, decoder, *tokenizer);
  return ModelFiles{std::move(decoder), std::move(*tokenizer), std::move(description), std::move(metadata), std::move(warnings)};
}

Expected<ModelFiles> load_hugging_face(const fs::path& dir, const LoadOptions& options) {
  std::vector<std::string> warnings;
  const fs::path config_path = dir / "config.json", weights_path = dir / "model.safetensors";
  const auto text = read_bytes(config_path, std::size_t(1) << 24);
  if (!text) return tl::unexpected(text.error());
  std::optional<QuantizeTypes> stored;
  auto config = parse_config_json(config_path.string(), *text, &warnings, &stored);
  if (!config) return tl::unexpected(config.error());
  if (stored && options.quantize && *stored != *options.quantize) {
    return unexpected("{}: expected a model in floating point to quantize to {}, found one in {}", config_path.string(),
                      quantize_types_name(*options.quantize), quantize_types_name(*stored));
  }
  std::error_code ignored;
  if (!fs::exists(weights_path, ignored) && fs::exists(dir / "model.safetensors.index.json", ignored)) {
    return unexpected("{}: expected a model in one file, found one in several parts, which are not read", weights_path.string());
  }
  const auto file = SafetensorsFile::open(weights_path);
  if (!file) return tl::unexpected(file.error());
  const ModelFamily family = stored ? ModelFamily::glassformer : model_family(*config);
  if (family == ModelFamily::gpt2) io::settle_biases(*file, *config);
  auto decoder = io::read_decoder(*file, *config, family, stored, options);
  if (!decoder) return tl::unexpected(decoder.error());
  auto model = with_tokenizer(std::move(*decoder), dir, family_name(family), file->metadata(), std::move(warnings));
  if (model) model->stored = stored;
  return model;
}

Expected<ModelFiles> load_bin(const fs::path& file, const LoadOptions& options) {
  auto decoder = io::read_llama2c(file, options);
  if (!decoder) return tl::unexpected(decoder.error());
  return with_tokenizer(std::move(*decoder), file.parent_path() / "tokenizer.bin", "llama2.c", {}, {});
}

Expected<ModelFiles> load_any(const fs::path& path, const LoadOptions& options) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return unexpected("{}: expected a model, found nothing there", path.string());
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / "config.json", ignored)) return load_hugging_face(path, options);
    if (fs::exists(path / "model.bin", ignored)) return load_bin(path / "model.bin", options);
    return unexpected("{}: expected a model's config.json and model.safetensors, or model.bin, found neither", path.string());
  }
  if (path.filename() == "config.json" || path.extension() == ".safetensors") return load_hugging_face(path.parent_path(), options);
  if (path.extension() == ".bin") return load_bin(path, options);
  return unexpected("{}: expected a model directory or a .bin file of llama2.c, found another file", path.string());
}

// A tokenizer_config.json, so that tools which go by the model's type take our tokenizer.json as it is.
std::string tokenizer_config(const Tokenizer& tokenizer, const ModelConfig& config) {
  std::string text = "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n";
  const auto add_token = [&](const char* field, std::optional<Token> id) {
    // Special tokens that need escapes in JSON are left to tokenizer.json.
    if (!id || tokenizer.token_bytes(*id).find_first_of("\"\\\n\t\r") != std::string_view::npos) return;
    text += fmt::format("  \"{}\": \"{}\",\n", field, tokenizer.token_bytes(*id));
  };
  add_token("bos_token", tokenizer.bos());
  add_token("eos_token", tokenizer.eos());
  return text + fmt::format("  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": {}\n}}\n", config.context);
}

FileToSave text_file(std::string name, std::string text) {
  return {std::move(name), [text = std::move(text)](const fs::path& path) { return write_bytes(path, text); }};
}

FileToSave weights_file(const Decoder<float>& decoder, const Metadata& extra, Dtype dtype) {
  Metadata metadata = extra;
  metadata.emplace("format", "pt");  // without it, other tools do not take the file
  return {"model.safetensors", [&decoder, dtype, metadata](const fs::path& path) {
            std::deque<std::string> texts;
            const bool full = decoder.quantized.empty();
            return write_safetensors(path, full ? model_tensors(decoder, dtype) : io::quantized_model_tensors(decoder, dtype, texts),
                                     metadata);
          }};
}

}  // namespace

Expected<ModelFiles> load_model(const fs::path& path, const LoadOptions& options) {
  try {
    return load_any(path, options);
  } catch (const std::bad_alloc&) {
    return unexpected("{}: expected a model that fits in memory, found a larger one", path.string());
  }
}

Expected<void> check_tokenizer(const std::string& name, const Tokenizer& tokenizer, const ModelConfig& config) {
  const Index size = tokenizer.vocab_size();
  const bool exact = tokenizer.kind() == TokenizerKind::character || tokenizer.kind() == TokenizerKind::byte;
  if (size == config.vocab || (size < config.vocab && !exact)) return {};
  return unexpected("{}: expected a tokenizer of {} tokens, as the model has, found {}", name, config.vocab, size);
}

std::vector<FileToSave> model_files(const Decoder<float>& decoder, const Tokenizer& tokenizer, const Metadata& extra, Dtype dtype) {
  const auto fits = check_tokenizer("save_model", tokenizer, decoder.config);
  if (!fits) throw std::invalid_argument(fits.error());
  require(dtype == Dtype::F32 || dtype == Dtype::F16 || dtype == Dtype::BF16, "save_model: expected F32, F16 or BF16, found {}",
          dtype_name(dtype));
  std::vector<FileToSave> files = {text_file("config.json", config_json(decoder.config, quantize_types(decoder))),
                                   weights_file(decoder, extra, dtype)};
  if (tokenizer.kind() == TokenizerKind::score) {
    files.push_back(text_file("tokenizer.bin", tokenizer_bin(tokenizer)));
  } else {
    files.push_back(text_file("tokenizer.json", tokenizer_json(tokenizer)));
    files.push_back(text_file("tokenizer_config.json", tokenizer_config(tokenizer, decoder.config)));
  }
  return files;
}

Expected<void> save_model(const fs::path& dir, const Decoder<float>& decoder, const Tokenizer& tokenizer, const Metadata& extra,
                          Dtype dtype, const std::vector<std::string>& keep) {
  return save_directory(dir, model_files(decoder, tokenizer, extra, dtype), keep);
}

Expected<void> save_weights(const fs::path& dir, const Decoder<float>& decoder, const Metadata& extra) {
  const fs::path config_path = dir / "config.json";
  const auto text = read_bytes(config_path, std::size_t(1) << 24);
  if (!text) return tl::unexpected(text.error());
  std::optional<QuantizeTypes> stored;
  const auto config = parse_config_json(config_path.string(), *text, nullptr, &stored);
  if (!config) return tl::unexpected(config.error());
  if (config_json(*config, stored) != config_json(decoder.config, quantize_types(decoder))) {
    return unexpected("{}: expected the configuration of the model that is to be saved, found another", config_path.string());
  }
  return save_file(dir / "model.safetensors", weights_file(decoder, extra, Dtype::F32).write);
}

}  // namespace glassformer
