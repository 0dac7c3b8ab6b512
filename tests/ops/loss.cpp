#include "glassformer/ops/loss.hpp"

#include <doctest/doctest.h>

#include "../support/check.hpp"

using namespace glassformer;
using namespace glassformer::test;

namespace {

std::vector<Token> random_tokens(Index count, Index vocabulary, Dice& dice, bool some_not_scored) {
  std::vector<Token> tokens;
  for (Index n = 0; n < count; ++n) {
    const bool scored = !some_not_scored || dice.between(0, 3) > 0;
    tokens.push_back(scored ? static_cast<Token>(dice.between(0, vocabulary - 1)) : Token{-1});
  }
  return tokens;
}

Matrix<double> as_row(const std::vector<double>& x) { return Eigen::Map<const Vector<double>>(x.data(), static_cast<Index>(x.size())); }

}  // namespace

TEST_CASE_TEMPLATE("softmax by hand, and with logits that overflow exp", S, float, double) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    Matrix<S> x{{0, S(std::log(3.0)), S(-infinity)}}, y(1, 3);
    ops::softmax_forward<S>(x, y, exec);
    CHECK(relative_error(y, Matrix<double>{{0.25, 0.75, 0}}) < kernel_tolerance<S>());
    CHECK(y(0, 2) == 0);
    x = Matrix<S>{{1e4, -1e4, 1e4}};
    ops::softmax_forward<S>(x, x, exec);  // in place
    CHECK(x == Matrix<S>{{0.5, 0, 0.5}});
    x.setConstant(S(-infinity));
    ops::softmax_forward<S>(x, y, exec);
    CHECK(y.array().isNaN().all());
  }
}

TEST_CASE_TEMPLATE("cross-entropy by hand; a target of −1 is not scored; huge logits stay finite", S, float, double) {
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    Matrix<S> logits{{0, S(std::log(3.0))}, {5, 7}, {1e4, -1e4}, {1e4, -1e4}};
    const Matrix<S> before = logits;
    const std::vector<Token> targets{0, -1, 0, 1};
    std::vector<double> losses(4, -777);
    ops::cross_entropy<S>(logits, targets, losses, false, S(1), exec);
    CHECK(same_bits(logits, before));
    CHECK(losses[0] == doctest::Approx(std::log(4.0)).epsilon(1e-6));
    CHECK(losses[1] == 0);
    CHECK(losses[2] == 0);
    CHECK(losses[3] == doctest::Approx(2e4));
    losses.assign(4, -777);
    ops::cross_entropy<S>(logits, targets, losses, true, S(2), exec);
    CHECK(losses[3] == doctest::Approx(2e4));
    CHECK(relative_error(logits, Matrix<double>{{-1.5, 1.5}, {0, 0}, {0, 0}, {2, -2}}) < kernel_tolerance<S>());
  }
}

TEST_CASE("softmax, cross-entropy, embedding: gradients against central differences") {
  Dice dice(41);
  const Index N = 4, V = 6, C = 3;
  Matrix<double> x = dice.matrix<double>(N, V, 2), table = dice.matrix<double>(V, C);
  const Matrix<double> dy = dice.matrix<double>(N, V), dlooked = dice.matrix<double>(N, C);
  const std::vector<Token> targets{5, -1, 0, 2}, ids{1, 4, 1, 0};
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    Matrix<double> y(N, V);
    ops::softmax_forward<double>(x, y, exec);
    Block<double> dx(N, V);
    ops::softmax_backward<double>(y, dy, *dx, exec);
    CHECK(gradient_error(x, dx.value(), [&] {
            Matrix<double> z(N, V);
            ops::softmax_forward<double>(x, z, exec);
            return z.cwiseProduct(dy).sum();
          }) < 1e-6);
    Matrix<double> in_place = dy;
    ops::softmax_backward<double>(y, in_place, in_place, exec);
    CHECK(same_bits(in_place, dx.value()));

    std::vector<double> losses(N);
    Matrix<double> gradient = x;
    ops::cross_entropy<double>(gradient, targets, losses, true, 0.25, exec);
    CHECK(gradient_error(x, gradient, [&] {
            Matrix<double> logits = x;
            ops::cross_entropy<double>(logits, targets, losses, false, 0.25, exec);
            return 0.25 * (losses[0] + losses[1] + losses[2] + losses[3]);
          }) < 1e-6);

    const Matrix<double> dtable0 = dice.matrix<double>(V, C);
    Matrix<double> dtable = dtable0;
    ops::embedding_backward<double>(ids, dlooked, view(dtable), exec);
    CHECK(gradient_error(table, dtable - dtable0, [&] {
            Block<double> looked(N, C);
            ops::embedding_forward<double>(view(table), ids, *looked, exec);
            return looked.value().cwiseProduct(dlooked).sum();
          }) < 1e-6);
  }
}

TEST_CASE_TEMPLATE("embedding by hand: a token that occurs twice gets both gradients", S, float, double) {
  Matrix<S> table{{1, 2}, {3, 4}, {5, 6}}, y(3, 2);
  const std::vector<Token> ids{2, 0, 2};
  for (const Kernels kernels : all_kernels) {
    ops::embedding_forward<S>(view(table), ids, y, exec_of(kernels));
    CHECK(y == Matrix<S>{{5, 6}, {1, 2}, {5, 6}});
    Matrix<S> dtable{{1, 1}, {1, 1}, {1, 1}};
    ops::embedding_backward<S>(ids, Matrix<S>{{1, 2}, {3, 4}, {5, 6}}, view(dtable), exec_of(kernels));
    CHECK(dtable == Matrix<S>{{4, 5}, {1, 1}, {7, 9}});
  }
}

