#include "glassformer/io/save.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "temporary.hpp"

using namespace glassformer;
namespace fs = std::filesystem;

namespace {

FileToSave text(const std::string& name, const std::string& bytes) {
  return {name, [bytes](const fs::path& path) { return write_bytes(path, bytes); }};
}
std::vector<FileToSave> checkpoint(const std::string& bytes) { return {text("config.json", "{}"), text("model.safetensors", bytes)}; }
std::size_t entries(const fs::path& dir) { return static_cast<std::size_t>(std::distance(fs::directory_iterator(dir), {})); }
bool mentions(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

struct Mount {
  fs::path path;
  bool mounted;
  Mount(const fs::path& p, const char* options)
      : path(p), mounted(fs::create_directory(p) && ::mount("tmpfs", p.c_str(), "tmpfs", 0, options) == 0) {}
  ~Mount() {
    if (mounted) ::umount(path.c_str());
  }
};

}  // namespace

TEST_CASE("a directory is made, replaced as a whole, and nothing is left beside it") {
  TemporaryDirectory dir;
  const fs::path target = dir / "a/b/model";
  REQUIRE(save_directory(target, checkpoint("one")));
  CHECK(slurp(target / "model.safetensors") == "one");
  spill(target / "tokenizer.json", "of the old model");
  spill(target / "metrics.jsonl", "1\n");
  REQUIRE(save_directory(target.string() + "/", checkpoint("two")));
  CHECK(slurp(target / "model.safetensors") == "two");
  CHECK(!fs::exists(target / "tokenizer.json"));
  CHECK(slurp(target / "metrics.jsonl") == "1\n");
  CHECK(entries(target.parent_path()) == 1);
}

TEST_CASE("a file that is open while a save carries it over goes on growing") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", checkpoint("one")));
  std::ofstream metrics(dir / "m/metrics.jsonl");
  metrics << "1\n" << std::flush;
  fs::create_directories(dir / "m/best/deep");
  spill(dir / "m/best/deep/x", "kept");
  REQUIRE(save_directory(dir / "m", checkpoint("two"), {"best"}));
  metrics << "2\n" << std::flush;
  CHECK(slurp(dir / "m/metrics.jsonl") == "1\n2\n");
  CHECK(slurp(dir / "m/best/deep/x") == "kept");
}

TEST_CASE("a folder with anything else in it is never replaced") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", checkpoint("one")));
  spill(dir / "m/thesis.tex", "years of work");
  const auto saved = save_directory(dir / "m", checkpoint("two"));
  REQUIRE(!saved);
  CHECK(mentions(saved.error(), "expected a checkpoint that may be replaced, found thesis.tex in it"));
  CHECK(slurp(dir / "m/thesis.tex") == "years of work");
  CHECK(slurp(dir / "m/model.safetensors") == "one");
  fs::remove(dir / "m/thesis.tex");
  fs::create_directory(dir / "m/photos");
  CHECK(!save_directory(dir / "m", checkpoint("two")));
  spill(dir / "file", "x");
  CHECK(mentions(save_directory(dir / "file", checkpoint("two")).error(), "expected a directory or nothing there, found a file"));
  CHECK(!save_directory("/", checkpoint("two")));
  CHECK(!save_directory("", checkpoint("two")));
  const fs::path here = fs::current_path();
  fs::create_directory(dir / "empty");
  fs::current_path(dir / "empty");
  CHECK(mentions(save_directory(".", checkpoint("two")).error(), "the one you are working in"));
  fs::current_path(here);
  CHECK(save_directory(dir / "empty", checkpoint("two")));
}

TEST_CASE("a link is followed, and stays") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "real", checkpoint("one")));
  fs::create_directory_symlink("real", dir / "link");
  REQUIRE(save_directory(dir / "link", checkpoint("two")));
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(slurp(dir / "real/model.safetensors") == "two");
  REQUIRE(save_file(dir / "link/model.safetensors", text("", "three").write));
  CHECK(slurp(dir / "real/model.safetensors") == "three");
  CHECK(entries(dir / "real") == 2);
  CHECK(!save_file(dir / "real", text("", "x").write));
}

TEST_CASE("a writer that fails leaves the old one, and says so") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", checkpoint("one")));
  auto files = checkpoint("two");
  files.push_back({"tokenizer.json", [](const fs::path& path) -> Expected<void> { return unexpected("{}: no luck", path.string()); }});
  const auto saved = save_directory(dir / "m", files);
  REQUIRE(!saved);
  CHECK(saved.error() == (dir / "m/tokenizer.json").string() + ": no luck (the old one is untouched)");
  CHECK(slurp(dir / "m/model.safetensors") == "one");
  CHECK(entries(dir.path) == 1);
}

