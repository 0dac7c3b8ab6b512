// The little model of the lens and of the attribution.
#pragma once
#include "explain/teller.hpp"
#include "glassformer/explain/logits.hpp"

namespace glassformer {

Decoder<double> logits_example_model();

// The place and the answer that were asked for, or those that stand in for them. Throws std::invalid_argument for what does not exist.
template <class S>
Token checked_answer(Token answer, const char* what, const Matrix<S>& logits, Index place) {
  const Index V = logits.cols();
  require(answer >= -1 && answer < V, "{}: expected a token, 0 … {}, found {}", what, V - 1, answer);
  if (answer >= 0) return answer;
  return first_choice(logits, place);
}

// "\"␣girl\""
std::string token_name(const ExplainedText&, Token);

}  // namespace glassformer
