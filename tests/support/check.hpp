// What the tests of numeric code share: random matrices, measures of difference, derivatives by central differences.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "glassformer/core/parallel.hpp"
#include "glassformer/core/random.hpp"

namespace glassformer::test {

// ‖a − b‖/(‖a‖ + ‖b‖) in double, 0 when both are zero, and infinity when either holds a NaN (so that `< tolerance` fails).
template <class A, class B>
double relative_error(const Eigen::DenseBase<A>& a, const Eigen::DenseBase<B>& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return std::numeric_limits<double>::infinity();
  const Matrix<double> x = a.derived().template cast<double>().matrix(), y = b.derived().template cast<double>().matrix();
  const double difference = (x - y).norm(), size = x.norm() + y.norm();
  if (std::isnan(difference) || std::isnan(size)) return std::numeric_limits<double>::infinity();
  return difference == 0 ? 0 : difference / size;
}

// How far two correct kernels may differ, as relative_error: sums of up to some hundred products in another order round apart by about
// ε·√300 at most (ε = 1.2e-7 in float); in double a wrong term shows far above 1e-12.
template <class S>
constexpr double kernel_tolerance() {
  return std::is_same_v<S, float> ? 2e-6 : 1e-12;
}

// Bit for bit, so that −0 differs from 0 and a NaN equals itself.
template <class A, class B>
bool same_bits(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < a.cols(); ++j) {
      const auto x = a(i, j), y = b(i, j);
      if (std::memcmp(&x, &y, sizeof x) != 0) return false;
    }
  }
  return true;
}

// Draws from one stream, one after another.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : stream_{seed, 0} {}
  Index between(Index low, Index high) {
    return low + static_cast<Index>(random_below(stream_, count_++, static_cast<std::uint64_t>(high - low + 1)));
  }
  double normal() { return random_normal(stream_, count_++); }
  template <class S>
  Matrix<S> matrix(Index rows, Index cols, double deviation = 1) {
    Matrix<S> x(rows, cols);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<S>(deviation * normal());
    return x;
  }

 private:
  RandomStream stream_;
  std::uint64_t count_ = 0;
};

// A block inside a larger matrix, off any alignment, whose frame must stay as it was. Filled with NaN at first: what a function should
// assign must not read it.
template <class S>
class Block {
 public:
  Block(Index rows, Index cols) : rows_(rows), cols_(cols), whole_(Matrix<S>::Constant(rows + 3, cols + 8, S(-777))) {
    (**this).setConstant(std::numeric_limits<S>::quiet_NaN());
  }
  explicit Block(const Matrix<S>& value) : Block(value.rows(), value.cols()) { **this = value; }
  auto operator*() { return whole_.block(1, 3, rows_, cols_); }
  Matrix<S> value() const { return whole_.block(1, 3, rows_, cols_); }
  bool frame_intact() const {
    Matrix<S> expected = Matrix<S>::Constant(rows_ + 3, cols_ + 8, S(-777));
    expected.block(1, 3, rows_, cols_) = value();
    return same_bits(whole_, expected);
  }

 private:
  Index rows_, cols_;
  Matrix<S> whole_;
};

template <class S>
MatrixView<S> view(Matrix<S>& x) {
  return {x.data(), x.rows(), x.cols()};
}

// ∂f/∂x_i ≈ (f(x_i + h) − f(x_i − h))/2h at each of the numbers pointed to: error about h² + ε/h, 1e-10 for smooth f of size 1.
template <class F>
Vector<double> numeric_gradient(const std::vector<double*>& x, F&& f, double h = 1e-5) {
  Vector<double> gradient(static_cast<Index>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double before = *x[i];
    *x[i] = before + h;
    const double above = f();
    *x[i] = before - h;
    const double below = f();
    *x[i] = before;
    gradient(static_cast<Index>(i)) = (above - below) / (2 * h);
  }
  return gradient;
}

inline std::vector<double*> entries(Matrix<double>& x) {
  std::vector<double*> pointers;
  for (Index i = 0; i < x.size(); ++i) pointers.push_back(x.data() + i);
  return pointers;
}

// relative_error of the analytic gradient against the numeric one, for x of a function that reads x.
template <class F>
double gradient_error(Matrix<double>& x, const Matrix<double>& analytic, F&& f) {
  const Vector<double> numeric = numeric_gradient(entries(x), f);
  return relative_error(Eigen::Map<const Vector<double>>(analytic.data(), analytic.size()), numeric);
}

inline constexpr Kernels all_kernels[] = {Kernels::fused, Kernels::reference};
inline Exec exec_of(Kernels kernels, int threads = 1) {
  Exec exec;
  exec.kernels = kernels, exec.threads = threads;
  return exec;
}

// True when run(exec), which returns a matrix, gives the same bits on 1, 2 and 4 threads.
template <class F>
bool same_bits_on_any_threads(F&& run) {
  const auto alone = run(exec_of(Kernels::fused, 1));
  return same_bits(alone, run(exec_of(Kernels::fused, 2))) && same_bits(alone, run(exec_of(Kernels::fused, 4)));
}

}  // namespace glassformer::test
