// The matrix product against sums in double, at sizes that cross every edge of its blocks.
#include "ops/gemm.hpp"

#include <doctest/doctest.h>

#include "ops/kernels/kernels.hpp"
#include "support/check.hpp"

using namespace glassformer;
namespace kernels = ops::kernels;
using test::Dice;

namespace {

struct Size {
  Index m, n, k;
};
constexpr Size kSizes[] = {{1, 1, 1}, {5, 3, 2}, {13, 33, 7}, {96, 32, 384}, {97, 31, 385}, {102, 70, 770}, {7, 1031, 12}, {200, 65, 1}};

template <class S>
struct Case {
  Matrix<S> a, b, c, bias;
  ops::Gemm<S> gemm;
  Matrix<double> exact, size;  // size: Σ|terms|, of which rounding is a part
  Case(Size s, bool transpose_a, bool transpose_b, S alpha, S beta, bool with_bias, Dice& dice)
      : a(transpose_a ? dice.matrix<S>(s.k, s.m) : dice.matrix<S>(s.m, s.k)),
        b(transpose_b ? dice.matrix<S>(s.n, s.k) : dice.matrix<S>(s.k, s.n)),
        c(dice.matrix<S>(s.m, s.n)),
        bias(dice.matrix<S>(1, s.n)),
        gemm{transpose_a, transpose_b, s.m,      s.n,  s.k,      alpha,    a.data(),
             a.cols(),    b.data(),    b.cols(), beta, c.data(), c.cols(), with_bias ? bias.data() : nullptr} {
    Matrix<double> left = a.template cast<double>(), right = b.template cast<double>(), before = beta * c.template cast<double>();
    size = before.cwiseAbs();
    if (transpose_a) left = left.transpose().eval();
    if (transpose_b) right = right.transpose().eval();
    if (with_bias)
      before.rowwise() += bias.row(0).template cast<double>(), size.rowwise() += bias.row(0).template cast<double>().cwiseAbs();
    exact = alpha * left * right + before;
    size += std::abs(alpha) * left.cwiseAbs() * right.cwiseAbs();
    if (beta == 0) c.setConstant(std::numeric_limits<S>::quiet_NaN());  // must not be read
  }
  double error() const { return ((c.template cast<double>() - exact).array().abs() / (size.array() + 1e-300)).maxCoeff(); }
};

void product(const kernels::Kernels& k, const kernels::Product<float>& p) { k.product_f32(p); }
void product(const kernels::Kernels& k, const kernels::Product<double>& p) { k.product_f64(p); }

}  // namespace

TEST_CASE_TEMPLATE("gemm: c = alpha·op(a)·op(b) + beta·c + bias", S, float, double) {
  Dice dice(70);
  for (const Size& s : kSizes) {
    for (int which = 0; which < 4; ++which) {
      const bool transpose_a = which % 2 == 1, transpose_b = which / 2 == 1;
      INFO(s.m, "x", s.n, "x", s.k, " transposes ", which);
      for (const auto& [alpha, beta, bias] : {std::tuple{1.0, 0.0, false}, {1.0, 1.0, false}, {1.0, 0.0, true}, {-0.5, 0.75, true}}) {
        Case<S> t(s, transpose_a, transpose_b, static_cast<S>(alpha), static_cast<S>(beta), bias, dice);
        ops::gemm(t.gemm);
        CHECK(t.error() < static_cast<double>(s.k + 4) * std::numeric_limits<S>::epsilon());
      }
    }
  }
}

TEST_CASE_TEMPLATE("gemm: every part of c has the bits that it has in the whole", S, float, double) {
  Dice dice(71);
  for (int which = 0; which < 4; ++which) {
    const bool transpose_a = which % 2 == 1, transpose_b = which / 2 == 1;
    Case<S> whole({110, 90, 400}, transpose_a, transpose_b, S(0.3), 1, true, dice);
    const Matrix<S> before = whole.c;
    ops::gemm(whole.gemm);
    const Matrix<S> together = whole.c;
    whole.c = before;
    for (const auto& [row, rows] : {std::pair<Index, Index>{0, 1}, {1, 7}, {8, 102}}) {
      for (const auto& [column, columns] : {std::pair<Index, Index>{0, 33}, {33, 1}, {34, 56}}) {
        ops::Gemm<S> part = whole.gemm;
        part.m = rows, part.n = columns;
        part.a += transpose_a ? row : row * part.lda;
        part.b += transpose_b ? column * part.ldb : column;
        part.c += row * part.ldc + column;
        part.bias += column;
        ops::gemm(part);
      }
    }
    CHECK(test::same_bits(whole.c, together));
  }
}

TEST_CASE_TEMPLATE("kernels: a product of tiles has the same bits with AVX2 and with AVX-512", S, float, double) {
  if (!kernels::can_run(kernels::avx512)) {
    MESSAGE("skipped: this processor has no AVX-512");
    return;
  }
  Dice dice(73);
  const Index m = 29, n = 96, k = 50;
  const Matrix<S> a = dice.matrix<S>(m, k), b = dice.matrix<S>(k, n), before = dice.matrix<S>(m, n);
  Matrix<S> with_avx2 = before, with_avx512 = before;
  product(kernels::avx2, kernels::Product<S>{m, n, k, a.data(), k, 1, 0, b.data(), n, S(0.3), with_avx2.data(), n, true});
  product(kernels::avx512, kernels::Product<S>{m, n, k, a.data(), k, 1, 0, b.data(), n, S(0.3), with_avx512.data(), n, true});
  CHECK(test::same_bits(with_avx2, with_avx512));
}

TEST_CASE_TEMPLATE("kernels: a product of tiles for every instruction set, rows and columns of a adjacent or in groups", S, float, double) {
  Dice dice(72);
  for (const kernels::Kernels* kernel : {&kernels::portable, &kernels::avx2, &kernels::avx512}) {
    if (!kernels::can_run(*kernel)) continue;
    const Index lanes = kernel->tile.vector_bytes / static_cast<Index>(sizeof(S)), group = kernel->tile.rows, k = 19;
    for (Index m = 1; m <= 2 * group + 3; ++m) {
      for (const Index n : {lanes, 2 * lanes, 3 * lanes}) {
        INFO(kernel->name, " ", m, "x", n);
        const Matrix<S> a = dice.matrix<S>(m, k), at = a.transpose(), b = dice.matrix<S>(k, n), before = dice.matrix<S>(m, n);
        Matrix<S> grouped = Matrix<S>::Zero((m + group - 1) / group * k, group);
        for (Index i = 0; i < m; ++i) {
          for (Index j = 0; j < k; ++j) grouped(i / group * k + j, i % group) = a(i, j);
        }
        const Matrix<double> exact = before.template cast<double>() + 2 * (a.template cast<double>() * b.template cast<double>());
        Matrix<S> first;
        for (const kernels::Product<S>& p : {kernels::Product<S>{m, n, k, a.data(), k, 1, 0, b.data(), n, 2, nullptr, n, true},
                                             {m, n, k, at.data(), 1, m, 0, b.data(), n, 2, nullptr, n, true},
                                             {m, n, k, grouped.data(), 1, group, group * k, b.data(), n, 2, nullptr, n, true}}) {
          Matrix<S> c = before;
          kernels::Product<S> here = p;
          here.c = c.data();
          product(*kernel, here);
          CHECK((c.template cast<double>() - exact).cwiseAbs().maxCoeff() < 200 * std::numeric_limits<S>::epsilon());
          if (first.size() == 0) first = c;
          CHECK(test::same_bits(c, first));
        }
      }
    }
  }
}
