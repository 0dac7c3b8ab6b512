#include "cli/options.hpp"

#include <algorithm>
#include <cmath>
#include <cxxopts.hpp>
#include <limits>
#include <ranges>
#include <set>

#include "glassformer/exchange/exchange.hpp"

namespace glassformer::cli {
namespace {

constexpr double kLargest = 9e15;      // integers up to here are exact in a double
constexpr double kMostBytes = 0x1p33;  // 8G

bool takes_value(const Option& o) { return o.kind != OptionKind::flag && o.kind != OptionKind::toggle; }

// "4M", "500K", "1G", "1234", "4MB"
std::optional<double> bytes(std::string text) {
  if (text.size() > 1 && (text.back() == 'B' || text.back() == 'b')) text.pop_back();
  double unit = 1;
  if (!text.empty()) {
    const auto at = std::string("KMG").find(static_cast<char>(std::toupper(static_cast<unsigned char>(text.back()))));
    if (at != std::string::npos) unit = std::pow(1024.0, static_cast<double>(at + 1)), text.pop_back();
  }
  const auto value = number<double>(text);
  if (!value || !std::isfinite(*value)) return std::nullopt;
  return std::floor(*value * unit);
}

constexpr char kBetween = '\0';  // the values of a list: no argument has one

// What a value should have been, or nothing when it is fine.
std::string complaint(const Option& o, const std::string& text) {
  const std::string at_least = o.least > -kLargest ? fmt::format(" of at least {:g}", o.least) : "";
  switch (o.kind) {
    case OptionKind::integer: {
      const auto n = number<Index>(text);
      if (!n || static_cast<double>(*n) < o.least || static_cast<double>(*n) > o.most) return "a whole number" + at_least;
      return "";
    }
    case OptionKind::size: {
      const auto n = bytes(text);
      if (!n || *n < o.least || *n > o.most) return "a number of bytes such as 4M or 500K, up to 8G";
      return "";
    }
    case OptionKind::real: {
      const auto x = number<double>(text);
      const bool within = x && std::isfinite(*x) && *x >= o.least && *x <= o.most && !(o.exclusive && *x <= o.least);
      if (within) return "";
      if (o.exclusive) return fmt::format("a number above {:g}", o.least);
      return o.most < kLargest ? fmt::format("a number from {:g} to {:g}", o.least, o.most) : "a number" + at_least;
    }
    case OptionKind::choice: {
      if (std::ranges::find(o.valid, text) != o.valid.end()) return "";
      std::string all;
      for (const std::string& v : o.valid) all += (all.empty() ? "" : ", ") + v;
      return "one of " + all;
    }
    default:
      return "";
  }
}

// Text in lines of at most `width` letters, the later ones indented.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t width) {
  std::string out;
  std::size_t column = indent;
  for (const auto word : std::views::split(text, ' ')) {
    const std::string w(word.begin(), word.end());
    if (column > indent && column + 1 + w.size() > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += " ", ++column;
    }
    out += w, column += w.size();
  }
  return out;
}

}  // namespace

Options::Options(std::string command, std::string about) : command_(std::move(command)), about_(std::move(about)) {}
Options::~Options() = default;

void Options::add(Option option) {
  option.group = group_;
  if (std::ranges::find(options_, option.name, &Option::name) != options_.end())
    throw std::logic_error("option declared twice: " + option.name);
  options_.push_back(std::move(option));
}

