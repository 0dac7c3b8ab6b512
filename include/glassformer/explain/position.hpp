// Positions, told: how a token knows where it stands. What is added, turned or taken off, and what becomes of a score when the whole text
// moves by some places.
// Legend: T tokens, P places shown, C channels, H heads, D head width, θ radians a place.
// Encodings, angles, rotations, slopes and scores are the engine's (position/position.hpp, attention_forward, decoder_forward). What is
// written out for the reader is held against them: `deviation`.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/explain/attention.hpp"

namespace glassformer {

struct PositionQuestion {
  Index layer = 0, head = 0;
  Index query = -1;  // place of the token whose query is followed; −1: the last (in the example "sat")
  RopeStretch stretch{};  // of the example with RoPE; a model has its own
  Exec exec{};
};

// The same text, `shift` places later.
struct ShiftedScore {
  Index shift = 0;
  double score = 0;           // of the query and the key that are followed
  double largest_change = 0;  // of a score, over all pairs that the mask leaves, from shift 0
  // The example with an encoding that is added, (x_m + p_m)·(x_n + p_n)/√D term by term; 0 elsewhere.
  double content = 0;  // x_m·x_n/√D
  double mixed = 0;    // (x_m·p_n + p_m·x_n)/√D
  double place = 0;    // p_m·p_n/√D
};

struct PositionSteps {
  Position kind = Position::none;
  AttentionSteps attention;  // of this layer and head: q, k before and after, scores; the text is told there
  Index context = 0;
  double base = 10000;           // of the frequencies
  RopeStretch stretch;           // RoPE: what was done to them
  Vector<double> unscaled;       // [D/2] RoPE: θ_i before that; empty when nothing was
  double length = 1;             // RoPE: what q and k are multiplied by (YaRN)
  Index query = 0, key = 0;      // places that are followed: key is that of the largest score before the query
  Matrix<double> encoding;       // [P, C] what is added at place p; empty unless sinusoidal or learned
  Matrix<double> similarity;     // [P, P] cosine of the angle between rows of it
  Vector<double> frequencies;    // [D/2] RoPE, [C/2] sinusoidal: θ_i
  Matrix<double> cosine, sine;   // [P, D/2] RoPE: length·cos, length·sin of place·θ_i
  Vector<double> slopes;         // [H] ALiBi
  Matrix<double> penalty;        // [T, T] ALiBi, of this head: −m·distance; NaN where masked
  std::vector<ShiftedScore> shifts;  // the first is shift 0
  double deviation = 0;
};

// "the cat sat down", two heads of width 4, q = k = v = x: small enough to redo by hand. Learned rows are drawn at random.
PositionSteps explain_position_example(Position, const PositionQuestion& = {});

// Throws std::invalid_argument as explain_attention does.
PositionSteps explain_position(const Decoder<float>&, const Tokenizer&, std::string_view prompt, const PositionQuestion& = {});

Story position_story(const PositionSteps&);

}  // namespace glassformer
