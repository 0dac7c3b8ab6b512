#include "glassformer/io/save.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "io/file.hpp"

namespace glassformer {
namespace {

namespace fs = std::filesystem;

// What tools put into a model or adapter directory and a new save replaces (last: the folder of a training run's newest state).
constexpr std::string_view kReplaced[] = {"config.json",
                                          "generation_config.json",
                                          "model.safetensors",
                                          "model.bin",
                                          "tokenizer.json",
                                          "tokenizer.bin",
                                          "tokenizer_config.json",
                                          "tokenizer.model",
                                          "special_tokens_map.json",
                                          "added_tokens.json",
                                          "vocab.json",
                                          "merges.txt",
                                          "adapter_config.json",
                                          "adapter_model.safetensors",
                                          "trainer.safetensors",
                                          "last"};
// What a save carries over unasked.
constexpr std::string_view kKept[] = {"README.md", "LICENSE", "LICENSE.txt", ".gitattributes", "metrics.jsonl"};

// The path itself, links followed, without a slash at its end; its name is then a name.
Expected<fs::path> real_target(const fs::path& path) {
  std::error_code error;
  if (path.empty()) return unexpected("expected a path to save to, found an empty one");
  fs::path target = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) return unexpected("{}: could not be saved: {}", path.string(), error.message());
  if (!target.has_filename()) target = target.parent_path();
  if (!target.has_filename()) return unexpected("{}: could not be saved: expected a name, found the root directory", path.string());
  return target;
}

fs::path sibling_of(const fs::path& target) {
  static std::atomic<unsigned> count{0};
  return target.parent_path() / fmt::format("{}.saving-{}-{}", target.filename().string(), ::getpid(), count++);
}

// What a process left behind in `dir` which is no more: "NAME.saving-PID-N", of one name or, when that is empty, of any.
void remove_stale(const fs::path& dir, const std::string& of) {
  constexpr std::string_view kSaving = ".saving-";
  std::error_code error;
  std::vector<fs::path> stale;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const std::size_t at = name.rfind(kSaving);
    if (at == name.npos || at == 0 || (!of.empty() && name.compare(0, at, of) != 0)) continue;
    int pid = 0;
    const auto [rest, failed] = std::from_chars(name.data() + at + kSaving.size(), name.data() + name.size(), pid);
    if (failed == std::errc() && *rest == '-' && pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) stale.push_back(it->path());
  }
  for (const fs::path& path : stale) fs::remove_all(path, error);
}

// Removes the sibling when saving did not succeed.
struct RemoveOnExit {
  fs::path path;
  ~RemoveOnExit() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// A message about the sibling is one about the target, as far as the user is concerned.
tl::unexpected<std::string> not_saved(std::string message, const fs::path& sibling, const fs::path& target, bool existed) {
  if (const auto at = message.find(sibling.string()); at != message.npos) message.replace(at, sibling.string().size(), target.string());
  return unexpected("{}{}", message, existed ? " (the old one is untouched)" : "");
}

std::string reason() { return std::strerror(errno); }

bool contains(auto&& names, std::string_view name) { return std::ranges::find(names, name) != std::ranges::end(names); }

// Which entries of the old directory go into the new one; an error names what is no part of a checkpoint.
Expected<std::vector<std::string>> entries_to_keep(const fs::path& dir, const std::vector<FileToSave>& files,
                                                   const std::vector<std::string>& keep) {
  std::vector<std::string> kept;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool folder = it->is_directory(error) && !it->is_symlink(error);
    if (contains(keep, name) || (!folder && contains(kKept, name))) {
      if (std::ranges::find(files, name, &FileToSave::name) == files.end()) kept.push_back(name);
    } else if ((folder && name != "last") ||
               (!contains(kReplaced, name) && std::ranges::find(files, name, &FileToSave::name) == files.end())) {
      return unexpected("{}: expected a checkpoint that may be replaced, found {} in it: nothing was saved; choose another directory",
                        dir.string(), io::printable(name));
    }
  }
  if (error) return unexpected("{}: could not be read: {}", dir.string(), error.message());
  return kept;
}

// The same file under a second name, so that one who has it open goes on writing to it; a copy where links are not to be had.
Expected<void> carry_over(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::is_directory(fs::symlink_status(from, error))) {
    if (!fs::create_directory(to, error)) return unexpected("{}: could not be written: {}", to.string(), error.message());
    for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
      if (auto done = carry_over(it->path(), to / it->path().filename()); !done) return done;
    }
  } else {
    fs::create_hard_link(from, to, error);
    if (error) fs::copy(from, to, fs::copy_options::copy_symlinks, error);
  }
  if (error) return unexpected("{}: could not be written: {}", to.string(), error.message());
  return {};
}

