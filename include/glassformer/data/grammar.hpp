// Probabilistic grammars with memory: a context-free grammar whose choices can be remembered and repeated later in the same document.
// That is what makes agreement ("her red kite", seven sentences on) and derived text (a Luhn check digit, an e-mail address made of a
// name) part of the grammar, at zero bits.
//
// Notation, one alternative a line:
//   name: template        an alternative of rule `name`; the first rule is the start; `name*3:` gives it weight 3 (1 otherwise)
//   name ~ word word …    one alternative a word; further lines add to it
// In a template, \n is a newline and everything but these is literal:
//   <rule>                draw from the rule                        <rule:x>      and remember the text as x
//   <rule:x!a!b>          draw a word that differs from a and b, which were drawn from the same list; the others keep their ratios
//   <-rule:x>             draw and remember, but write nothing yet
//   [x]                   what x remembers      [x^] with a capital      [x_] in lower case
//   [x#]                  the Luhn check digit of the digits in x          [x%] the last four characters of x
//   {x=text}              remember literal text, write nothing
// Example: "story: <name:n> saw <name:m!n>. [m] ran.\nname ~ Mia Tom" has two texts of one bit each: "Mia saw Tom. Tom ran." and the other.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/matrix.hpp"
#include "glassformer/core/random.hpp"

namespace glassformer {

enum class PartKind { literal, draw, recall, remember };
enum class Derived { same, capital, lower, luhn, last_four };

struct Part {
  PartKind kind = PartKind::literal;
  std::string text;         // literal, remember
  int rule = -1;            // draw
  int variable = -1;        // draw (−1: not remembered), recall, remember
  std::vector<int> except;  // draw: variables whose words are left out
  bool silent = false;      // draw
  Derived derived = Derived::same;  // recall
};

struct Alternative {
  Index weight = 1;
  std::vector<Part> parts;
};

struct Rule {
  std::string name;
  std::vector<Alternative> alternatives;
  Index total_weight = 0;
  bool is_list = false;  // every alternative is one literal
};

struct Grammar {
  std::vector<Rule> rules;  // rules[0] is the start
  std::vector<std::string> variables;
  int rule(std::string_view name) const;      // −1 when there is none
  int variable(std::string_view name) const;  // −1 when there is none
};

// Throws std::invalid_argument naming the line: bad notation, an unknown rule or variable, a rule that can contain itself,
// an exception on a rule that is not a list.
Grammar parse_grammar(std::string_view source);

// A place in the text where a remembered variable was written: drawn there, or recalled.
struct Mention {
  Index begin = 0, end = 0;  // bytes of the text
  int variable = -1, rule = -1;  // the rule that the variable was drawn from; −1 when its text was given by {x=text}
  bool recalled = false;
  Derived derived = Derived::same;
};

// Appends one document to `text` and returns its −log₂ p. Choice i reads random_bits(stream, i).
double derive(const Grammar& grammar, const RandomStream& stream, std::string& text, std::vector<Mention>* mentions = nullptr);

// What a recalled variable writes.
std::string derived_text(Derived derived, std::string_view remembered);

struct DocumentExpectation {
  double bits = 0, bytes = 0;
};
// Expected −log₂ p and length of one document, exact: a draw adds the entropy of its choice and the mean over its alternatives; a recall
// adds the mean length of what was remembered (choices are independent, so expectations add). Assumes that the exceptions of a draw
// are different words of its list, drawn uniformly, as in both corpora.
DocumentExpectation expected_document(const Grammar& grammar);

}  // namespace glassformer
