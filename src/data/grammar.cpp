#include "glassformer/data/grammar.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

char upper(char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); }
char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

// The digit that makes the Luhn sum of digits + itself divisible by ten (ISO/IEC 7812-1, annex B). What is not a digit is passed over.
char luhn_check_digit(std::string_view digits) {
  int sum = 0;
  bool doubled = true;  // counting from the right, the last digit before the check digit is the first to be doubled
  for (std::size_t i = digits.size(); i-- > 0;) {
    if (digits[i] < '0' || digits[i] > '9') continue;
    const int digit = (digits[i] - '0') * (doubled ? 2 : 1);
    sum += digit > 9 ? digit - 9 : digit;
    doubled = !doubled;
  }
  return static_cast<char>('0' + (10 - sum % 10) % 10);
}

// One document in the making.
struct Derivation {
  const Grammar& grammar;
  const RandomStream& stream;
  std::string& text;
  std::vector<Mention>* mentions;
  std::vector<std::string> remembered;
  std::vector<int> drawn_from;
  double bits = 0;
  std::uint64_t choices = 0;

  Derivation(const Grammar& g, const RandomStream& s, std::string& t, std::vector<Mention>* m)
      : grammar(g), stream(s), text(t), mentions(m), remembered(g.variables.size()), drawn_from(g.variables.size(), -1) {}

  bool excluded(const Alternative& a, const std::vector<int>& except) const {
    return std::any_of(except.begin(), except.end(),
                       [&](int variable) { return remembered[static_cast<std::size_t>(variable)] == a.parts.front().text; });
  }

  const Alternative& choose(const Rule& rule, const std::vector<int>& except) {
    Index total = rule.total_weight;
    if (!except.empty()) {
      for (const Alternative& a : rule.alternatives) total -= excluded(a, except) ? a.weight : 0;
      require(total > 0, "grammar: rule {} has no word left to draw", rule.name);
    }
    if (total == 1) return *std::find_if(rule.alternatives.begin(), rule.alternatives.end(), [&](const Alternative& a) { return !excluded(a, except); });
    auto r = static_cast<Index>(random_below(stream, choices++, static_cast<std::uint64_t>(total)));
    for (const Alternative& a : rule.alternatives) {
      if (!except.empty() && excluded(a, except)) continue;
      if (r < a.weight) {
        bits += std::log2(static_cast<double>(total) / static_cast<double>(a.weight));
        return a;
      }
      r -= a.weight;
    }
    return rule.alternatives.back();  // not reached: the weights sum to total
  }

  void expand(int rule, const std::vector<int>& except) {
    for (const Part& part : choose(grammar.rules[static_cast<std::size_t>(rule)], except).parts) write(part);
  }

  void write(const Part& part) {
    const auto begin = text.size();
    const auto variable = static_cast<std::size_t>(part.variable);
    switch (part.kind) {
      case PartKind::literal: text += part.text; return;
      case PartKind::remember: remembered[variable] = part.text, drawn_from[variable] = -1; return;
      case PartKind::recall: text += derived_text(part.derived, remembered[variable]); break;
      case PartKind::draw:
        expand(part.rule, part.except);
        if (part.variable < 0) return;
        remembered[variable] = text.substr(begin), drawn_from[variable] = part.rule;
        if (part.silent) {
          text.resize(begin);
          return;
        }
    }
    if (mentions)
      mentions->push_back({static_cast<Index>(begin), static_cast<Index>(text.size()), part.variable, drawn_from[variable],
                           part.kind == PartKind::recall, part.derived});
  }
};

// Expectations in the making: the mean length of what each variable remembers.
struct Expectation {
  const Grammar& grammar;
  std::vector<double> length;

  DocumentExpectation expand(int index, std::size_t except) {
    const Rule& rule = grammar.rules[static_cast<std::size_t>(index)];
    DocumentExpectation mean;
    const std::vector<double> before = length;
    std::vector<double> after(length.size(), 0.0);
    for (const Alternative& a : rule.alternatives) {
      const double p = static_cast<double>(a.weight) / static_cast<double>(rule.total_weight);
      mean.bits -= p * std::log2(p);
      length = before;
      for (const Part& part : a.parts) {
        const DocumentExpectation e = expand(part);
        mean.bits += p * e.bits, mean.bytes += p * e.bytes;
      }
      for (std::size_t v = 0; v < length.size(); ++v) after[v] += p * length[v];
    }
    if (except > 0) mean.bits = std::log2(static_cast<double>(rule.alternatives.size() - except));
    length = after;
    return mean;
  }

  DocumentExpectation expand(const Part& part) {
    const auto variable = static_cast<std::size_t>(part.variable);
    switch (part.kind) {
      case PartKind::literal: return {0, static_cast<double>(part.text.size())};
      case PartKind::remember: length[variable] = static_cast<double>(part.text.size()); return {};
      case PartKind::recall:
        if (part.derived == Derived::luhn) return {0, 1};
        if (part.derived == Derived::last_four) return {0, 4};
        return {0, length[variable]};
      case PartKind::draw: break;
    }
    DocumentExpectation e = expand(part.rule, part.except.size());
    if (part.variable >= 0) length[variable] = e.bytes;
    if (part.silent) e.bytes = 0;
    return e;
  }
};

}  // namespace

int Grammar::rule(std::string_view name) const {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const Rule& r) { return r.name == name; });
  return found == rules.end() ? -1 : static_cast<int>(found - rules.begin());
}

int Grammar::variable(std::string_view name) const {
  const auto found = std::find(variables.begin(), variables.end(), name);
  return found == variables.end() ? -1 : static_cast<int>(found - variables.begin());
}

std::string derived_text(Derived derived, std::string_view remembered) {
  std::string text(remembered);
  switch (derived) {
    case Derived::same: break;
    case Derived::capital:
      if (!text.empty()) text[0] = upper(text[0]);
      break;
    case Derived::lower: std::transform(text.begin(), text.end(), text.begin(), lower); break;
    case Derived::luhn: return std::string(1, luhn_check_digit(remembered));
    case Derived::last_four: return text.size() > 4 ? text.substr(text.size() - 4) : text;
  }
  return text;
}

double derive(const Grammar& grammar, const RandomStream& stream, std::string& text, std::vector<Mention>* mentions) {
  Derivation derivation(grammar, stream, text, mentions);
  derivation.expand(0, {});
  return derivation.bits;
}

DocumentExpectation expected_document(const Grammar& grammar) {
  return Expectation{grammar, std::vector<double>(grammar.variables.size(), 0.0)}.expand(0, 0);
}

}  // namespace glassformer