void Options::group(std::string title) { group_ = std::move(title); }
void Options::flag(std::string name, std::string help) {
  add({.name = std::move(name), .kind = OptionKind::flag, .help = std::move(help)});
}
void Options::toggle(std::string name, std::string help) {
  add({.name = std::move(name), .kind = OptionKind::toggle, .help = std::move(help)});
}
void Options::text(std::string name, std::string value_name, std::string help, std::string standard) {
  add({.name = std::move(name),
       .kind = OptionKind::text,
       .value_name = std::move(value_name),
       .help = std::move(help),
       .standard = std::move(standard)});
}
void Options::path(std::string name, std::string value_name, std::string help, bool must) {
  add({.name = std::move(name),
       .kind = OptionKind::text,
       .value_name = std::move(value_name),
       .help = std::move(help),
       .is_required = must});
}
void Options::list(std::string name, std::string value_name, std::string help) {
  add({.name = std::move(name), .kind = OptionKind::list, .value_name = std::move(value_name), .help = std::move(help)});
}
void Options::choice(std::string name, std::vector<std::string> valid, std::string help, std::string standard) {
  std::string names;
  for (const std::string& v : valid) names += (names.empty() ? "" : "|") + v;
  add({.name = std::move(name),
       .kind = OptionKind::choice,
       .value_name = std::move(names),
       .help = std::move(help),
       .standard = std::move(standard),
       .valid = std::move(valid)});
}
void Options::integer(std::string name, std::optional<Index> standard, Index least, std::string help) {
  add({.name = std::move(name),
       .kind = OptionKind::integer,
       .value_name = "N",
       .help = std::move(help),
       .standard = standard ? std::to_string(*standard) : "",
       .least = static_cast<double>(least),
       .most = kLargest});
}
void Options::real(std::string name, std::optional<double> standard, double least, double most, std::string help) {
  add({.name = std::move(name),
       .kind = OptionKind::real,
       .value_name = "X",
       .help = std::move(help),
       .standard = standard ? fmt::format("{:g}", *standard) : "",
       .least = least,
       .most = most});
}
void Options::positive(std::string name, std::optional<double> standard, std::string help) {
  real(std::move(name), standard, 0, kLargest, std::move(help));
  options_.back().exclusive = true;
}
void Options::size(std::string name, std::string standard, std::string help) {
  add({.name = std::move(name),
       .kind = OptionKind::size,
       .value_name = "BYTES",
       .help = std::move(help),
       .standard = std::move(standard),
       .least = 1,
       .most = kMostBytes});
}
void Options::common(unsigned which) {
  group("General");
  if (which & kSeed) integer("seed", 1, 0, "number that all random choices follow from: the same seed gives the same result");
  if (which & kThreads)
    integer("threads", standard_threads(), 1, "threads to compute with; results do not depend on them"), options_.back().most = 1024;
  if (which & kActivations) {
    choice("activations", {"exact", "int8"}, "what quantized weights are multiplied with: the activations as they are, or (q8_0, q4_0) in 8 bits, in whole numbers", "exact");
  }
  if (which & kKernels) choice("kernels", {"fused", "reference"}, "fast kernels, or the formulas as the documentation shows them", "fused");
  if (which & kJson) flag("json", "print one JSON object, alone on the last line of standard output");
}
void Options::example(std::string line) { examples_.push_back(std::move(line)); }

std::vector<std::string> Options::spellings() const {
  std::vector<std::string> all{"--help"};
  for (const Option& o : options_) {
    all.push_back("--" + o.name);
    if (o.kind == OptionKind::toggle) all.push_back("--no-" + o.name);
  }
  return all;
}

void Options::read(Arguments arguments) {
  const std::vector<std::string> known = spellings();
  const auto is_known = [&](const std::string& a) { return std::ranges::find(known, a.substr(0, a.find('='))) != known.end(); };
  for (std::size_t i = 0; i < arguments.size(); ++i) {  // a value that is missing would otherwise swallow the next option
    const auto o = std::ranges::find_if(options_, [&](const Option& option) { return "--" + option.name == arguments[i]; });
    if (o == options_.end() || !takes_value(*o)) continue;
    if (++i >= arguments.size()) throw UsageError(fmt::format("--{}: expected {}, found nothing", o->name, o->value_name));
    if (is_known(arguments[i]))
      throw UsageError(fmt::format("--{}: expected {}, found the option {}", o->name, o->value_name, arguments[i]));
  }
  cxxopts::Options parser("glassformer " + command_);
  parser.allow_unrecognised_options();
  auto add = parser.add_options();
  for (const Option& o : options_) {
    if (takes_value(o)) {
      add(o.name, "", cxxopts::value<std::string>());
    } else {
      add(o.name, "", cxxopts::value<bool>());
      if (o.kind == OptionKind::toggle) add("no-" + o.name, "", cxxopts::value<bool>());
    }
  }
  std::vector<const char*> argv{"glassformer"};
  for (const std::string& a : arguments) argv.push_back(a.c_str());
  try {
    const auto result = parser.parse(static_cast<int>(argv.size()), argv.data());
    for (const std::string& a : result.unmatched()) {
      if (a.size() > 1 && a[0] == '-')
        throw UsageError(fmt::format("unknown option {}{}", a, did_you_mean(a.substr(0, a.find('=')), known)));
      throw UsageError(fmt::format("expected options, found {}", a.empty() ? "an empty argument" : a));
    }
    for (const auto& pair : result.arguments()) {
      const bool negated = pair.key().starts_with("no-") && std::ranges::find(options_, pair.key(), &Option::name) == options_.end();
      const std::string name = negated ? pair.key().substr(3) : pair.key();
      const Option& option = *std::ranges::find(options_, name, &Option::name);
      const std::string text = negated ? (pair.value() == "true" ? "false" : "true") : pair.value();
      const auto [at, fresh] = values_.emplace(name, text);
      if (fresh || (at->second == text && option.kind != OptionKind::list)) continue;
      if (option.kind != OptionKind::list)
        throw UsageError(fmt::format("--{}: expected one value, found {} and {}", name, at->second, text));
      at->second += kBetween + text;
    }
  } catch (const cxxopts::exceptions::exception& error) {
    throw UsageError(error.what());
  }
}

