// Finds out what a path holds and reads it.
#include <fstream>
#include <system_error>

#include "tokenizer/impl.hpp"

namespace glassformer {
namespace tokenizer {

namespace {
constexpr std::uintmax_t most_bytes = std::uintmax_t{256} << 20;  // no tokenizer is larger
}

Expected<std::string> read_tokenizer_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return unexpected("{}: expected a tokenizer file, found nothing", path.string());
  if (!std::filesystem::is_regular_file(status))
    return unexpected("{}: expected a tokenizer file, found something that is not a file", path.string());
  const auto size = std::filesystem::file_size(path, error);
  if (error) return unexpected("{}: expected a readable file, found: {}", path.string(), error.message());
  if (size > most_bytes) return unexpected("{}: expected a tokenizer of at most {} bytes, found {}", path.string(), most_bytes, size);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file || !file.read(bytes.data(), static_cast<std::streamsize>(size)))
    return unexpected("{}: expected a readable file, found that it cannot be read", path.string());
  return bytes;
}

}  // namespace tokenizer

Expected<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(path, error)) {
    file = path / "tokenizer.json";
    if (!std::filesystem::exists(file, error)) file = path / "tokenizer.bin";
    if (!std::filesystem::exists(file, error)) {
      const auto encoder = path / "encoder.json", merges = path / "vocab.bpe";
      if (std::filesystem::exists(encoder, error) && std::filesystem::exists(merges, error)) return load_gpt2_tokenizer(encoder, merges);
      return unexpected("{}: expected a tokenizer.json, a tokenizer.bin, or an encoder.json and a vocab.bpe in this directory, found none",
                        path.string());
    }
  }
  const auto bytes = tokenizer::read_tokenizer_file(file);
  if (!bytes) return tl::unexpected(bytes.error());
  if (bytes->empty()) return unexpected("{}: expected a tokenizer.json or tokenizer.bin, found an empty file", file.string());
  // A tokenizer.bin starts with the length of its longest token, below 2^24, so byte 3 is 0; JSON text has no such byte.
  const bool is_bin = bytes->size() < 4 ? file.extension() == ".bin" : (*bytes)[3] == '\0';
  return is_bin ? tokenizer::parse_tokenizer_bin(file.string(), *bytes) : tokenizer::parse_tokenizer_json(file.string(), *bytes);
}

}  // namespace glassformer
