// Every formula of ops/reference, run on the tape, against the derivative that the engine has by hand.
// Legend: N tokens, I inputs, O outputs, C channels, F hidden width, V vocabulary, T queries, U keys.
#include <doctest/doctest.h>

#include "../support/check.hpp"
#include "glassformer/autograd/tape.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/ops/reference/activation.hpp"
#include "glassformer/ops/reference/attention.hpp"
#include "glassformer/ops/reference/linear.hpp"
#include "glassformer/ops/reference/loss.hpp"
#include "glassformer/ops/reference/norm.hpp"

using namespace glassformer;
using namespace glassformer::test;
namespace reference = ops::reference;

namespace {

constexpr double kTolerance = 1e-12;

// L = Σ dy ⊙ y, whose derivative by y is dy: what a backward pass is handed.
Var weighted(const Matrix<double>& dy, const Matrix<Var>& y) {
  Var sum = 0;
  for (Index i = 0; i < y.size(); ++i) sum += dy.data()[i] * y.data()[i];
  return sum;
}

}  // namespace

TEST_CASE("linear: dx = dy·W, dW = dyᵀ·x, db = Σ dy") {
  Dice dice(1);
  const Index N = 5, I = 7, O = 4;
  Matrix<double> x = dice.matrix<double>(N, I), w = dice.matrix<double>(O, I), b = dice.matrix<double>(1, O), y(N, O);
  const Matrix<double> dy = dice.matrix<double>(N, O);
  Tape tape;
  Matrix<Var> X = tape.variables(x), W = tape.variables(w), B = tape.variables(b), Y(N, O);
  reference::linear_forward<Var>(X, view(W), view(B), Y);
  const Derivatives d = tape.backward(weighted(dy, Y));
  for (const Kernels kernels : all_kernels) {
    Matrix<double> dx(N, I), dw = Matrix<double>::Zero(O, I), db = Matrix<double>::Zero(1, O);
    ops::linear_forward<double>(x, view(w), view(b), y, exec_of(kernels));
    ops::linear_backward_input<double>(dy, view(w), dx, exec_of(kernels));
    ops::linear_backward_parameters<double>(x, dy, view(dw), view(db), exec_of(kernels));
    CHECK(relative_error(values(Y), y) < kTolerance);
    CHECK(relative_error(d(X), dx) < kTolerance);
    CHECK(relative_error(d(W), dw) < kTolerance);
    CHECK(relative_error(d(B), db) < kTolerance);
  }
}

TEST_CASE("LayerNorm, RMSNorm") {
  Dice dice(2);
  const Index N = 4, C = 9;
  const double epsilon = 1e-5;
  for (const ops::Norm kind : {ops::Norm::layer, ops::Norm::rms}) {
    const bool has_bias = kind == ops::Norm::layer;
    Matrix<double> x = dice.matrix<double>(N, C).array() + 0.7, gain = dice.matrix<double>(1, C), bias = dice.matrix<double>(1, C), y(N, C);
    const Matrix<double> dy = dice.matrix<double>(N, C);
    Tape tape;
    Matrix<Var> X = tape.variables(x), G = tape.variables(gain), B = tape.variables(bias), Y(N, C);
    ops::NormStatistics<Var> on_tape;
    reference::norm_forward<Var>(kind, X, view(G), has_bias ? view(B) : MatrixView<Var>{}, epsilon, Y, on_tape);
    const Derivatives d = tape.backward(weighted(dy, Y));
    for (const Kernels kernels : all_kernels) {
      ops::NormStatistics<double> statistics;
      Matrix<double> dx(N, C), dgain = Matrix<double>::Zero(1, C), dbias = Matrix<double>::Zero(1, C);
      const MatrixView<double> absent;
      ops::norm_forward<double>(kind, x, view(gain), has_bias ? view(bias) : absent, epsilon, y, statistics, exec_of(kernels));
      ops::norm_backward<double>(kind, x, view(gain), statistics, dy, dx, view(dgain), has_bias ? view(dbias) : absent, exec_of(kernels));
      CHECK(relative_error(values(Y), y) < kTolerance);
      CHECK(relative_error(d(X), dx) < kTolerance);
      CHECK(relative_error(d(G), dgain) < kTolerance);
      CHECK(relative_error(d(B), dbias) < kTolerance);
    }
  }
}