bool Options::parse(Arguments arguments) {
  if (std::ranges::any_of(arguments, [](const std::string& a) { return a == "--help" || a == "-h"; })) {
    fmt::print("{}", help());
    return false;
  }
  read(arguments);
  for (const Option& o : options_) {
    const auto at = values_.find(o.name);
    if (at == values_.end()) {
      if (o.is_required) throw UsageError(fmt::format("expected --{} {}; see glassformer {} --help", o.name, o.value_name, command_));
      continue;
    }
    if (const std::string expected = complaint(o, at->second); !expected.empty()) {
      const std::string near = o.kind == OptionKind::choice ? did_you_mean(at->second, o.valid) : "";
      throw UsageError(fmt::format("--{}: expected {}, found {}{}", o.name, expected, at->second.empty() ? "nothing" : at->second, near));
    }
    if (o.is_required && at->second.empty()) throw UsageError(fmt::format("--{}: expected {}, found nothing", o.name, o.value_name));
  }
  if (asks("activations", "int8") && asks("kernels", "reference"))
    throw UsageError("--activations int8: expected --kernels fused, found reference, which takes the activations as they are");
  return true;
}

const Option& Options::declared(const std::string& name, std::initializer_list<OptionKind> kinds) const {
  const auto o = std::ranges::find(options_, name, &Option::name);
  if (o == options_.end() || std::ranges::find(kinds, o->kind) == kinds.end()) throw std::logic_error("option not declared so: " + name);
  return *o;
}

const std::string& Options::value(const Option& o) const {
  const auto at = values_.find(o.name);
  return at == values_.end() ? o.standard : at->second;
}

bool Options::given(const std::string& name) const { return values_.contains(name); }
bool Options::is_set(const std::string& name) const { return value(declared(name, {OptionKind::flag})) == "true"; }
std::string Options::text(const std::string& name) const { return value(declared(name, {OptionKind::text, OptionKind::choice})); }
std::vector<std::string> Options::texts(const std::string& name) const {
  std::vector<std::string> all;
  if (!given(name)) return all;
  const std::string& text = value(declared(name, {OptionKind::list}));
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(kBetween, begin), text.size());
    all.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return all;
}
Index Options::integer(const std::string& name) const {
  const Option& o = declared(name, {OptionKind::integer, OptionKind::size});
  const auto n = o.kind == OptionKind::size ? bytes(value(o)) : number<double>(value(o));
  if (!n) throw std::logic_error("option without a value: " + name);
  return static_cast<Index>(*n);
}
double Options::real(const std::string& name) const {
  const auto x = number<double>(value(declared(name, {OptionKind::real})));
  if (!x) throw std::logic_error("option without a value: " + name);
  return *x;
}
std::optional<bool> Options::toggled(const std::string& name) const {
  const std::string& v = value(declared(name, {OptionKind::toggle}));
  return v.empty() ? std::nullopt : std::optional<bool>(v == "true");
}

bool Options::asks(const char* option, const char* value) const {
  return std::ranges::find(options_, option, &Option::name) != options_.end() && text(option) == value;
}

Exec Options::exec() const {
  Exec exec;
  exec.threads = static_cast<int>(integer("threads"));
  exec.kernels = asks("kernels", "reference") ? Kernels::reference : Kernels::fused;
  exec.activations = asks("activations", "int8") ? Activations::int8 : Activations::exact;
  return exec;
}
std::uint64_t Options::seed() const { return static_cast<std::uint64_t>(integer("seed")); }

void Options::supply(const std::string& name, const std::string& text) {
  if (std::ranges::find(options_, name, &Option::name) != options_.end()) values_[name] = text;
}

bool Options::same(const std::string& name, const std::string& text) const {
  const auto o = std::ranges::find(options_, name, &Option::name);
  if (o == options_.end()) return false;
  const std::string& mine = value(*o);
  if (o->kind == OptionKind::size) return bytes(mine) == bytes(text);
  const bool numeric = o->kind == OptionKind::integer || o->kind == OptionKind::real;
  return numeric ? number<double>(mine) == number<double>(text) : mine == text;
}

bool Options::is_standard(const std::string& name) const {
  const auto o = std::ranges::find(options_, name, &Option::name);
  return o != options_.end() && same(name, o->standard);
}

std::string Options::help() const {
  std::string text = fmt::format("{}\n\nUsage: glassformer {} [options]\n", about_, command_);
  std::string group;
  for (const Option& o : options_) {
    if (o.group != group) text += fmt::format("\n{}:\n", group = o.group);
    const bool long_choice = o.kind == OptionKind::choice && o.value_name.size() > 24;
    std::string head = "--" + std::string(o.kind == OptionKind::toggle ? "[no-]" : "") + o.name;
    if (takes_value(o)) head += " " + (long_choice ? "NAME" : o.value_name);
    std::string tail = o.help;
    if (long_choice) tail += ": " + o.value_name;
    if (!o.standard.empty()) tail += fmt::format(" ({})", o.standard);
    if (o.is_required) tail += " (required)";
    if (o.kind == OptionKind::list) tail += " (may be repeated)";
    text += fmt::format("  {:<28}{}{}\n", head, head.size() > 27 ? " " : "", wrapped(tail, 30, 118));
  }
  if (!examples_.empty()) text += "\nExample:\n";
  for (const std::string& e : examples_) text += "  " + e + "\n";
  return text;
}

}  // namespace glassformer::cli
