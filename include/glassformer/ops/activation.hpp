// Elementwise non-linearities, SwiGLU, dropout, and adding. Legend: N tokens, F hidden width.
//   gelu_tanh    0.5x(1 + tanh(√(2/π)(x + 0.044715x³)))    GPT-2's `gelu_new` (Hendrycks, Gimpel 2016)
//   gelu_exact   x·Φ(x) = 0.5x(1 + erf(x/√2))
//   silu         x·σ(x)
//   SwiGLU       silu(g) ⊙ u  (Shazeer 2020)
#pragma once
#include "glassformer/core/parallel.hpp"
#include "glassformer/core/random.hpp"

namespace glassformer::ops {

enum class Activation { gelu_tanh, gelu_exact, silu };

// y = f(x), x and y [N, F]; y may be x.
template <class S> void activation_forward(Activation, ConstMatrixRef<S> x, MatrixRef<S> y, const Exec&);
// dx = dy ⊙ f'(x); dx may be dy.
template <class S> void activation_backward(Activation, ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec&);

// y = silu(g) ⊙ u with g = x[:, :F], u = x[:, F:]; x [N, 2F], y [N, F]
template <class S> void swiglu_forward(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec&);
// dx [N, 2F] is assigned; dx may be x.
template <class S> void swiglu_backward(ConstMatrixRef<S> x, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec&);

// Dropout (Srivastava et al. 2014), inverted: an element survives with probability 1 − rate and is divided by it.
struct Dropout {
  double rate = 0;
  RandomStream stream;  // element (row, column) of width w draws number row·w + column
};
// True where the i-th element survives.
inline bool dropout_keeps(const Dropout& d, Index i) { return random_uniform(d.stream, static_cast<std::uint64_t>(i)) >= d.rate; }
// x ⊙ mask/(1 − rate) in place. The same call is its own backward pass.
template <class S> void dropout_apply(const Dropout&, MatrixRef<S> x, const Exec&);

// y += x
template <class S> void add(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec&);

}  // namespace glassformer::ops
