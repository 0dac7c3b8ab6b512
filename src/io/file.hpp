// Files by their descriptors: whole reads and writes, with the system's reason in every error.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "glassformer/core/require.hpp"

namespace glassformer::io {

// A file's bytes in memory, mapped, for as long as `owner` lives.
struct FileBytes {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};
Expected<FileBytes> map_file(const std::filesystem::path&);
// Bytes of a mapped file that are not needed for now: the system may take their memory, and reads them again when they are.
void release_pages(std::span<const std::byte>);

class OutputFile {
 public:
  static Expected<OutputFile> create(const std::filesystem::path&);  // cut to nothing when it exists
  OutputFile(OutputFile&&) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();
  Expected<void> write(std::span<const std::byte>);
  Expected<void> close();

 private:
  OutputFile(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}
  int descriptor_;
  std::string name_;
};

// Has the system put a file or directory on the disk.
Expected<void> sync(const std::filesystem::path&);

// A name out of a file, fit for one line: control characters as \xHH, at most 100 bytes.
std::string printable(std::string_view);

}  // namespace glassformer::io
