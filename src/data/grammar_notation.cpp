// Reads the notation of data/grammar.hpp.
#include <algorithm>
#include <charconv>
#include <sstream>

#include "glassformer/core/require.hpp"
#include "glassformer/data/grammar.hpp"

namespace glassformer {
namespace {

struct Reader {
  Grammar grammar;
  int line = 0;

  template <class... A> void expect(bool ok, fmt::format_string<A...> message, A&&... arguments) const {
    if (!ok) throw std::invalid_argument(fmt::format("grammar, line {}: {}", line, fmt::format(message, std::forward<A>(arguments)...)));
  }

  int rule(std::string_view name) {
    expect(!name.empty(), "expected the name of a rule, found none");
    if (const int found = grammar.rule(name); found >= 0) return found;
    grammar.rules.push_back({std::string(name), {}, 0, false});
    return static_cast<int>(grammar.rules.size()) - 1;
  }

  int variable(std::string_view name) {
    expect(!name.empty(), "expected the name of a variable, found none");
    if (const int found = grammar.variable(name); found >= 0) return found;
    grammar.variables.emplace_back(name);
    return static_cast<int>(grammar.variables.size()) - 1;
  }

  // <-rule:x!a!b>
  Part draw(std::string_view body) {
    Part part;
    part.kind = PartKind::draw;
    part.silent = body.substr(0, 1) == "-";
    if (part.silent) body.remove_prefix(1);
    for (auto mark = body.rfind('!'); mark != std::string_view::npos; mark = body.rfind('!')) {
      part.except.push_back(variable(body.substr(mark + 1)));
      body = body.substr(0, mark);
    }
    const auto colon = body.find(':');
    part.rule = rule(body.substr(0, colon));
    if (colon != std::string_view::npos) part.variable = variable(body.substr(colon + 1));
    expect(!part.silent || part.variable >= 0, "a draw that writes nothing must be remembered: <-{}:x>", body);
    return part;
  }

  // [x], [x^], [x_], [x#], [x%]
  Part recall(std::string_view body) {
    Part part;
    part.kind = PartKind::recall;
    constexpr std::string_view marks = "^_#%";
    const auto mark = body.empty() ? std::string_view::npos : marks.find(body.back());
    if (mark != std::string_view::npos) {
      part.derived = static_cast<Derived>(mark + 1);
      body.remove_suffix(1);
    }
    part.variable = variable(body);
    return part;
  }

  // {x=text}
  Part remember(std::string_view body) {
    Part part;
    part.kind = PartKind::remember;
    const auto equals = body.find('=');
    expect(equals != std::string_view::npos, "expected {{variable=text}}, found {{{}}}", body);
    part.variable = variable(body.substr(0, equals));
    part.text = std::string(body.substr(equals + 1));
    return part;
  }

  std::vector<Part> parts(std::string_view source) {
    std::vector<Part> result;
    std::string literal;
    auto flush = [&] {
      if (!literal.empty()) result.push_back({PartKind::literal, literal, -1, -1, {}, false, Derived::same});
      literal.clear();
    };
    for (std::size_t i = 0; i < source.size(); ++i) {
      const char c = source[i];
      const char closing = c == '<' ? '>' : c == '[' ? ']' : c == '{' ? '}' : '\0';
      if (c == '\\' && source.substr(i, 2) == "\\n") {
        literal += '\n', ++i;
      } else if (closing == '\0') {
        literal += c;
      } else {
        flush();
        const auto end = source.find(closing, i);
        expect(end != std::string_view::npos, "expected '{}' after '{}'", closing, source.substr(i));
        const auto body = source.substr(i + 1, end - i - 1);
        result.push_back(c == '<' ? draw(body) : c == '[' ? recall(body) : remember(body));
        i = end;
      }
    }
    flush();
    return result;
  }

  void add(int index, Index weight, std::vector<Part> alternative) {
    Rule& r = grammar.rules[static_cast<std::size_t>(index)];
    r.alternatives.push_back({weight, std::move(alternative)});
    r.total_weight += weight;
  }

  void read(std::string_view source) {
    const auto mark = source.find_first_of(":~");
    expect(mark != std::string_view::npos, "expected 'name: template' or 'name ~ words', found '{}'", source);
    auto name = source.substr(0, mark), body = source.substr(mark + 1);
    if (source[mark] == '~') {
      while (!name.empty() && name.back() == ' ') name.remove_suffix(1);
      const int index = rule(name);
      std::istringstream words{std::string(body)};
      for (std::string word; words >> word;) add(index, 1, {{PartKind::literal, word, -1, -1, {}, false, Derived::same}});
      return;
    }
    Index weight = 1;
    if (const auto star = name.find('*'); star != std::string_view::npos) {
      const auto digits = name.substr(star + 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), weight);
      expect(error == std::errc() && end == digits.data() + digits.size() && weight > 0 && weight < 1000000, "expected a weight, found '{}'", digits);
      name = name.substr(0, star);
    }
    const int index = rule(name);
    if (body.substr(0, 1) == " ") body.remove_prefix(1);
    add(index, weight, parts(body));
  }

  // Depth first: a rule met again below itself could be expanded without end. 0 unseen, 1 open, 2 done.
  void check_finite(int index, std::vector<int>& state) const {
    auto& mine = state[static_cast<std::size_t>(index)];
    const Rule& r = grammar.rules[static_cast<std::size_t>(index)];
    require(mine != 1, "grammar: rule {} can contain itself", r.name);
    if (mine == 2) return;
    mine = 1;
    for (const Alternative& a : r.alternatives)
      for (const Part& p : a.parts)
        if (p.kind == PartKind::draw) check_finite(p.rule, state);
    state[static_cast<std::size_t>(index)] = 2;
  }

  void check() {
    require(!grammar.rules.empty(), "grammar: expected at least one rule, found none");
    std::vector<bool> given(grammar.variables.size(), false);
    for (Rule& r : grammar.rules) {
      require(!r.alternatives.empty(), "grammar: rule {} is used but has no alternative", r.name);
      r.is_list = std::all_of(r.alternatives.begin(), r.alternatives.end(),
                              [](const Alternative& a) { return a.parts.size() == 1 && a.parts.front().kind == PartKind::literal; });
      for (const Alternative& a : r.alternatives)
        for (const Part& p : a.parts)
          if (p.variable >= 0 && p.kind != PartKind::recall) given[static_cast<std::size_t>(p.variable)] = true;
    }
    for (std::size_t v = 0; v < given.size(); ++v) require(given[v], "grammar: variable {} is used but never remembered", grammar.variables[v]);
    for (const Rule& r : grammar.rules)
      for (const Alternative& a : r.alternatives)
        for (const Part& p : a.parts)
          require(p.except.empty() || grammar.rules[static_cast<std::size_t>(p.rule)].is_list,
                  "grammar: rule {} draws with an exception from a rule that is not a list of words", r.name);
    std::vector<int> state(grammar.rules.size(), 0);
    check_finite(0, state);
  }
};

}  // namespace

Grammar parse_grammar(std::string_view source) {
  Reader reader;
  while (!source.empty()) {
    const auto end = source.find('\n');
    const auto line = source.substr(0, end);
    ++reader.line;
    if (!line.empty()) reader.read(line);
    source = end == std::string_view::npos ? std::string_view() : source.substr(end + 1);
  }
  reader.check();
  return std::move(reader.grammar);
}

}  // namespace glassformer
