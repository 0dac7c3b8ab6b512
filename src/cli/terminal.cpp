#include "cli/terminal.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "cli/command.hpp"

namespace glassformer::cli {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

void ask_to_stop(int) { stop_asked = 1; }

// Letters on the screen: bytes that do not continue a UTF-8 character.
std::size_t columns(std::string_view line) {
  return static_cast<std::size_t>(std::ranges::count_if(line, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string shortened(std::string line, std::size_t width) {
  while (columns(line) > width) {
    while (!line.empty() && (line.back() & 0xC0) == 0x80) line.pop_back();
    line.pop_back();
  }
  return line;
}

[[noreturn]] void output_failed(int error) {
  // Leave nothing in the buffer that would fail once more at exit.
  throw Failure(fmt::format("standard output: could not be written: {}", std::strerror(error ? error : EIO)));
}

}  // namespace

Terminal terminal(std::FILE* stream) {
  Terminal t;
  const int fd = ::fileno(stream);
  t.is_terminal = ::isatty(fd) == 1;
  winsize size{};
  if (t.is_terminal && ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) t.width = size.ws_col;
  const char* kind = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  t.colour = t.is_terminal && !(kind && std::string_view(kind) == "dumb") && !(no_colour && *no_colour);
  return t;
}

ProgressLine::ProgressLine() : terminal_(terminal(stderr)) {}
ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::clear() {
  if (shown_width_ == 0) return;
  std::fprintf(stderr, "\r%*s\r", static_cast<int>(shown_width_), "");
  std::fflush(stderr);
  shown_width_ = 0;
}

bool ProgressLine::due() const { return Clock::now() - shown_at_ >= std::chrono::milliseconds(terminal_.is_terminal ? 100 : 2000); }

void ProgressLine::update(const std::string& line) {
  if (!due()) return;
  shown_at_ = Clock::now();
  if (!terminal_.is_terminal) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  const std::string fits = shortened(line, static_cast<std::size_t>(std::max(10, terminal_.width - 1)));
  const std::size_t width = columns(fits);
  std::fprintf(stderr, "\r%s%*s", fits.c_str(), static_cast<int>(shown_width_ > width ? shown_width_ - width : 0), "");
  std::fflush(stderr);
  shown_width_ = std::max(width, shown_width_);
}

void ProgressLine::keep(const std::string& line) {
  clear();
  std::fprintf(stderr, "%s\n", line.c_str());
  shown_at_ = terminal_.is_terminal ? Clock::time_point{} : Clock::now();
}

std::string duration(double seconds) {
  const auto s = static_cast<long long>(seconds + 0.5);
  if (s < 120) return fmt::format("{} s", s);
  if (s < 7200) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

std::string grouped(long long n) {
  const std::string digits = std::to_string(n);
  const std::size_t sign = n < 0;
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > sign && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

void catch_interrupt() {
  struct sigaction action {};
  action.sa_handler = ask_to_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;  // the next one is the system's own: it ends the program
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
}

bool interrupted() { return stop_asked != 0; }

void prepare_streams() {
  // A file that takes the number of a closed stream would receive what is printed. /dev/null read-only: writing to it fails, as it should.
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) == -1 && errno == EBADF) (void)!::open("/dev/null", O_RDONLY);
  }
  std::signal(SIGPIPE, SIG_IGN);  // writing then fails with EPIPE
  std::signal(SIGXFSZ, SIG_IGN);  // and beyond the largest size of a file (ulimit -f) with EFBIG
}

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) output_failed(errno);
}

void print_output(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) output_failed(errno);
}

}  // namespace glassformer::cli
