// Optimizer updates over flat blocks of parameters.
#pragma once
#include <span>

#include "glassformer/core/parallel.hpp"

namespace glassformer::ops {

// AdamW (Loshchilov, Hutter 2019), step t = 1, 2, …, on g = gradient_scale·gradient:
//   m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η(λθ + m̂/(√v̂ + ε))    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
struct AdamwStep {
  double rate = 1e-3, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8, decay = 0;
  std::int64_t step = 1;
  double gradient_scale = 1;
};
// Neighbours [begin, end) in an arena that are treated alike: with the step's decay, or with none.
struct AdamwStretch {
  Index begin = 0, end = 0;
  bool decays = true;
};
// All stretches, which ascend, in one pass over the arena; what lies between them stays.
template <class S>
void adamw_update(const AdamwStep&, std::span<const AdamwStretch>, std::span<S> theta, std::span<const S> gradient, std::span<S> m, std::span<S> v, const Exec&);
template <class S> void adamw_update(const AdamwStep&, std::span<S> theta, std::span<const S> gradient, std::span<S> m, std::span<S> v, const Exec&);

// Σ x² in double, summed in blocks fixed by the length.
template <class S> double sum_of_squares(std::span<const S> x, const Exec&);

// Muon (Jordan et al. 2024) for one hidden matrix θ [O, I], on g = gradient_scale·gradient:
//   m ← μm + (1−μ)g    u = orthogonalised((1−μ)g + μm)  (Nesterov)    θ ← θ(1 − ηλ) − η·√max(1, O/I)·u
struct MuonStep {
  double rate = 0.02, momentum = 0.95, decay = 0, gradient_scale = 1;
  int iterations = 5;
};
template <class S> void muon_update(const MuonStep&, MatrixView<S> theta, MatrixView<S> gradient, MatrixView<S> m, const Exec&);

// The nearest semi-orthogonal matrix, roughly: `iterations` of X ← aX + (bA + cA²)X, A = XXᵀ, from X = x/‖x‖ with
// (a, b, c) = (3.4445, −4.775, 2.0315); singular values end between about 0.7 and 1.2.
template <class S> void newton_schulz(MatrixRef<S> x, int iterations, const Exec&);

}  // namespace glassformer::ops