TEST_CASE("a LayerNorm of 16 numbers is 115 nodes: docs/autograd.md") {
  Matrix<double> ones = Matrix<double>::Ones(1, 16);
  Tape tape;
  Matrix<Var> X = tape.variables(Dice(2).matrix<double>(1, 16)), G = tape.variables(ones), B = tape.variables(ones), Y(1, 16);
  ops::NormStatistics<Var> statistics;
  const Index before = tape.size();
  reference::norm_forward<Var>(ops::Norm::layer, X, view(G), view(B), 1e-5, Y, statistics);
  CHECK(tape.size() - before == 115);
}

TEST_CASE("GELU by tanh and exact, SiLU, SwiGLU") {
  Dice dice(3);
  const Index N = 6, F = 5;
  for (const ops::Activation kind : {ops::Activation::gelu_tanh, ops::Activation::gelu_exact, ops::Activation::silu}) {
    const Matrix<double> x = dice.matrix<double>(N, F, 2), dy = dice.matrix<double>(N, F);
    Tape tape;
    const Matrix<Var> X = tape.variables(x);
    Matrix<Var> Y(N, F);
    reference::activation_forward<Var>(kind, X, Y);
    const Derivatives d = tape.backward(weighted(dy, Y));
    for (const Kernels kernels : all_kernels) {
      Matrix<double> y(N, F), dx(N, F);
      ops::activation_forward<double>(kind, x, y, exec_of(kernels));
      ops::activation_backward<double>(kind, x, dy, dx, exec_of(kernels));
      CHECK(relative_error(values(Y), y) < kTolerance);
      CHECK(relative_error(d(X), dx) < kTolerance);
    }
  }
  const Matrix<double> x = dice.matrix<double>(N, 2 * F, 2), dy = dice.matrix<double>(N, F);
  Tape tape;
  const Matrix<Var> X = tape.variables(x);
  Matrix<Var> Y(N, F);
  reference::swiglu_forward<Var>(X, Y);
  const Derivatives d = tape.backward(weighted(dy, Y));
  for (const Kernels kernels : all_kernels) {
    Matrix<double> dx(N, 2 * F);
    ops::swiglu_backward<double>(x, dy, dx, exec_of(kernels));
    CHECK(relative_error(d(X), dx) < kTolerance);
  }
}

TEST_CASE("the derivatives of the activations, differentiated once more, are smooth where the formulas are") {
  // activation_derivative is itself a formula of ops/reference: its slope by the tape against differences of it.
  for (const ops::Activation kind : {ops::Activation::gelu_tanh, ops::Activation::gelu_exact, ops::Activation::silu}) {
    for (double x = -3; x < 3; x += 0.41) {
      Tape tape;
      const Var X = tape.variable(x), slope = reference::activation_derivative(kind, X);
      const auto at = [&](double place) { return reference::activation_derivative(kind, place); };
      CHECK(slope.value == at(x));
      CHECK(tape.backward(slope)(X) == doctest::Approx((at(x + 1e-5) - at(x - 1e-5)) / 2e-5).epsilon(1e-7));
    }
  }
}

TEST_CASE("softmax, cross-entropy, embedding, dropout, add") {
  Dice dice(4);
  const Index N = 4, V = 6;
  const Matrix<double> x = dice.matrix<double>(N, V, 2), dy = dice.matrix<double>(N, V);
  {
    Tape tape;
    const Matrix<Var> X = tape.variables(x);
    Matrix<Var> Y(N, V);
    reference::softmax_forward<Var>(X, Y);
    const Derivatives d = tape.backward(weighted(dy, Y));
    for (const Kernels kernels : all_kernels) {
      Matrix<double> y(N, V), dx(N, V);
      ops::softmax_forward<double>(x, y, exec_of(kernels));
      ops::softmax_backward<double>(y, dy, dx, exec_of(kernels));
      CHECK(relative_error(values(Y), y) < kTolerance);
      CHECK(relative_error(d(X), dx) < kTolerance);
    }
  }
  {
    const std::vector<Token> targets = {2, -1, 5, 0};
    const double scale = 1.0 / 3;
    Tape tape;
    Matrix<Var> X = tape.variables(x), logits = X;
    std::vector<Var> losses(4);
    const Index correct = reference::cross_entropy<Var, Var>(logits, targets, losses, false, scale);
    Var loss = 0;
    for (const Var& l : losses) loss += scale * l;
    const Derivatives d = tape.backward(loss);
    for (const Kernels kernels : all_kernels) {
      Matrix<double> dx = x;
      std::vector<double> expected(4);
      CHECK(ops::cross_entropy<double>(dx, targets, expected, true, scale, exec_of(kernels)) == correct);
      for (std::size_t n = 0; n < 4; ++n) CHECK(losses[n].value == doctest::Approx(expected[n]).epsilon(kTolerance));
      CHECK(relative_error(d(X), dx) < kTolerance);
    }
  }
  {
    const std::vector<Token> ids = {3, 0, 3, 1};
    const Matrix<double> table = dice.matrix<double>(5, V);
    Tape tape;
    Matrix<Var> E = tape.variables(table), Y(N, V);
    reference::embedding_forward<Var>(view(E), ids, Y);
    reference::dropout_apply<Var>({0.4, RandomStream{5}}, Y);
    reference::add<Var>(tape.variables(x), Y);
    const Derivatives d = tape.backward(weighted(dy, Y));
    Matrix<double> back = dy, dtable = Matrix<double>::Zero(5, V);
    ops::dropout_apply<double>({0.4, RandomStream{5}}, back, {});
    ops::embedding_backward<double>(ids, back, view(dtable), {});
    CHECK(relative_error(d(E), dtable) < kTolerance);
    CHECK(dtable.row(3).norm() > 0);
  }
}

