// Text made to find differences between tokenizers. Deterministic.
#pragma once
#include <string>

namespace glassformer::tests {

// About `bytes` bytes of valid UTF-8: every code point assigned in Unicode 14 at least in samples of each category (all of those that are
// neither ideographs nor syllables nor private), emoji sequences, right-to-left text, runs of spaces and newlines of every kind,
// contractions in both cases, digits, controls, and spelled special tokens.
std::string hard_text(std::size_t bytes);

}  // namespace glassformer::tests
