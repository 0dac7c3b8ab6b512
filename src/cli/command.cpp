#include "cli/command.hpp"

#include <algorithm>
#include <new>
#include <numeric>

namespace glassformer::cli {
namespace {

// Levenshtein's distance: the fewest insertions, deletions and substitutions that make b of a.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::string command_list(const std::string& program, const std::string& about, std::span<const Command> commands) {
  std::size_t width = 0;
  for (const Command& c : commands) width = std::max(width, std::string(c.name).size());
  std::string text = fmt::format("{}\n\nUsage: {} COMMAND [options]\n\nCommands:\n", about, program);
  for (const Command& c : commands) text += fmt::format("  {:<{}}  {}\n", c.name, width, c.summary);
  return text + fmt::format("\n{} COMMAND --help tells a command's options and shows an example.\n", program);
}

}  // namespace

std::string message_of(const std::exception& error) {
  const bool memory = dynamic_cast<const std::bad_alloc*>(&error) || dynamic_cast<const std::length_error*>(&error);
  return memory ? "expected a task that fits in memory, found a larger one" : error.what();
}

std::string did_you_mean(const std::string& found, const std::vector<std::string>& names) {
  std::string best;
  std::size_t least = (found.size() < 4 ? 1 : std::max<std::size_t>(2, found.size() / 3)) + 1;
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(found, name);
    if (distance < least) least = distance, best = name;
  }
  return best.empty() ? "" : ", did you mean " + best + "?";
}

int dispatch(const std::string& program, const std::string& about, std::span<const Command> commands, Arguments arguments) {
  if (arguments.empty()) {
    fmt::print(stderr, "{}", command_list(program, about, commands));
    return 2;
  }
  const std::string& name = arguments[0];
  if (name == "--help" || name == "-h" || (name == "help" && arguments.size() == 1)) {
    fmt::print("{}", command_list(program, about, commands));
    return 0;
  }
  if (name == "help") {
    const std::vector<std::string> asked{arguments[1], "--help"};
    return dispatch(program, about, commands, asked);
  }
  std::vector<std::string> names;
  for (const Command& c : commands) {
    if (name == c.name) return c.run(arguments.subspan(1));
    names.emplace_back(c.name);
  }
  std::string all;
  for (const std::string& n : names) all += (all.empty() ? "" : ", ") + n;
  throw UsageError(fmt::format("expected a command of {}, found {}{}", all, name, did_you_mean(name, names)));
}

}  // namespace glassformer::cli
