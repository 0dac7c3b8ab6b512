// Counts the derivations of a text: written from the notation of data/grammar.hpp, sharing nothing with the generator but the grammar.
// Follows every alternative of every rule at once and keeps each way apart, so two ways of making one text are seen as two.
#pragma once
#include <cctype>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/data/grammar.hpp"

namespace glassformer {

struct Way {
  std::size_t position = 0;
  double probability_log2 = 0;
  std::map<int, std::string> memory = {};
};

class Derivations {
 public:
  Derivations(const Grammar& grammar, std::string_view text) : grammar_(grammar), text_(text) {}

  // Every way to derive a prefix of text[from…] from the start rule: where it ends, and log₂ of its probability.
  std::vector<Way> documents_from(std::size_t from) { return rule(0, {}, {from, 0}); }

  // Every piece of text that can come next when the text is the beginning of a document; empty when it is not.
  std::set<std::string> continuations() {
    next_.clear();
    documents_from(0);
    return next_;
  }

 private:
  std::vector<Way> rule(int index, const std::vector<int>& except, const Way& before, bool silent = false) {
    std::vector<Way> ways;
    const Rule& r = grammar_.rules[static_cast<std::size_t>(index)];
    double total = 0;
    for (const Alternative& a : r.alternatives) total += left_out(a, except, before) ? 0 : static_cast<double>(a.weight);
    for (const Alternative& a : r.alternatives) {
      if (left_out(a, except, before)) continue;
      const double chosen = std::log2(static_cast<double>(a.weight) / total);
      if (silent) {  // only lists are drawn in silence: the text says nothing yet, so every word stays possible
        Way way = before;
        way.probability_log2 += chosen;
        way.memory[kDrawn] = a.parts.at(0).text;
        ways.push_back(std::move(way));
        continue;
      }
      std::vector<Way> frontier = {before};
      frontier[0].probability_log2 += chosen;
      for (const Part& p : a.parts) {
        std::vector<Way> next;
        for (const Way& way : frontier)
          for (Way& further : part(p, way)) next.push_back(std::move(further));
        frontier = std::move(next);
        if (frontier.empty()) break;
      }
      for (Way& way : frontier) ways.push_back(std::move(way));
    }
    return ways;
  }

  std::vector<Way> part(const Part& p, const Way& before) {
    switch (p.kind) {
      case PartKind::literal: return match(p.text, before);
      case PartKind::recall: return match(written(p.derived, before.memory.at(p.variable)), before);
      case PartKind::remember: {
        Way way = before;
        way.memory[p.variable] = p.text;
        return {way};
      }
      case PartKind::draw: break;
    }
    std::vector<Way> ways = rule(p.rule, p.except, before, p.silent);
    for (Way& way : ways)
      if (p.variable >= 0)
        way.memory[p.variable] = p.silent ? way.memory.at(kDrawn) : std::string(text_.substr(before.position, way.position - before.position));
    return ways;
  }

  std::vector<Way> match(std::string_view wanted, const Way& before) {
    const auto rest = text_.substr(before.position);
    if (rest.size() < wanted.size() && wanted.substr(0, rest.size()) == rest) next_.emplace(wanted.substr(rest.size()));
    if (rest.substr(0, wanted.size()) != wanted) return {};
    Way way = before;
    way.position += wanted.size();
    return {way};
  }

  static bool left_out(const Alternative& a, const std::vector<int>& except, const Way& way) {
    for (const int variable : except)
      if (way.memory.at(variable) == a.parts.at(0).text) return true;
    return false;
  }

  static std::string written(Derived derived, std::string s) {
    if (derived == Derived::capital) s[0] = static_cast<char>(std::toupper(s[0]));
    if (derived == Derived::lower)
      for (char& c : s) c = static_cast<char>(std::tolower(c));
    if (derived == Derived::last_four) s = s.substr(s.size() - 4);
    if (derived == Derived::luhn) {
      for (char check = '0'; check <= '9'; ++check)
        if (luhn_valid(s + check)) return std::string(1, check);
    }
    return s;
  }

 public:
  // A card number is valid when the sum of its digits, every second one from the right doubled with the digits of the result added, ends in 0.
  static bool luhn_valid(std::string_view card) {
    std::string digits;
    for (const char c : card)
      if (c != ' ') digits.insert(digits.begin(), c);
    static const int doubled[] = {0, 2, 4, 6, 8, 1, 3, 5, 7, 9};
    int sum = 0;
    for (std::size_t i = 0; i < digits.size(); ++i) sum += i % 2 == 1 ? doubled[digits[i] - '0'] : digits[i] - '0';
    return sum % 10 == 0;
  }

 private:
  static constexpr int kDrawn = -2;  // memory's place for what a silent draw drew
  const Grammar& grammar_;
  std::string_view text_;
  std::set<std::string> next_;
};

}  // namespace glassformer