TEST_CASE_TEMPLATE("softmax, cross-entropy, embedding: fused equals the formula on odd shapes; the same bits on any threads", S, float,
                   double) {
  Dice dice(42);
  for (int trial = 0; trial < 30; ++trial) {
    const Index N = dice.between(1, 300), V = trial % 10 == 9 ? dice.between(1000, 5000) : dice.between(1, 130), C = dice.between(1, 130);
    const double spread = trial % 5 == 4 ? 3000 : 3;  // trial 4, 9, …: differences of thousands between logits
    Block<S> x(dice.matrix<S>(N, V, spread)), dy(dice.matrix<S>(N, V));
    const std::vector<Token> targets = random_tokens(N, V, dice, true), ids = random_tokens(N, V, dice, false);
    Matrix<S> table = dice.matrix<S>(V, C);
    const Matrix<S> dtable0 = dice.matrix<S>(V, C);
    Block<S> dlooked(dice.matrix<S>(N, C));
    const auto run = [&](const Exec& exec) {
      Block<S> y(N, V), dx(N, V), gradient(x.value()), looked(N, C);
      Matrix<S> dtable = dtable0;
      std::vector<double> losses(static_cast<std::size_t>(N), -777.0);
      ops::softmax_forward<S>(*x, *y, exec);
      ops::softmax_backward<S>(*y, *dy, *dx, exec);
      ops::cross_entropy<S>(*gradient, targets, losses, true, S(0.125), exec);
      ops::embedding_forward<S>(view(table), ids, *looked, exec);
      ops::embedding_backward<S>(ids, *dlooked, view(dtable), exec);
      CHECK((y.frame_intact() && dx.frame_intact() && gradient.frame_intact() && looked.frame_intact()));
      Matrix<double> all = Matrix<double>::Zero(5 * N + V, std::max(V, C));  // float fits in double bit for bit
      all.topLeftCorner(N, V) = y.value().template cast<double>();
      all.block(N, 0, N, V) = dx.value().template cast<double>();
      all.block(2 * N, 0, N, V) = gradient.value().template cast<double>();
      all.block(3 * N, 0, N, 1) = as_row(losses).transpose();
      all.block(4 * N, 0, N, C) = looked.value().template cast<double>();
      all.block(5 * N, 0, V, C) = dtable.template cast<double>();
      return all;
    };
    const Matrix<double> expected = run(exec_of(Kernels::reference)), found = run(Exec{});
    for (int part = 0; part < 6; ++part) {
      const Index rows = part == 5 ? V : N;
      INFO("N ", N, " V ", V, " C ", C, " spread ", spread, " part ", part);
      // exp(x − max) of a difference of thousands carries the difference's rounding. With one class dx is rounding alone.
      const double tolerance = spread > 100 ? 1000 * kernel_tolerance<S>() : kernel_tolerance<S>();
      if (V > 1) CHECK(relative_error(expected.middleRows(part * N, rows), found.middleRows(part * N, rows)) < tolerance);
    }
    CHECK(found.allFinite());
    if (trial % 3 == 0) CHECK(same_bits_on_any_threads(run));
  }
}

TEST_CASE("bad targets, ids and shapes are named") {
  Matrix<double> logits = Matrix<double>::Zero(2, 3), table = Matrix<double>::Zero(3, 4), y = Matrix<double>::Zero(2, 4), narrow(2, 3),
                 tall(3, 4);
  const auto cross_entropy = [&](std::vector<Token> targets, std::size_t losses_size, const Exec& exec) {
    std::vector<double> losses(losses_size);
    ops::cross_entropy<double>(logits, targets, losses, true, 1, exec);
  };
  for (const Kernels kernels : all_kernels) {
    const Exec exec = exec_of(kernels);
    CHECK_NOTHROW(cross_entropy({2, -1}, 2, exec));
    CHECK_THROWS_AS(cross_entropy({0, 3}, 2, exec), std::invalid_argument);
    CHECK_THROWS_AS(cross_entropy({-2, 0}, 2, exec), std::invalid_argument);
    CHECK_THROWS_AS(cross_entropy({0, 1, 2}, 2, exec), std::invalid_argument);
    CHECK_THROWS_AS(cross_entropy({0, 1}, 1, exec), std::invalid_argument);
    for (const std::vector<Token>& ids : {std::vector<Token>{0, 3}, {-1, 0}, {0}, {0, 1, 2}}) {
      CHECK_THROWS_AS(ops::embedding_forward<double>(view(table), ids, y, exec), std::invalid_argument);
      CHECK_THROWS_AS(ops::embedding_backward<double>(ids, y, view(table), exec), std::invalid_argument);
    }
    CHECK_THROWS_AS(ops::embedding_forward<double>(view(table), std::vector<Token>{0, 1}, narrow, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::embedding_backward<double>(std::vector<Token>{0, 1}, narrow, view(table), exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::softmax_forward<double>(y, tall, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::softmax_backward<double>(y, y, tall, exec), std::invalid_argument);
    CHECK_THROWS_AS(ops::softmax_backward<double>(y, tall, y, exec), std::invalid_argument);
  }
}
