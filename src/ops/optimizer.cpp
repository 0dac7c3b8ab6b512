#include "glassformer/ops/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/core/workspace.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/reference/optimizer.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kBlock = 16384;  // scalars a task; also the length of one partial sum, so a property of the result's bits

// Σ x² in double, eight numbers at a time (the compiler does not widen float by itself: a third of the speed, measured).
template <class S> double block_sum_of_squares(const S* x, Index n) {
  typedef S Narrow __attribute__((vector_size(8 * sizeof(S))));
  typedef double Wide __attribute__((vector_size(64)));
  constexpr Index kStep = 32;
  Wide sum[4] = {};
  Index i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (Index u = 0; u < 4; ++u) {
      Narrow part;
      std::memcpy(&part, x + i + 8 * u, sizeof part);
      const Wide wide = __builtin_convertvector(part, Wide);
      sum[u] += wide * wide;
    }
  }
  const Wide all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  double total = 0;
  for (Index k = 0; k < 8; ++k) total += all[k];
  for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

template <class S> struct AdamwNumbers {
  S beta1, beta2, one_minus_beta1, one_minus_beta2, epsilon, scale, rate, shrink, correct_m, correct_v;
  explicit AdamwNumbers(const AdamwStep& s)
      : beta1(static_cast<S>(s.beta1)), beta2(static_cast<S>(s.beta2)), one_minus_beta1(static_cast<S>(1 - s.beta1)), one_minus_beta2(static_cast<S>(1 - s.beta2)),
        epsilon(static_cast<S>(s.epsilon)), scale(static_cast<S>(s.gradient_scale)), rate(static_cast<S>(s.rate)), shrink(static_cast<S>(s.rate * s.decay)),
        correct_m(static_cast<S>(1 / (1 - std::pow(s.beta1, static_cast<double>(s.step))))),
        correct_v(static_cast<S>(1 / (1 - std::pow(s.beta2, static_cast<double>(s.step))))) {}
};

// The numbers come as a copy: seen through a reference they might be what the loop writes, and the compiler would not widen it (0.8M parameters: 2.4 ms instead of 0.7).
template <class S>
void adamw_block(const AdamwNumbers<S> k, Index n, S* __restrict theta, const S* __restrict gradient, S* __restrict m, S* __restrict v) {
  for (Index i = 0; i < n; ++i) {
    const S g = k.scale * gradient[i];
    const S mi = k.beta1 * m[i] + k.one_minus_beta1 * g;
    const S vi = k.beta2 * v[i] + k.one_minus_beta2 * g * g;
    m[i] = mi;
    v[i] = vi;
    theta[i] -= k.shrink * theta[i] + k.rate * (mi * k.correct_m) / (std::sqrt(vi * k.correct_v) + k.epsilon);
  }
}

}  // namespace

template <class S>
void adamw_update(const AdamwStep& s, std::span<const AdamwStretch> stretches, std::span<S> theta, std::span<const S> gradient, std::span<S> m, std::span<S> v,
                  const Exec& exec) {
  const Timed timed(Operation::optimizer);
  const auto n = static_cast<Index>(theta.size());
  require(gradient.size() == theta.size() && m.size() == theta.size() && v.size() == theta.size(), "adamw: {} parameters, {} gradients, {} and {} moments",
          theta.size(), gradient.size(), m.size(), v.size());
  Index done = 0;
  for (const AdamwStretch& stretch : stretches) {
    require(stretch.begin >= done && stretch.end >= stretch.begin && stretch.end <= n, "adamw: expected ascending stretches of {} parameters, found {} to {}", n,
            stretch.begin, stretch.end);
    done = stretch.end;
  }
  AdamwStep without = s;
  without.decay = 0;
  if (exec.kernels == Kernels::reference) {
    for (const auto& [begin, end, decays] : stretches) {
      const auto at = static_cast<std::size_t>(begin), length = static_cast<std::size_t>(end - begin);
      reference::adamw_update<S>(decays ? s : without, theta.subspan(at, length), gradient.subspan(at, length), m.subspan(at, length), v.subspan(at, length));
    }
    return;
  }
  const AdamwNumbers<S> numbers(s), numbers_without(without);
  parallel_blocks(exec.threads, n, kBlock, [&](Index block_begin, Index block_end) {
    auto stretch = std::ranges::upper_bound(stretches, block_begin, {}, &AdamwStretch::end);  // the first that ends within the block or beyond
    for (; stretch != stretches.end() && stretch->begin < block_end; ++stretch) {
      const Index begin = std::max(block_begin, stretch->begin), end = std::min(block_end, stretch->end);
      adamw_block(stretch->decays ? numbers : numbers_without, end - begin, theta.data() + begin, gradient.data() + begin, m.data() + begin, v.data() + begin);
    }
  });
}
template <class S> void adamw_update(const AdamwStep& s, std::span<S> theta, std::span<const S> gradient, std::span<S> m, std::span<S> v, const Exec& exec) {
  const AdamwStretch all{0, static_cast<Index>(theta.size()), true};
  adamw_update<S>(s, {&all, 1}, theta, gradient, m, v, exec);
}

