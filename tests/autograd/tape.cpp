// The tape alone, on derivatives that anybody can redo.
#include "glassformer/autograd/tape.hpp"

#include <doctest/doctest.h>

#include "../support/check.hpp"

using namespace glassformer;
using doctest::Approx;

namespace {

// ∂f/∂a and ∂f/∂b at (a, b) by the tape.
template <class F>
std::pair<double, double> slopes(double a, double b, F&& f) {
  Tape tape;
  const Var x = tape.variable(a), y = tape.variable(b);
  const Derivatives d = tape.backward(f(x, y));
  return {d(x), d(y)};
}
template <class F>
double slope(double a, F&& f) {
  return slopes(a, 0, [&](const Var& x, const Var&) { return f(x); }).first;
}
using Pair = std::pair<double, double>;

}  // namespace

TEST_CASE("each operation's local derivative") {
  CHECK(slopes(3, 5, [](Var a, Var b) { return a + b; }) == Pair{1, 1});
  CHECK(slopes(3, 5, [](Var a, Var b) { return a - b; }) == Pair{1, -1});
  CHECK(slopes(3, 5, [](Var a, Var b) { return a * b; }) == Pair{5, 3});
  CHECK(slopes(3, 4, [](Var a, Var b) { return a / b; }) == Pair{0.25, -0.1875});  // 1/4 and −3/16
  CHECK(slope(3, [](Var a) { return -a; }) == -1);
  CHECK(slope(0, [](Var a) { return exp(a); }) == 1);
  CHECK(slope(2, [](Var a) { return exp(a); }) == Approx(std::exp(2.0)).epsilon(1e-15));
  CHECK(slope(4, [](Var a) { return log(a); }) == 0.25);
  CHECK(slope(16, [](Var a) { return sqrt(a); }) == 0.125);
  CHECK(slope(0, [](Var a) { return tanh(a); }) == 1);
  CHECK(slope(0.5, [](Var a) { return tanh(a); }) == Approx(1 / (std::cosh(0.5) * std::cosh(0.5))).epsilon(1e-15));
  CHECK(slope(0, [](Var a) { return erf(a); }) == Approx(2 / std::sqrt(std::numbers::pi)).epsilon(1e-15));
  CHECK(slope(1.5, [](Var a) { return erf(a); }) == Approx(2 / std::sqrt(std::numbers::pi) * std::exp(-2.25)).epsilon(1e-15));
  CHECK(slope(-2, [](Var a) { return abs(a); }) == -1);
  CHECK(slope(2, [](Var a) { return abs(a); }) == 1);
  CHECK(slope(0, [](Var a) { return abs(a); }) == 0);
  CHECK(slopes(3, 5, [](Var a, Var b) { return max(a, b); }) == Pair{0, 1});
  CHECK(slopes(5, 3, [](Var a, Var b) { return max(a, b); }) == Pair{1, 0});
  CHECK(slopes(4, 4, [](Var a, Var b) { return max(a, b); }) == Pair{1, 0});  // of equals, the first
  CHECK(slopes(3, 5, [](Var a, Var b) { return min(a, b); }) == Pair{1, 0});
  CHECK(slopes(3, 5, [](Var a, Var b) {
          a += b;
          return a;
        }) == Pair{1, 1});
  CHECK(slopes(3, 5, [](Var a, Var b) {
          a -= b;
          return a;
        }) == Pair{1, -1});
  CHECK(slopes(3, 5, [](Var a, Var b) {
          a *= b;
          return a;
        }) == Pair{5, 3});
  CHECK(slopes(3, 4, [](Var a, Var b) {
          a /= b;
          return a;
        }) == Pair{0.25, -0.1875});
}

TEST_CASE("every operation against central differences") {
  const auto check = [](auto f, double low) {
    for (double x = low; x < 3; x += 0.37) {
      const double h = 1e-6;
      CHECK(slope(x, [&](Var a) { return f(a); }) == Approx((f(x + h) - f(x - h)) / (2 * h)).epsilon(1e-8));
    }
  };
  check(
      [](auto x) {
        using std::exp;
        return exp(x);
      },
      -3);
  check(
      [](auto x) {
        using std::log;
        return log(x);
      },
      0.2);
  check(
      [](auto x) {
        using std::sqrt;
        return sqrt(x);
      },
      0.2);
  check(
      [](auto x) {
        using std::tanh;
        return tanh(x);
      },
      -3);
  check(
      [](auto x) {
        using std::erf;
        return erf(x);
      },
      -3);
  check(
      [](auto x) {
        using std::abs;
        return abs(x);
      },
      -3);
  check([](auto x) { return (x + 1.0) * (x - 2.0) / (x + 5.0) - x; }, -3);
}

