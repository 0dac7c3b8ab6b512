// Numbers as people type them, and as they are shown.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <numbers>

#include "glassformer/plot/text.hpp"
#include "learn/interview.hpp"

namespace glassformer {
namespace {

constexpr int kDeepest = 40;  // brackets and signs inside each other

struct NotANumber {
  std::string why;  // empty: no number at all
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// sum = term {(+|−) term}   term = power {(*|/) power}   power = signed [^ power]   signed = [−] primary
// primary = number [factor] [unit] | function signed | ( sum )
class Reader {
 public:
  Reader(std::string_view text, std::string_view unit) : text_(text), unit_(lower(unit)) {}

  double read() {
    const double value = sum();
    if (at_ != text_.size()) throw NotANumber{fmt::format("\"{}\" after the number", text_.substr(at_))};
    if (!std::isfinite(value)) throw NotANumber{"a number that is not finite"};
    return value;
  }

 private:
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  bool take(std::string_view sign) {
    skip_spaces();
    if (!text_.substr(at_).starts_with(sign)) return false;
    at_ += sign.size();
    return true;
  }
  bool take_minus() { return take("-") || take("−"); }
  // "8x64" multiplies, "8x" is a unit: after the x and spaces, where a factor begins; else 0.
  std::size_t factor_after_x() {
    skip_spaces();
    if (!text_.substr(at_).starts_with("x")) return 0;
    const std::size_t next = text_.find_first_not_of(' ', at_ + 1);
    return next != std::string_view::npos && (is_digit(text_[next]) || text_[next] == '(') ? next : 0;
  }
  bool take_times() {
    if (take("*") || take("×") || take("·")) return true;
    const std::size_t next = factor_after_x();
    if (next > 0) at_ = next;
    return next > 0;
  }
  std::string take_word() {
    skip_spaces();
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_letter(text_[at_])) ++at_;
    if (at_ > begin) {
      while (at_ < text_.size() && is_digit(text_[at_])) ++at_;  // log2
    }
    return std::string(text_.substr(begin, at_ - begin));
  }

  double sum() {
    double value = term();
    while (true) {
      if (take("+")) {
        value += term();
      } else if (take_minus()) {
        value -= term();
      } else {
        return value;
      }
    }
  }
  double term() {
    double value = power();
    while (true) {
      if (take_times()) {
        value *= power();
      } else if (take("/") || take("÷")) {
        const double divisor = power();
        if (divisor == 0) throw NotANumber{"a division by zero"};
        value /= divisor;
      } else {
        return value;
      }
    }
  }
  double power() {
    const double base = with_sign();
    return take("**") || take("^") ? std::pow(base, power()) : base;
  }
  double with_sign() {
    if (++depth_ > kDeepest) throw NotANumber{"too many brackets"};
    const double value = take_minus() ? -power() : take("+") ? power() : primary();
    --depth_;
    return value;
  }
  double primary() {
    skip_spaces();
    if (take("(")) {
      const double value = sum();
      if (!take(")")) throw NotANumber{"a bracket that is not closed"};
      return factors(value);
    }
    if (take("√")) return std::sqrt(with_sign());
    if (at_ < text_.size() && (is_digit(text_[at_]) || text_[at_] == '.')) return factors(digits());
    const std::string name = lower(take_word());
    if (name == "pi") return std::numbers::pi;
    if (name == "ln") return std::log(with_sign());
    if (name == "exp") return std::exp(with_sign());
    if (name == "sqrt") return std::sqrt(with_sign());
    if (name == "cos") return std::cos(with_sign());
    if (name == "sin") return std::sin(with_sign());
    if (name == "log2") return std::log2(with_sign());
    if (name == "log10") return std::log10(with_sign());
    if (name == "log") throw NotANumber{"log: write ln, log2 or log10"};
    throw NotANumber{};
  }

  // 1024   1,024   1 024   1_024   0.5   3e5
  double digits() {
    std::string number;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (is_digit(c) || c == '.') {
        number += c, ++at_;
      } else if ((c == ',' || c == '_' || c == ' ') && three_digits_at(at_ + 1) && number.find('.') == std::string::npos) {
        ++at_;
      } else {
        break;
      }
    }
    if (at_ < text_.size() && text_[at_] == ',') throw NotANumber{"a comma that separates no thousands: write 1.5 or 1,500"};
    if (number == "0" && text_.substr(at_).starts_with("x")) throw NotANumber{"a hexadecimal number"};
    if (std::ranges::count(number, '.') > 1 || number == ".") throw NotANumber{fmt::format("\"{}\"", number)};
    if (at_ + 1 < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      const std::size_t sign = text_[at_ + 1] == '-' || text_[at_ + 1] == '+';
      if (at_ + 1 + sign < text_.size() && is_digit(text_[at_ + 1 + sign])) {
        number += text_.substr(at_, 1 + sign), at_ += 1 + sign;
        while (at_ < text_.size() && is_digit(text_[at_])) number += text_[at_++];
      }
    }
    return std::strtod(number.c_str(), nullptr);
  }
  bool three_digits_at(std::size_t i) const {
    if (i + 3 > text_.size()) return false;
    return is_digit(text_[i]) && is_digit(text_[i + 1]) && is_digit(text_[i + 2]) && (i + 3 == text_.size() || !is_digit(text_[i + 3]));
  }

