// How a decoder knows where a token stands. Legend: N tokens, C channels, H heads, D head width.
//   none         nothing: only the causal mask tells places apart (Haviv et al. 2022)
//   sinusoidal   PE(p, 2i) = sin(p·10000^(−2i/C)), PE(p, 2i+1) = cos(…), added to the embedding (Vaswani et al. 2017)
//   learned      a trained row for each place, added to the embedding (GPT-2)
//   rope         q and k rotated by angles proportional to the place (Su et al. 2021)
//   alibi        a penalty on scores, linear in the distance (Press, Smith, Lewis 2022)
#pragma once
#include <span>
#include <vector>

#include "glassformer/core/parallel.hpp"

namespace glassformer {

enum class Position { none, sinusoidal, learned, rope, alibi };

// PE(place) into y [1, C].
template <class S> void sinusoidal_encoding(Index place, MatrixRef<S> y);

// RoPE for texts s times as long as those it was trained on. θ_i = base^(−2i/D) becomes
//   none        θ_i
//   linear      θ_i/s: place p is read as p/s (position interpolation, Chen et al. 2023)
//   ntk         b'^(−2i/D) with b' = base·s^(D/(D−2)): the last pair as linear, the first unchanged ("NTK-aware", bloc97 2023)
//   yarn        (1−γ)·θ_i/s + γ·θ_i, γ rising from 0 where a pair turns once in the trained length L to 1 where it turns 32 times; q and k
//               each times 0.1·ln s + 1 (Peng et al. 2023). γ is linear in the turns r_i = L·θ_i/2π, as the paper has it
//   yarn_pairs  the same with γ linear in i, between the last pair that turns 32 times and the first that turns once: the authors' code,
//               which Hugging Face's "yarn" computes. In a short L the two differ much
enum class RopeScaling { none, linear, ntk, yarn, yarn_pairs };
struct RopeStretch {
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;          // s ≥ 1; 1 changes nothing, to the bit
  Index trained_context = 0;  // L, tokens; only the two yarns read it

  bool operator==(const RopeStretch&) const = default;
};
// Throws std::invalid_argument when the factor is below 1, beyond 10⁶ or no number, not 1 without a scaling, D not above 2 with ntk, the
// base not above 1 with yarn_pairs, or L not 1 … 2²⁴ where it is read.
void validate(const RopeStretch&, Index head_dim, double base);
bool is_yarn(const RopeStretch&);

// θ_i, i < D/2: the angle, in radians, by which one step of place turns pair i. Throws as validate does, and for an odd head width.
//   rope_frequencies(4, 10000) = {1, 0.01}    rope_frequencies(4, 10000, {RopeScaling::linear, 4}) = {0.25, 0.0025}
std::vector<double> rope_frequencies(Index head_dim, double base, const RopeStretch& = {});
// What turned q and k are each multiplied by: 0.1·ln s + 1 with yarn, else 1. Scores grow by its square.
double rope_length(const RopeStretch&);

// length·cos and length·sin of place·θ_i, one row a place, computed once. Pairs are half-splits, as in Hugging Face's Llama: (i, i + D/2).
template <class S> struct RopeTable {
  std::vector<double> frequencies;
  double length = 1;       // rope_length
  Matrix<S> cosine, sine;  // [places, D/2]
};
template <class S> RopeTable<S> rope_table(Index places, Index head_dim, double base, const RopeStretch& = {});

// (x_i, x_{i+D/2}) ← (x_i·cos − x_{i+D/2}·sin, x_i·sin + x_{i+D/2}·cos) for each of `heads` heads in each row of x [N, heads·D],
// at its place. `transposed` turns back: dx = Rᵀ·dy, the gradient of y = R·x, and R's inverse as long as the table's length is 1 (else
// length² too long). Places beyond the table are computed directly. Throws std::invalid_argument when x is not heads·D wide or places do
// not count its rows.
template <class S> void rope_rotate(const RopeTable<S>&, std::span<const Index> places, Index heads, bool transposed, MatrixRef<S> x, const Exec&);

// 2^(−8h/H) for h = 1 … H when H is a power of two; otherwise the slopes of the next lower power, then every second one of its double.
std::vector<double> alibi_slopes(Index heads);

}  // namespace glassformer
