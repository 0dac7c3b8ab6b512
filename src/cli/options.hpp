// Options of a command: declared with help and default, parsed, read by name.
//
//   Options o("sample", "Writes text with a model.");
//   o.path("model", "DIR", "model directory", required);
//   o.integer("max-tokens", 200, 1, "tokens to write, at most");
//   o.common(kSeed | kThreads | kJson);
//   o.example("glassformer sample --model out --prompt \"Once upon a time\"");
//   if (!o.parse(arguments)) return 0;              // --help was asked for, and printed
//   const Index n = o.integer("max-tokens");
//
// Reading a name that was not declared, or as another type, is a programmer's mistake: std::logic_error.
#pragma once
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.hpp"
#include "glassformer/core/parallel.hpp"

namespace glassformer::cli {

enum class OptionKind { flag, toggle, text, list, choice, integer, real, size };

struct Option {
  std::string name = {};
  OptionKind kind = OptionKind::text;
  std::string value_name = {};  // DIR, FILE, N: what the help calls the value
  std::string help = {};
  std::string standard = {};            // the default as it would be typed; "" none
  std::vector<std::string> valid = {};  // choice
  double least = 0, most = 0;           // integer, real, size
  bool exclusive = false;               // real: `least` itself is not allowed
  bool is_required = false;
  std::string group = {};
};

// The whole text as a number; nothing when it is none.
template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

inline constexpr bool required = true;
enum Common : unsigned { kSeed = 1, kThreads = 2, kJson = 4, kKernels = 8, kActivations = 16 };

class Options {
 public:
  // `command` as it is typed after "glassformer": "tokenizer train".
  Options(std::string command, std::string about);
  ~Options();

  void group(std::string title);  // heading of the options declared next
  void flag(std::string name, std::string help);
  void toggle(std::string name, std::string help);  // --NAME and --no-NAME
  void text(std::string name, std::string value_name, std::string help, std::string standard = "");
  void path(std::string name, std::string value_name, std::string help, bool must = false);
  void list(std::string name, std::string value_name, std::string help);  // may be repeated
  void choice(std::string name, std::vector<std::string> valid, std::string help, std::string standard = "");
  // Without a default (nullopt) the value is read by `integer_or`, and the help should say what stands in for it.
  void integer(std::string name, std::optional<Index> standard, Index least, std::string help);
  void real(std::string name, std::optional<double> standard, double least, double most, std::string help);
  void positive(std::string name, std::optional<double> standard, std::string help);  // a number above zero
  void size(std::string name, std::string standard, std::string help);                // bytes: 500K = 500·1024, 4M = 4·1024²
  void common(unsigned which);
  void example(std::string line);

  // Checks every argument and every value. False when help was asked for: it is on standard output then.
  // Throws UsageError for an unknown option, a missing or bad value, a required option that is absent.
  bool parse(Arguments);

  bool given(const std::string& name) const;  // on the command line (or supplied)
  bool is_set(const std::string& flag) const;
  std::string text(const std::string& name) const;  // text, path, choice
  std::vector<std::string> texts(const std::string& name) const;
  Index integer(const std::string& name) const;  // integer, size
  double real(const std::string& name) const;
  std::optional<bool> toggled(const std::string& name) const;
  Index integer_or(const std::string& name, Index otherwise) const { return given(name) ? integer(name) : otherwise; }
  double real_or(const std::string& name, double otherwise) const { return given(name) ? real(name) : otherwise; }

  Exec exec() const;           // --threads, --kernels, --activations
  std::uint64_t seed() const;  // --seed
  bool json() const { return is_set("json"); }

  // What was given, as it would be typed (name → value; a list's values joined by zero bytes), and giving it again: for a run that is
  // resumed.
  std::map<std::string, std::string> values() const { return values_; }
  void supply(const std::string& name, const std::string& value);
  // Is this value, as it could be typed, the one that was given? Numbers are compared as numbers: 1e-3 is 0.001.
  bool same(const std::string& name, const std::string& value) const;
  bool is_standard(const std::string& name) const;  // its value is the default, given or not

  const std::string& command() const { return command_; }
  std::string help() const;

 private:
  void add(Option);
  const Option& declared(const std::string& name, std::initializer_list<OptionKind>) const;
  const std::string& value(const Option&) const;
  bool asks(const char* choice, const char* value) const;  // false where the command has no such option
  std::vector<std::string> spellings() const;
  void read(Arguments);

  std::string command_, about_, group_ = "Options";
  std::vector<Option> options_;
  std::vector<std::string> examples_;
  std::map<std::string, std::string> values_;
};

}  // namespace glassformer::cli