template <class S> double sum_of_squares(std::span<const S> x, const Exec& exec) {
  const Timed timed(Operation::optimizer);
  if (exec.kernels == Kernels::reference) return reference::sum_of_squares<S>(x);
  const auto n = static_cast<Index>(x.size());
  const Workspace::Frame frame(thread_workspace());
  const std::span<double> parts = thread_workspace().array<double>((n + kBlock - 1) / kBlock);
  parallel_blocks(exec.threads, n, kBlock, [&](Index begin, Index end) {
    parts[static_cast<std::size_t>(begin / kBlock)] = block_sum_of_squares(x.data() + begin, end - begin);
  });
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

template <class S> void newton_schulz(MatrixRef<S> x, int iterations, const Exec& exec) {
  if (exec.kernels == Kernels::reference) return reference::newton_schulz<S>(x, iterations);
  const double norm = std::sqrt(static_cast<double>(x.squaredNorm()));
  if (norm == 0) return;
  const bool tall = x.rows() > x.cols();  // A = XXᵀ is the smaller of the two products
  Workspace& scratch = thread_workspace();
  const Workspace::Frame frame(scratch);
  const Index small = std::min(x.rows(), x.cols()), large = std::max(x.rows(), x.cols());
  MatrixView<S> X = scratch.matrix<S>(small, large), Y = scratch.matrix<S>(small, large);
  const MatrixView<S> A = scratch.matrix<S>(small, small), B = scratch.matrix<S>(small, small);
  if (tall) {
    *X = x.transpose();
  } else {
    *X = x;
  }
  *X /= static_cast<S>(norm);
  constexpr double a = 3.4445, b = -4.775, c = 2.0315;
  for (int i = 0; i < iterations; ++i) {
    multiply_nt<S>(1, *X, *X, 0, *A, exec);
    *B = static_cast<S>(b) * *A;
    multiply_nn<S>(static_cast<S>(c), *A, *A, 1, *B, exec);
    *Y = static_cast<S>(a) * *X;
    multiply_nn<S>(1, *B, *X, 1, *Y, exec);
    std::swap(X, Y);
  }
  if (tall) {
    x = (*X).transpose();
  } else {
    x = *X;
  }
}

template <class S> void muon_update(const MuonStep& s, MatrixView<S> theta, MatrixView<S> gradient, MatrixView<S> m, const Exec& exec) {
  const Timed timed(Operation::optimizer);
  require_shape("muon: gradient", gradient.rows, gradient.cols, theta.rows, theta.cols);
  require_shape("muon: moment", m.rows, m.cols, theta.rows, theta.cols);
  if (exec.kernels == Kernels::reference) return reference::muon_update<S>(s, theta, gradient, m);
  const S mu = static_cast<S>(s.momentum), scale = static_cast<S>(s.gradient_scale);
  *m = mu * *m + ((1 - mu) * scale) * *gradient;
  const Workspace::Frame frame(thread_workspace());
  const MatrixView<S> update = thread_workspace().matrix<S>(theta.rows, theta.cols);
  *update = ((1 - mu) * scale) * *gradient + mu * *m;
  newton_schulz<S>(*update, s.iterations, exec);
  const double shape = std::sqrt(std::max(1.0, static_cast<double>(theta.rows) / static_cast<double>(theta.cols)));
  *theta = static_cast<S>(1 - s.rate * s.decay) * *theta - static_cast<S>(s.rate * shape) * *update;
}

template void adamw_update<float>(const AdamwStep&, std::span<const AdamwStretch>, std::span<float>, std::span<const float>, std::span<float>, std::span<float>, const Exec&);
template void adamw_update<float>(const AdamwStep&, std::span<float>, std::span<const float>, std::span<float>, std::span<float>, const Exec&);
template double sum_of_squares<float>(std::span<const float>, const Exec&);
template void newton_schulz<float>(MatrixRef<float>, int, const Exec&);
template void muon_update<float>(const MuonStep&, MatrixView<float>, MatrixView<float>, MatrixView<float>, const Exec&);
template void adamw_update<double>(const AdamwStep&, std::span<const AdamwStretch>, std::span<double>, std::span<const double>, std::span<double>, std::span<double>, const Exec&);
template void adamw_update<double>(const AdamwStep&, std::span<double>, std::span<const double>, std::span<double>, std::span<double>, const Exec&);
template double sum_of_squares<double>(std::span<const double>, const Exec&);
template void newton_schulz<double>(MatrixRef<double>, int, const Exec&);
template void muon_update<double>(const MuonStep&, MatrixView<double>, MatrixView<double>, MatrixView<double>, const Exec&);

}  // namespace glassformer::ops
