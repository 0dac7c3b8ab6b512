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

// θ_i = base^(−2i/D) for i < D/2: the angle, in radians, by which one step of place turns pair i.
std::vector<double> rope_frequencies(Index head_dim, double base);

// cos and sin of place·θ_i, one row a place, computed once. Pairs are half-splits, as in Hugging Face's Llama: (i, i + D/2).
template <class S> struct RopeTable {
  std::vector<double> frequencies;
  Matrix<S> cosine, sine;  // [places, D/2]
};
template <class S> RopeTable<S> rope_table(Index places, Index head_dim, double base);

// (x_i, x_{i+D/2}) ← (x_i·cos − x_{i+D/2}·sin, x_i·sin + x_{i+D/2}·cos) for each of `heads` heads in each row of x [N, heads·D],
// at its place. `inverse` turns back: the gradient of a rotation is the rotation by the opposite angle. Places beyond the table
// are computed directly. Throws std::invalid_argument when x is not heads·D wide or places do not count its rows.
template <class S> void rope_rotate(const RopeTable<S>&, std::span<const Index> places, Index heads, bool inverse, MatrixRef<S> x, const Exec&);

// 2^(−8h/H) for h = 1 … H when H is a power of two; otherwise the slopes of the next lower power, then every second one of its double.
std::vector<double> alibi_slopes(Index heads);

}  // namespace glassformer
