// Reverse-mode differentiation of numbers: a chapter for learners (docs/autograd.md), and an oracle for the hand-written backward passes.
//
// A program that computes y from x₁ … xₙ is a chain of elementary operations. While it runs, the tape writes down one node for each: which
// earlier nodes it read, and its local derivative by each of them. Then one sweep from the end multiplies and adds (the chain rule):
//   ∂y/∂a = Σ over the nodes c that read a of  ∂y/∂c · ∂c/∂a
// One sweep gives the derivative of y by everything on the tape, however many inputs there are (Linnainmaa 1970; Griewank, Walther 2008).
//
//   Tape tape;
//   const Var x = tape.variable(2), y = x * x + exp(x);
//   tape.backward(y)(x);   // 2x + eˣ = 11.389…
//
// `Var` is a scalar like double: Matrix<Var> works, and so do the formulas of ops/reference with S = Var. Training never uses it.
//
// Lifetime: a Var points to its tape, so a tape can neither be copied nor moved and must outlive its Vars; Tape::clear ends those that
// there are. A Var made from a plain number is a constant: it is on no tape, costs no node and has no derivative. Threads: a tape belongs
// to one thread at a time, with all Vars on it; different tapes are independent. There is no global state.
#pragma once
#include <array>
#include <cmath>
#include <compare>
#include <numbers>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

class Tape;

// A number that remembers where it came from.
struct Var {
  double value = 0;
  Tape* tape = nullptr;  // null: a constant
  Index node = -1;       // its place on the tape

  Var() = default;
  Var(double constant) : value(constant) {}  // not explicit: formulas mix plain numbers in
  Var(double value_, Tape* tape_, Index node_) : value(value_), tape(tape_), node(node_) {}

  // What a comparison chooses is a branch, and a branch has no derivative.
  friend std::partial_ordering operator<=>(const Var& a, const Var& b) { return a.value <=> b.value; }
  friend bool operator==(const Var& a, const Var& b) { return a.value == b.value; }
};

}  // namespace glassformer

// What Eigen asks of a scalar: double's limits, and a warning that each operation costs.
template <>
struct Eigen::NumTraits<glassformer::Var> : Eigen::NumTraits<double> {
  using Real = glassformer::Var;
  using NonInteger = glassformer::Var;
  using Nested = glassformer::Var;
  enum { IsComplex = 0, IsInteger = 0, IsSigned = 1, RequireInitialization = 1, ReadCost = 2, AddCost = 16, MulCost = 16 };
};

namespace glassformer {

// ∂y/∂(everything on the tape), as one backward sweep left it. It copies what it needs: it stays right when the tape goes on or is cleared.
class Derivatives {
 public:
  explicit Derivatives(std::vector<double> by_node) : by_node_(std::move(by_node)) {}
  // ∂y/∂x; 0 for a constant, and for what was computed after y or does not lead to it.
  double operator()(const Var& x) const {
    return x.node < 0 || x.node >= static_cast<Index>(by_node_.size()) ? 0 : by_node_[static_cast<std::size_t>(x.node)];
  }
  // The same for each element of a matrix.
  template <class Plain>
  Matrix<double> operator()(const Eigen::MatrixBase<Plain>& x) const {
    return x.unaryExpr([this](const Var& v) { return (*this)(v); });
  }

 private:
  std::vector<double> by_node_;
};

class Tape {
 public:
  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // An input: a node that reads nothing.
  Var variable(double value) { return record(value, {}, 0, {}, 0); }
  Matrix<Var> variables(const Matrix<double>& values) {
    return values.unaryExpr([this](double v) { return variable(v); });
  }

  // Writes down one operation: its value, what it read, and its local derivative by each. Constants among what it read are left out.
  Var record(double value, const Var& a, double by_a, const Var& b, double by_b) {
    nodes_.push_back({{a.node, b.node}, {by_a, by_b}});
    return {value, this, size() - 1};
  }

  // The sweep. Throws std::invalid_argument when y is on another tape, or was there before this one was cleared.
  Derivatives backward(const Var& y) const;

  Index size() const { return static_cast<Index>(nodes_.size()); }  // nodes so far, of kNodeBytes each
  void clear() { nodes_.clear(); }                                  // keeps the memory

 private:
  struct Node {
    std::array<Index, 2> inputs;       // earlier nodes; −1: none
    std::array<double, 2> derivative;  // of this node's value by each of them
  };
  std::vector<Node> nodes_;

 public:
  static constexpr std::size_t kNodeBytes = sizeof(Node);
};

namespace detail {
[[noreturn]] void different_tapes();

// f(a) and f(a, b) on the tape of what they read. Of constants alone they are constants.
inline Var unary(double value, const Var& a, double by_a) { return a.tape ? a.tape->record(value, a, by_a, {}, 0) : Var(value); }
inline Var binary(double value, const Var& a, double by_a, const Var& b, double by_b) {
  if (a.tape && b.tape && a.tape != b.tape) different_tapes();
  Tape* tape = a.tape ? a.tape : b.tape;
  return tape ? tape->record(value, a, by_a, b, by_b) : Var(value);
}
}  // namespace detail

// Each operation on a line of its own: its value, then what it reads, with the derivative by it.
// clang-format off
inline Var operator-(const Var& a) { return detail::unary(-a.value, a, -1); }
inline Var operator+(const Var& a, const Var& b) { return detail::binary(a.value + b.value, a, 1, b, 1); }
inline Var operator-(const Var& a, const Var& b) { return detail::binary(a.value - b.value, a, 1, b, -1); }
inline Var operator*(const Var& a, const Var& b) { return detail::binary(a.value * b.value, a, b.value, b, a.value); }
inline Var operator/(const Var& a, const Var& b) { return detail::binary(a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value)); }
inline Var& operator+=(Var& a, const Var& b) { return a = a + b; }
inline Var& operator-=(Var& a, const Var& b) { return a = a - b; }
inline Var& operator*=(Var& a, const Var& b) { return a = a * b; }
inline Var& operator/=(Var& a, const Var& b) { return a = a / b; }

// With y for the value: (eᵃ)′ = y, (log a)′ = 1/a, (√a)′ = 1/(2y), tanh′ = 1 − y², erf′ = 2/√π·e^(−a²), |a|′ = sign of a (0 at 0).
inline Var exp(const Var& a) { const double y = std::exp(a.value); return detail::unary(y, a, y); }
inline Var log(const Var& a) { return detail::unary(std::log(a.value), a, 1 / a.value); }
inline Var sqrt(const Var& a) { const double y = std::sqrt(a.value); return detail::unary(y, a, 0.5 / y); }
inline Var tanh(const Var& a) { const double y = std::tanh(a.value); return detail::unary(y, a, 1 - y * y); }
inline Var erf(const Var& a) { return detail::unary(std::erf(a.value), a, 2 * std::numbers::inv_sqrtpi * std::exp(-a.value * a.value)); }
inline Var abs(const Var& a) { return detail::unary(std::abs(a.value), a, (a.value > 0) - (a.value < 0)); }
// clang-format on
// The larger one itself, so the whole derivative goes to it and no node is needed. Of equals, the first.
inline Var max(const Var& a, const Var& b) { return a < b ? b : a; }
inline Var min(const Var& a, const Var& b) { return b < a ? b : a; }

// What the numbers are, without where they came from.
template <class Plain>
Matrix<double> values(const Eigen::MatrixBase<Plain>& x) {
  return x.unaryExpr([](const Var& v) { return v.value; });
}

}  // namespace glassformer
