#include "io/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "glassformer/io/save.hpp"

namespace glassformer::io {
namespace {

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

// Opens a regular file and asks for its size. Non-blocking, or a pipe without a writer would hold us up.
Expected<std::size_t> open_regular(const std::filesystem::path& path, Descriptor& file) {
  file.value = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.value < 0) return unexpected("{}: could not be read: {}", path.string(), std::strerror(errno));
  struct stat status {};
  if (::fstat(file.value, &status) != 0) return unexpected("{}: could not be read: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(status.st_mode))
    return unexpected("{}: expected a file, found {}", path.string(), S_ISDIR(status.st_mode) ? "a directory" : "a device");
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

Expected<FileBytes> map_file(const std::filesystem::path& path) {
  Descriptor file{-1};
  const auto size = open_regular(path, file);
  if (!size) return tl::unexpected(size.error());
  if (*size == 0) return FileBytes{};
  void* memory = ::mmap(nullptr, *size, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (memory == MAP_FAILED) return unexpected("{}: could not be read: {}", path.string(), std::strerror(errno));
  const std::size_t bytes = *size;
  std::shared_ptr<const void> owner(memory, [bytes](const void* p) { ::munmap(const_cast<void*>(p), bytes); });
  return FileBytes{std::move(owner), {static_cast<const std::byte*>(memory), bytes}};
}

void release_pages([[maybe_unused]] std::span<const std::byte> bytes) {
#ifdef MADV_DONTNEED
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE)), at = reinterpret_cast<std::uintptr_t>(bytes.data()),
             begin = at / page * page;
  if (!bytes.empty()) (void)::madvise(reinterpret_cast<void*>(begin), at + bytes.size() - begin, MADV_DONTNEED);
#endif
}

Expected<OutputFile> OutputFile::create(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return unexpected("{}: could not be written: {}", path.string(), std::strerror(errno));
  return OutputFile(descriptor, path.string());
}

OutputFile::OutputFile(OutputFile&& other) noexcept : descriptor_(other.descriptor_), name_(std::move(other.name_)) {
  other.descriptor_ = -1;
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Expected<void> OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return unexpected("{}: could not be written: {}", name_, std::strerror(written == 0 ? ENOSPC : errno));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Expected<void> OutputFile::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0) return unexpected("{}: could not be written: {}", name_, std::strerror(errno));
  return {};
}

Expected<void> sync(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  // EINVAL: a file system that knows no fsync for this kind of file.
  if (file.value < 0 || (::fsync(file.value) != 0 && errno != EINVAL))
    return unexpected("{}: could not be written: {}", path.string(), std::strerror(errno));
  return {};
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 100)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return text.size() > 100 ? out + "…" : out;
}

}  // namespace glassformer::io

namespace glassformer {

Expected<void> write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  auto file = io::OutputFile::create(path);
  if (!file) return tl::unexpected(file.error());
  if (auto written = file->write(std::as_bytes(std::span(bytes))); !written) return written;
  return file->close();
}

Expected<std::string> read_bytes(const std::filesystem::path& path, std::size_t limit) {
  io::Descriptor file{-1};
  const auto size = io::open_regular(path, file);
  if (!size) return tl::unexpected(size.error());
  if (*size > limit) return unexpected("{}: expected at most {} bytes, found {}", path.string(), limit, *size);
  std::string bytes(*size, '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::read(file.value, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return unexpected("{}: could not be read: {}", path.string(), std::strerror(errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace glassformer
