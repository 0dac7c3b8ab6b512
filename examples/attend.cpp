// Attention alone: z = softmax(q·kᵀ/√D + mask)·v for one head, with q, k and v written down by hand.
// Each row of the pattern says where a token looks: it sums to 1, and the keys that come later have exactly nothing.
//   build/release/examples/attend
#include <fmt/core.h>

#include <array>

#include "glassformer/ops/attention_core.hpp"
#include "glassformer/plot/text.hpp"

using namespace glassformer;

void print(const char* name, ConstMatrixRef<double> m) {
  fmt::print("\n  {}\n", name);
  for (Index row = 0; row < m.rows(); ++row) {
    for (Index col = 0; col < m.cols(); ++col) fmt::print(" {:>7}", plot::number(m(row, col)));
    fmt::print("\n");
  }
}

int main() {
  constexpr Index T = 3, D = 4;  // tokens, head width: 1/√D = 0.5
  const Matrix<double> q{{0, 0, 0, 0}, {2, 0, 0, 0}, {0, 4, 2, 0}};
  const Matrix<double> k{{1, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 1, 0}};
  const Matrix<double> v{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};  // so z shows the weights themselves
  Matrix<double> z(T, D), fused(T, D);

  // Element (t, h, d) lies at data[t·D + h·D + d]: one head a row here, but it may be columns of any matrix.
  const auto sequence = [&](Matrix<double>& out) {
    return std::array{ops::AttentionSequence<double>{T, T, {q.data(), D, D}, {k.data(), D, D}, {v.data(), D, D}, {out.data(), D, D}}};
  };
  ops::AttentionShape shape{.head_dim = D, .scale = 0.5, .slopes = {}, .dropout = {}};

  // Who watches sees the matrices [T, T]; then the formulas of ops/reference run.
  ops::AttentionWatch<double> watch;
  watch.scores = [](Index, Index, MatrixRef<double> scores) { print("scores = q·kᵀ/√D, −∞ where masked", scores); };
  watch.pattern = [](Index, Index, MatrixRef<double> pattern) { print("pattern = softmax of each row", pattern); };
  ops::attention_core_forward<double>(shape, sequence(z), watch, Exec{});
  print("z = pattern·v", z);

  // Nobody watches: the kernel that trains, which never holds a [T, T] matrix.
  ops::attention_core_forward<double>(shape, sequence(fused), {}, Exec{});
  fmt::print("\nfused kernel and formula agree within 1e-12: {}\n", (z - fused).cwiseAbs().maxCoeff() < 1e-12 ? "yes" : "NO");

  shape.causal = false;
  fmt::print("\nThe same without the mask:\n");
  ops::attention_core_forward<double>(shape, sequence(z), watch, Exec{});
}