TEST_CASE("attention: heads, groups, masks, ALiBi, dropout") {
  Dice dice(5);
  const Index D = 3;
  struct Case {
    Index heads, kv_heads, queries, keys, window;
    bool causal, alibi;
    double dropout;
  };
  for (const Case& c : {Case{1, 1, 5, 5, 0, true, false, 0}, Case{4, 2, 5, 5, 0, true, false, 0}, Case{4, 1, 2, 6, 0, true, false, 0},
                        Case{2, 2, 6, 6, 3, true, true, 0}, Case{2, 1, 4, 4, 0, false, false, 0.3}, Case{3, 3, 5, 5, 0, true, true, 0.2}}) {
    ops::AttentionShape shape;
    shape.heads = c.heads, shape.kv_heads = c.kv_heads, shape.head_dim = D, shape.scale = 1 / std::sqrt(3.0);
    shape.causal = c.causal, shape.window = c.window, shape.dropout = {c.dropout, RandomStream{7}};
    for (Index h = 1; c.alibi && h <= c.heads; ++h) shape.slopes.push_back(std::exp2(-static_cast<double>(h)));
    const Index HD = c.heads * D, GD = c.kv_heads * D, T = c.queries, U = c.keys;
    const Matrix<double> q = dice.matrix<double>(T, HD), k = dice.matrix<double>(U, GD), v = dice.matrix<double>(U, GD),
                         dz = dice.matrix<double>(T, HD);
    Tape tape;
    const Matrix<Var> Q = tape.variables(q), K = tape.variables(k), V = tape.variables(v);
    Matrix<Var> Z(T, HD);
    const ops::AttentionSequence<Var> on_tape{T, U, {Q.data(), HD, D}, {K.data(), GD, D}, {V.data(), GD, D}, {Z.data(), HD, D}, nullptr};
    reference::attention_core_forward<Var>(shape, std::span(&on_tape, 1), {});
    const Derivatives d = tape.backward(weighted(dz, Z));
    for (const Kernels kernels : all_kernels) {
      Matrix<double> z(T, HD), dq(T, HD), dk(U, GD), dv(U, GD);
      Vector<double> logsumexp(c.heads * T);
      const ops::AttentionSequence<double> sequence{
          T, U, {q.data(), HD, D}, {k.data(), GD, D}, {v.data(), GD, D}, {z.data(), HD, D}, logsumexp.data()};
      const ops::AttentionGradients<double> gradients{{dz.data(), HD, D}, {dq.data(), HD, D}, {dk.data(), GD, D}, {dv.data(), GD, D}};
      ops::attention_core_forward<double>(shape, std::span(&sequence, 1), {}, exec_of(kernels));
      ops::attention_core_backward<double>(shape, std::span(&sequence, 1), std::span(&gradients, 1), {}, exec_of(kernels));
      INFO("heads ", c.heads, " of ", c.kv_heads, " window ", c.window, " causal ", c.causal, " kernels ", static_cast<int>(kernels));
      CHECK(relative_error(values(Z), z) < kTolerance);
      CHECK(relative_error(d(Q), dq) < kTolerance);
      CHECK(relative_error(d(K), dk) < kTolerance);
      CHECK(relative_error(d(V), dv) < kTolerance);
    }
  }
}