TEST_CASE("a process that dies while it saves leaves the old one; the next save clears up") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", checkpoint("one")));
  auto files = checkpoint("two");
  files.push_back({"tokenizer.json", [](const fs::path&) -> Expected<void> { ::_exit(3); }});
  const pid_t child = ::fork();
  if (child == 0) {
    (void)save_directory(dir / "m", files);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WEXITSTATUS(status) == 3);
  CHECK(slurp(dir / "m/model.safetensors") == "one");
  CHECK(entries(dir.path) == 2);
  spill(dir / "m.saving-notes", "the user's own");
  REQUIRE(save_directory(dir / "m", checkpoint("three")));
  CHECK(slurp(dir / "m/model.safetensors") == "three");
  CHECK(entries(dir.path) == 2);
  CHECK(fs::exists(dir / "m.saving-notes"));
}

TEST_CASE("what a process that died left in a checkpoint does not stand in the way of the next save of it") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", checkpoint("one")));
  const pid_t child = ::fork();
  if (child == 0) {  // dies while it saves the state of a run, which lies in the checkpoint
    (void)save_directory(dir / "m/last", {{"config.json", [](const fs::path&) -> Expected<void> { ::_exit(3); }}});
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WEXITSTATUS(status) == 3);
  const auto saved = save_directory(dir / "m", checkpoint("two"));
  CHECK_MESSAGE(saved, (saved ? "" : saved.error()));
  CHECK(slurp(dir / "m/model.safetensors") == "two");
}

TEST_CASE("at every instant a whole checkpoint lies under the name") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", {text("config.json", "0"), text("model.safetensors", "0")}));
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 1; i <= 200; ++i) {
      const std::string n = std::to_string(i);
      if (!save_directory(dir / "m", {text("config.json", n), text("model.safetensors", n)})) ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0, missing = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) missing += !fs::exists(dir / "m");
  CHECK(status == 0);
  CHECK(missing == 0);
  CHECK(slurp(dir / "m/model.safetensors") == "200");
}

TEST_CASE("a file that may grow no further (as on a full disk) leaves the old one") {
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "m", checkpoint("one")));
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{10000, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto saved = save_directory(dir / "m", checkpoint(std::string(100000, 'x')));
  const auto file = save_file(dir / "m/model.safetensors", text("", std::string(100000, 'x')).write);
  ::setrlimit(RLIMIT_FSIZE, &old);
  ::signal(SIGXFSZ, handler);
  REQUIRE(!saved);
  REQUIRE(!file);
  CHECK(saved.error() == (dir / "m/model.safetensors").string() + ": could not be written: File too large (the old one is untouched)");
  CHECK(file.error() == saved.error());
  CHECK(slurp(dir / "m/model.safetensors") == "one");
  CHECK(entries(dir.path) == 1);
  CHECK(entries(dir / "m") == 2);
}

TEST_CASE("a full disk, a read-only disk") {
  TemporaryDirectory dir;
  const Mount disk(dir / "disk", "size=64k");
  if (!disk.mounted) {
    MESSAGE("skipped: no right to mount a small disk (" << std::string(std::strerror(errno)) << ")");
    return;
  }
  REQUIRE(save_directory(disk.path / "m", checkpoint("one")));
  const auto full = save_directory(disk.path / "m", checkpoint(std::string(1000000, 'x')));
  REQUIRE(!full);
  CHECK(mentions(full.error(), "m/model.safetensors: could not be written: No space left on device (the old one is untouched)"));
  CHECK(!save_file(disk.path / "m/model.safetensors", text("", std::string(1000000, 'x')).write));
  CHECK(slurp(disk.path / "m/model.safetensors") == "one");
  CHECK(entries(disk.path) == 1);

  REQUIRE(::mount(nullptr, disk.path.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, "size=64k") == 0);
  CHECK(mentions(save_directory(disk.path / "m", checkpoint("two")).error(),
                 "m: could not be saved: Read-only file system (the old one is untouched)"));
  CHECK(mentions(save_file(disk.path / "m/model.safetensors", text("", "x").write).error(), "Read-only file system"));
  CHECK(mentions(save_directory(disk.path / "n", checkpoint("two")).error(), "n: could not be saved: Read-only file system"));
  CHECK(slurp(disk.path / "m/model.safetensors") == "one");
}

TEST_CASE("without the right to write") {
  if (::geteuid() == 0) {
    MESSAGE("skipped: root may write everywhere");
    return;
  }
  TemporaryDirectory dir;
  REQUIRE(save_directory(dir / "p/m", checkpoint("one")));
  fs::permissions(dir / "p", fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(mentions(save_directory(dir / "p/m", checkpoint("two")).error(),
                 "m: could not be saved: Permission denied (the old one is untouched)"));
  CHECK(slurp(dir / "p/m/model.safetensors") == "one");
  fs::permissions(dir / "p", fs::perms::owner_all);
}
