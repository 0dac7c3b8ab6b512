// Optimizer updates, as formulas. Contracts: ops/optimizer.hpp. Legend: O outputs, I inputs.
#pragma once
#include <algorithm>
#include <cmath>

#include "glassformer/ops/optimizer.hpp"
#include "glassformer/ops/reference/linear.hpp"

namespace glassformer::ops::reference {

// m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η(λθ + m̂/(√v̂ + ε))    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
template <class S>
void adamw_update(const AdamwStep& step, std::span<S> theta, std::span<const S> gradient, std::span<S> m, std::span<S> v) {
  using std::sqrt;
  const double t = static_cast<double>(step.step);
  const S beta1 = S(step.beta1), beta2 = S(step.beta2);
  const S correction1 = S(1 - std::pow(step.beta1, t)), correction2 = S(1 - std::pow(step.beta2, t));
  for (std::size_t i = 0; i < theta.size(); ++i) {
    const S g = S(step.gradient_scale) * gradient[i];
    m[i] = beta1 * m[i] + S(1 - step.beta1) * g;
    v[i] = beta2 * v[i] + S(1 - step.beta2) * g * g;
    const S m_hat = m[i] / correction1, v_hat = v[i] / correction2;
    theta[i] -= S(step.rate) * (S(step.decay) * theta[i] + m_hat / (sqrt(v_hat) + S(step.epsilon)));
  }
}

// Σ x² in double
template <class S>
double sum_of_squares(std::span<const S> x) {
  double sum = 0;
  for (const S& value : x) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

// X ← aX + (bA + cA²)X, A = XXᵀ, from X = x/‖x‖ (Frobenius). X = UΣVᵀ keeps U and V, and each singular value goes
// σ ← aσ + bσ³ + cσ⁵, whose coefficients push (0, 1] towards 1 quickly rather than exactly. The product is made on the
// shorter side: (xᵀ)'s answer is the answer's transpose. Zero stays zero.
template <class S>
void newton_schulz(MatrixRef<S> x, int iterations) {
  const S a = S(3.4445), b = S(-4.775), c = S(2.0315);
  const S norm = x.norm();
  if (norm == S(0)) return;
  const bool tall = x.rows() > x.cols();
  Matrix<S> X = tall ? Matrix<S>(x.transpose()) : Matrix<S>(x);
  X /= norm;
  for (int i = 0; i < iterations; ++i) {
    const Matrix<S> A = product(X, X.transpose());
    const Matrix<S> B = b * A + c * product(A, A);
    X = (a * X + product(B, X)).eval();
  }
  if (tall) {
    x = X.transpose();
  } else {
    x = X;
  }
}

// m ← μm + (1−μ)g    u = orthogonalised((1−μ)g + μm)    θ ← θ(1 − ηλ) − η·√max(1, O/I)·u
template <class S>
void muon_update(const MuonStep& step, MatrixView<S> theta, MatrixView<S> gradient, MatrixView<S> m) {
  const S mu = S(step.momentum), rest = S(1 - step.momentum);
  const Matrix<S> g = S(step.gradient_scale) * *gradient;
  *m = mu * *m + rest * g;
  Matrix<S> u = rest * g + mu * *m;
  newton_schulz<S>(u, step.iterations);
  const double shape_factor = std::sqrt(std::max(1.0, static_cast<double>(theta.rows) / static_cast<double>(theta.cols)));
  *theta = *theta * S(1 - step.rate * step.decay) - S(step.rate * shape_factor) * u;
}

}  // namespace glassformer::ops::reference