TEST_CASE("chains multiply, paths add") {
  CHECK(slope(3, [](Var x) { return x * x; }) == 6);  // both factors are x
  CHECK(slope(3, [](Var x) { return x * x * x; }) == 27);
  CHECK(slope(3, [](Var x) { return x + x + 2 * x; }) == 4);
  CHECK(slope(0.5, [](Var x) { return exp(x * x); }) == Approx(std::exp(0.25)).epsilon(1e-15));       // 2x·e^(x²)
  CHECK(slope(2, [](Var x) { return x * x + exp(x); }) == Approx(4 + std::exp(2.0)).epsilon(1e-15));  // the header's example
  // f = (a·b + a)/b at (2, 4): ∂f/∂a = (b + 1)/b, ∂f/∂b = −a/b²
  const auto [da, db] = slopes(2, 4, [](Var a, Var b) { return (a * b + a) / b; });
  CHECK(da == 1.25);
  CHECK(db == -0.125);
  // What is computed but does not lead to y has no say.
  Tape tape;
  const Var x = tape.variable(3), unread = exp(x), y = x * x, after = y * 7;
  const Derivatives d = tape.backward(y);
  CHECK(d(x) == 6);
  CHECK(d(y) == 1);
  CHECK(d(unread) == 0);
  CHECK(d(after) == 0);
  CHECK(tape.backward(after)(x) == 42);  // one tape, as many sweeps as one likes
}

TEST_CASE("constants cost no node and have no derivative") {
  Tape tape;
  const Var c = 2, e = exp(c) * c + 1;
  CHECK(tape.size() == 0);
  CHECK(e.value == std::exp(2.0) * 2 + 1);
  CHECK(e.tape == nullptr);
  const Var x = tape.variable(5), y = c * x + 1;
  CHECK(tape.size() == 3);  // x, ·, +
  const Derivatives d = tape.backward(y);
  CHECK(d(x) == 2);
  CHECK(d(c) == 0);
  CHECK(tape.backward(e)(x) == 0);
}

TEST_CASE("comparisons choose by value; what is chosen is differentiated") {
  Tape tape;
  const Var a = tape.variable(1), b = tape.variable(2);
  CHECK((a < b && b > a && a <= b && b >= a && a != b && a == Var(1) && a < 1.5 && 0.5 < a));
  CHECK_FALSE((a == Var(std::nan("")) || a < std::nan("") || a > std::nan("")));
  CHECK(tape.size() == 2);
  const auto relu = [](Var x) { return x > 0 ? x : Var(0); };
  CHECK(slope(3, relu) == 1);
  CHECK(slope(-3, relu) == 0);
}

TEST_CASE("matrices of numbers on a tape are matrices") {
  test::Dice dice(1);
  const Matrix<double> a = dice.matrix<double>(3, 4), b = dice.matrix<double>(4, 2), dy = dice.matrix<double>(3, 2);
  Tape tape;
  const Matrix<Var> A = tape.variables(a), B = tape.variables(b);
  CHECK(tape.size() == a.size() + b.size());
  const Matrix<Var> Y = A.lazyProduct(B);
  CHECK(test::relative_error(values(Y), a * b) < 1e-15);
  Var loss = 0;
  for (Index i = 0; i < Y.size(); ++i) loss += dy.data()[i] * Y.data()[i];
  const Derivatives d = tape.backward(loss);
  CHECK(test::relative_error(d(A), dy * b.transpose()) < 1e-15);
  CHECK(test::relative_error(d(B), a.transpose() * dy) < 1e-15);
  CHECK(values(A) == a);
}

TEST_CASE("a softmax row by hand: p = softmax(1, 2, 3), y = p₂") {
  Tape tape;
  const Vector<Var> x = tape.variables(Matrix<double>{{1, 2, 3}}).row(0);
  const Vector<Var> e = (x.array() - x.maxCoeff()).exp();
  const Vector<Var> p = e / e.sum();
  const Derivatives d = tape.backward(p(2));
  const double p0 = 0.09003057317038046, p1 = 0.24472847105479764, p2 = 0.6652409557748218;
  CHECK(p(2).value == Approx(p2).epsilon(1e-15));
  CHECK(d(x(0)) == Approx(-p2 * p0).epsilon(1e-14));  // p_i(δ_ij − p_j)
  CHECK(d(x(1)) == Approx(-p2 * p1).epsilon(1e-14));
  CHECK(d(x(2)) == Approx(p2 * (1 - p2)).epsilon(1e-14));
}

TEST_CASE("what cannot be is said") {
  Tape one, two;
  const Var a = one.variable(1), b = two.variable(2);
  CHECK_THROWS_WITH_AS(a * b, "expected two numbers on one tape, found them on two", std::invalid_argument);
  CHECK_THROWS_WITH_AS(one.backward(b), "expected a number on this tape, found one on another", std::invalid_argument);
  const Var c = a + a;
  const Derivatives d = one.backward(c);
  one.clear();
  CHECK(one.size() == 0);
  CHECK_THROWS_WITH_AS(one.backward(c), "expected one of the 0 numbers on this tape, found number 1, from before it was cleared",
                       std::invalid_argument);
  CHECK(d(a) == 2);  // what was found before stays
  CHECK_FALSE(std::is_copy_constructible_v<Tape>);
  CHECK_FALSE(std::is_move_constructible_v<Tape>);
}