// The sibling takes the directory's name; what was there lies under the sibling's afterwards.
Expected<void> exchange(const fs::path& sibling, const fs::path& dir) {
#ifdef __GLIBC__
  if (::renameat2(AT_FDCWD, sibling.c_str(), AT_FDCWD, dir.c_str(), RENAME_EXCHANGE) == 0) return {};
  if (errno != EINVAL && errno != ENOSYS) return unexpected("{}: could not be saved: {}", dir.string(), reason());
#endif
  const fs::path aside = sibling.string() + "-old";
  if (::rename(dir.c_str(), aside.c_str()) != 0) return unexpected("{}: could not be saved: {}", dir.string(), reason());
  if (::rename(sibling.c_str(), dir.c_str()) != 0) {
    const std::string why = reason();
    ::rename(aside.c_str(), dir.c_str());
    return unexpected("{}: could not be saved: {}", dir.string(), why);
  }
  ::rename(aside.c_str(), sibling.c_str());
  return {};
}

Expected<void> fill(const fs::path& sibling, const fs::path& dir, const std::vector<FileToSave>& files,
                    const std::vector<std::string>& kept) {
  for (const FileToSave& file : files) {
    if (auto written = file.write(sibling / file.name); !written) return written;
    if (auto synced = io::sync(sibling / file.name); !synced) return synced;
  }
  for (const std::string& name : kept) {
    if (auto done = carry_over(dir / name, sibling / name); !done) return done;
  }
  return io::sync(sibling);
}

// Whether the process works in `dir` or below: replacing it would take the ground from under its feet.
bool holds_working_directory(const fs::path& dir) {
  std::error_code error;
  const fs::path here = fs::current_path(error);
  return !error && std::mismatch(dir.begin(), dir.end(), here.begin(), here.end()).first == dir.end();
}

}  // namespace

Expected<void> save_file(const fs::path& file, const WriteFile& write) {
  const auto target = real_target(file);
  if (!target) return tl::unexpected(target.error());
  std::error_code error;
  const auto status = fs::status(*target, error);
  const bool existed = fs::exists(status);
  if (existed && !fs::is_regular_file(status))
    return unexpected("{}: could not be saved: expected a file or nothing there, found another thing", target->string());
  remove_stale(target->parent_path(), target->filename().string());
  const RemoveOnExit sibling{sibling_of(*target)};
  auto done = write(sibling.path);
  if (done) done = io::sync(sibling.path);
  if (!done) return not_saved(done.error(), sibling.path, *target, existed);
  if (existed) fs::permissions(sibling.path, status.permissions(), error);
  if (::rename(sibling.path.c_str(), target->c_str()) != 0) return unexpected("{}: could not be saved: {}", target->string(), reason());
  return io::sync(target->parent_path());
}

Expected<void> save_directory(const fs::path& dir, const std::vector<FileToSave>& files, const std::vector<std::string>& keep) {
  const auto target = real_target(dir);
  if (!target) return tl::unexpected(target.error());
  std::error_code error;
  const auto status = fs::status(*target, error);
  const bool existed = fs::exists(status);
  std::vector<std::string> kept;
  if (existed) {
    if (!fs::is_directory(status))
      return unexpected("{}: could not be saved: expected a directory or nothing there, found a file", target->string());
    if (holds_working_directory(*target)) {
      return unexpected("{}: could not be saved: expected a directory that can be replaced, found the one you are working in",
                        target->string());
    }
    remove_stale(*target, "");  // of what lies in it: a run that was killed while it saved its last state, say
    auto entries = entries_to_keep(*target, files, keep);
    if (!entries) return tl::unexpected(entries.error());
    kept = std::move(*entries);
    remove_stale(target->parent_path(), target->filename().string());
  } else if (fs::create_directories(target->parent_path(), error); error) {
    return unexpected("{}: could not be saved: {}", target->string(), error.message());
  }
  const RemoveOnExit sibling{sibling_of(*target)};
  if (::mkdir(sibling.path.c_str(), 0777) != 0)
    return not_saved(fmt::format("{}: could not be saved: {}", target->string(), reason()), sibling.path, *target, existed);
  if (existed) fs::permissions(sibling.path, status.permissions(), error);
  if (auto done = fill(sibling.path, *target, files, kept); !done) return not_saved(done.error(), sibling.path, *target, existed);
  if (existed) {
    if (auto done = exchange(sibling.path, *target); !done) return done;
  } else if (::rename(sibling.path.c_str(), target->c_str()) != 0) {
    return unexpected("{}: could not be saved: {}", target->string(), reason());
  }
  return io::sync(target->parent_path());
}

}  // namespace glassformer
