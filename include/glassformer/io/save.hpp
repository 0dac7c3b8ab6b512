// Saving so that no power cut, full disk or interrupt costs the old file: all is written beside the target and synced, then
// takes its name in one step. On any failure what was written is removed again and the old one is untouched.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer {

// Writes the whole file at this path (a temporary name); its error is passed on.
using WriteFile = std::function<Expected<void>(const std::filesystem::path&)>;
struct FileToSave {
  std::string name;  // inside the directory
  WriteFile write;
};

// Creates or replaces `file`. A symbolic link is followed. Errors: "FILE: could not be saved: why".
Expected<void> save_file(const std::filesystem::path& file, const WriteFile&);

// Creates or replaces the directory, whose parents are made when missing. Afterwards it holds exactly `files`, and of what was
// there before the entries named in `keep` (files or folders, moved over as hard links) and a README, a licence, .gitattributes and
// metrics.jsonl. Refuses a directory with anything that is no part of a checkpoint, so that nobody's folder is ever lost.
// The exchange is atomic (renameat2) where the file system can; elsewhere the name is missing for an instant between two renames.
Expected<void> save_directory(const std::filesystem::path& dir, const std::vector<FileToSave>& files,
                              const std::vector<std::string>& keep = {});

// Writes bytes to a file, which is created or cut first; not atomic by itself. Errors: "FILE: could not be written: why".
Expected<void> write_bytes(const std::filesystem::path&, std::string_view bytes);
// The bytes of a regular file, at most `limit`. Errors: "FILE: could not be read: why", a larger file.
Expected<std::string> read_bytes(const std::filesystem::path&, std::size_t limit = std::size_t(1) << 30);

}  // namespace glassformer
