// Where the program's words go: terminals and files, a progress line, JSON, Ctrl-C.
// Standard output carries the result, standard error everything else.
#pragma once
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

namespace glassformer::cli {

struct Terminal {
  bool is_terminal = false;
  int width = 80;       // columns; 80 where it is no terminal
  bool colour = false;  // a terminal, TERM is not "dumb" and NO_COLOR is not set (no-color.org)
};
Terminal terminal(std::FILE* stream);  // stdout or stderr

// Progress on standard error. On a terminal one line that is drawn again; elsewhere plain lines, one every two seconds.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();                       // removes the line
  void update(const std::string& line);  // as often as you like
  void keep(const std::string& line);    // a line that stays, below those before it
  bool due() const;                      // would `update` show something? for lines that are costly to make

 private:
  using Clock = std::chrono::steady_clock;
  void clear();
  Terminal terminal_;
  Clock::time_point shown_at_{};
  std::size_t shown_width_ = 0;  // of the line on the terminal now; 0: none
};

// "95 s", "12 min 5 s", "3 h 20 min"
std::string duration(double seconds);
// 1234567 as "1,234,567"
std::string grouped(long long n);

// From now on the first SIGINT, SIGTERM or SIGUSR1 only sets a flag; the second one ends the program at once. (SIGUSR1: mpirun hands it on
// at once, and batch systems send it before their time is up.)
void catch_interrupt();
bool interrupted();

// Makes sure that the three standard streams exist and that a closed pipe is an error and not a signal. Called once, first.
void prepare_streams();
// Throws Failure unless all that was printed to standard output has arrived there.
void flush_output();

// Prints what belongs on standard output. Throws Failure when it cannot be written.
void print_output(std::string_view text);

}  // namespace glassformer::cli
