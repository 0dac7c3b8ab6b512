// A command of the program, and how it ends.
//
// To add a command, say `bench`: write src/cli/bench.cpp with `int bench_command(Arguments)`, declare it below and add a row to the table
// in main.cpp. The function declares its options (options.hpp), does its work and returns the exit code:
//   0 done      1 it could not be done      2 wrong usage      130 interrupted: saved what there was, and said how to go on
// It need not catch anything: main turns what is thrown into one line on standard error, "glassformer: what", and an exit code.
#pragma once
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer::cli {

using Arguments = std::span<const std::string>;  // what follows the command's name

struct Command {
  const char* name;
  const char* summary;  // one line
  int (*run)(Arguments);
};

// The user's mistake in calling the program: exit 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
template <class... A>
void require_usage(bool ok, fmt::format_string<A...> message, A&&... arguments) {
  if (!ok) throw UsageError(fmt::format(message, std::forward<A>(arguments)...));
}

// What could not be done: exit 1. The library's std::invalid_argument and std::runtime_error end the same way.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The value, or Failure with the sentence that says why there is none.
template <class T>
T checked(Expected<T> result) {
  if (!result) throw Failure(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// What an exception says to the user: main prints it, and other processes are told it.
std::string message_of(const std::exception&);

// Finds the command named by the first argument and runs it with the others. `program` stands before the name in messages: "glassformer",
// "glassformer tokenizer". Without a name: the list on standard error, exit 2; --help: the list on standard output, exit 0.
int dispatch(const std::string& program, const std::string& about, std::span<const Command>, Arguments);

// ", did you mean NAME?" when one of the names is nearly `found`, else nothing.
std::string did_you_mean(const std::string& found, const std::vector<std::string>& names);

// One file each.
int bench_command(Arguments);
int convert_command(Arguments);
int corpus_command(Arguments);
int debug_command(Arguments);
int demo_command(Arguments);
int eval_command(Arguments);
int explain_command(Arguments);
int gradcheck_command(Arguments);
int interview_command(Arguments);
int lora_command(Arguments);
int quantize_command(Arguments);
int sample_command(Arguments);
int tokenizer_command(Arguments);
int train_command(Arguments);

}  // namespace glassformer::cli