  // k, MiB, million, %, and the unit's own words
  double factors(double value) {
    if (take("%")) return unit_ == "%" ? value : value / 100;
    while (factor_after_x() == 0) {
      const std::size_t before = at_;
      const std::string word = take_word();
      if (word.empty()) break;
      if (take("(")) throw NotANumber{fmt::format("\"{}(\" after a number", word)};
      if (const double factor = factor_of(word); factor > 0) {
        value *= factor;
      } else if (!is_unit(lower(word))) {
        at_ = before;
        throw NotANumber{fmt::format("\"{}\"", text_.substr(before))};
      }
    }
    return value;
  }
  double factor_of(const std::string& word) const {
    const std::string name = lower(word);
    if (name == "thousand") return 1e3;
    if (name == "million") return 1e6;
    if (name == "billion") return 1e9;
    const bool bytes = unit_ == "bytes";
    if (name == "b") return bytes ? 1 : word == "B" ? 1e9 : 0;
    const std::string_view prefixes = "kmgt";
    const std::size_t power = prefixes.find(name[0]);
    if (power == std::string_view::npos || word == "m" || word == "t") return 0;  // 5 m is no million
    const std::string rest = name.substr(1);
    if (!rest.empty() && rest != "i" && !(bytes && (rest == "b" || rest == "ib"))) return 0;
    return std::pow(rest.starts_with("i") ? 1024.0 : 1000.0, static_cast<double>(power + 1));
  }
  bool is_unit(const std::string& word) const {
    if (word == "x" || word == "times") return unit_.empty() || unit_ == "times";
    if (word == "percent") return unit_ == "%";
    std::string name;
    for (const char c : unit_ + " ") {  // "tokens a second": any of its words, one or many of it
      if (c != ' ') {
        name += c;
        continue;
      }
      if (!name.empty() && (word == name || word + "s" == name || word == name + "s")) return true;
      name.clear();
    }
    return unit_ == "parameters" && word.starts_with("param");
  }

  std::string_view text_;
  std::string unit_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Whatever was typed, safe for a terminal and short.
std::string shown(std::string_view typed) {
  return plot::fit(plot::visible(typed, false), 40);
}

}  // namespace

Expected<double> parse_answer(std::string_view typed, std::string_view unit) {
  std::string_view text = trimmed(typed);
  for (const std::string_view about : {"~", "≈", "about ", "ca. ", "="}) {
    if (text.starts_with(about)) text = trimmed(text.substr(about.size()));
  }
  const std::string in = unit.empty() ? "" : fmt::format(" in {}", unit);
  try {
    if (text.size() > 200) throw NotANumber{"a longer text"};
    return Reader(text, unit).read();
  } catch (const NotANumber& e) {
    const std::string found = e.why.empty() ? fmt::format("\"{}\"", shown(text)) : e.why;
    return unexpected("expected a number{} (such as 1024, 1.5k, 2^10, 3*64), found {}", in, shown(found));
  }
}

std::string amount_text(double value, std::string_view unit) {
  std::string text = learn::digits(value);
  if (unit == "%") return text + "%";
  if (!unit.empty()) text += fmt::format(" {}", unit);
  if (unit == "bytes" && value >= 1024) text += fmt::format(" ({})", learn::binary_bytes(value));
  return text;
}

namespace learn {

std::string grouped(double n) {
  std::string text = fmt::format("{:.0f}", std::abs(n));
  for (std::size_t i = text.size(); i > 3;) text.insert(i -= 3, ",");
  return (n < 0 && text != "0" ? "−" : "") + text;
}

std::string digits(double x) {
  const double size = std::abs(x);
  if (!std::isfinite(x)) return std::isnan(x) ? "NaN" : x > 0 ? "∞" : "−∞";
  if (x == std::round(x) && size < 1e15) return grouped(x);
  if (size >= 1e15) return fmt::format("{:.3e}", x);
  if (size >= 10000) return grouped(x);
  if (size < 1e-5) return fmt::format("{:.3g}", x);
  std::string text = fmt::format("{:.{}f}", size, std::max(0, 3 - static_cast<int>(std::floor(std::log10(size)))));
  return (x < 0 ? "−" : "") + text;
}

std::string binary_bytes(double bytes) {
  static constexpr std::array<const char*, 5> kNames = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  std::size_t i = 0;
  while (bytes >= 1024 && i + 1 < kNames.size()) bytes /= 1024, ++i;
  return fmt::format("{:.{}f} {}", bytes, bytes == std::round(bytes) || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2, kNames[i]);
}

}  // namespace learn
}  // namespace glassformer
