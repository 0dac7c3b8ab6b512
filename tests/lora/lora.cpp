// LoRA, rsLoRA and DoRA against hand-computed cases, against their formulas, against central differences, and against themselves merged.
#include "glassformer/lora/lora.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "../support/check.hpp"
#include "glassformer/ops/linear.hpp"

using namespace glassformer;
using namespace glassformer::test;

namespace {

using Base = std::optional<QuantizedType>;  // of W: none is floating point
constexpr Base all_bases[] = {{}, QuantizedType::q8_0, QuantizedType::q4_0, QuantizedType::int4, QuantizedType::nf4};

std::string base_name(Base base) { return base ? std::string(quantized_name(*base)) : "dense"; }

struct Setting {
  bool dora = false;
  double dropout = 0;
  bool row_weights = false;
  Base base;
  double weight = 1;
  Kernels kernels = Kernels::fused;
  std::string name() const {
    return std::string(dora ? "DoRA" : "LoRA") + ", dropout " + std::to_string(dropout) + ", row weights " + (row_weights ? "yes" : "no") +
           ", " + base_name(base) + ", weight " + std::to_string(weight) + (kernels == Kernels::fused ? "" : ", reference");
  }
};

// A frozen matrix with one adapter on some of its rows, an input, and all that a pass over them needs.
template <class S>
struct Rig {
  Setting setting;
  Index N, I, all, O, r;  // `all` outputs, O of them adapted
  LoraView<S> lora;
  Matrix<S> dense;  // W [all, I]; of a quantized one, its values
  ops::Weight<S> weight;
  Matrix<S> x, a, b, m;
  std::vector<S> rows;
  ops::Dropout dropout;
  Exec exec;
  Workspace workspace;

  Rig(const Setting& s, std::uint64_t seed, Index tokens = 5, Index inputs = 64, Index outputs = 9, Index adapted = 6, Index rank = 3)
      : setting(s), N(tokens), I(inputs), all(outputs), O(adapted), r(rank), exec(exec_of(s.kernels)) {
    Dice dice(seed);
    dense = dice.matrix<S>(all, I, 0.3);
    if (setting.base) {
      const auto q = std::make_shared<QuantizedMatrix>(quantize(*setting.base, Matrix<float>(dense.template cast<float>())));
      dequantize<S>(*q, 0, dense);
      weight = ops::Weight<S>(q);
    } else {
      weight = ops::Weight<S>(view(dense));
    }
    x = dice.matrix<S>(N, I), a = dice.matrix<S>(r, I, 0.3), b = dice.matrix<S>(O, r, 0.5);
    lora.a = view(a), lora.b = view(b);
    lora.row_begin = (all - O) / 2, lora.scale = S(0.75), lora.weight = static_cast<S>(setting.weight);
    if (setting.dora) {
      m = dice.matrix<S>(1, O).cwiseAbs() + Matrix<S>::Constant(1, O, 1);
      lora.magnitude = view(m), lora.norms = std::make_shared<DoraNorms<S>>();
      refresh();
    }
    if (setting.row_weights) {
      for (Index n = 0; n < N; ++n) rows.push_back(n % 3 == 0 ? S(1) : n % 3 == 1 ? S(0) : S(dice.normal()));
    }
    lora.dropout = setting.dropout;
    dropout = {setting.dropout, RandomStream{seed, 1}};
  }
  // What holds while A, B or m change: the norms are those of now.
  void refresh() {
    if (setting.dora) dora_refresh<S>(lora, weight, exec);
  }
  Matrix<S> base() {
    Matrix<S> u(x.rows(), all);
    ops::linear_forward<S>(x, weight, {}, u, exec);
    return u;
  }
  void add_forward(const Matrix<S>& u, MatrixRef<S> y) {
    lora_forward<S>(lora, dropout, rows, x, {u.data(), u.rows(), u.cols()}, y, workspace, exec);
  }
  // The layer's y = x·Wᵀ and its adapter
  Matrix<S> forward() {
    const Matrix<S> u = base();
    Matrix<S> y = u;
    add_forward(u, y);
    return y;
  }
  // The same from the definition, row by row: y = u + w·(c ⊙ (u + s·drop(x)·Aᵀ·Bᵀ) − u)
  Matrix<double> expected() const {
    const Matrix<double> W = dense.template cast<double>(), A = a.template cast<double>(), B = b.template cast<double>();
    const Matrix<double> X = x.template cast<double>(), u = X * W.transpose();
    Matrix<double> dropped = X, y = u;
    if (dropout.rate > 0) {
      for (Index i = 0; i < X.size(); ++i) dropped.data()[i] *= dropout_keeps(dropout, i) ? 1 / (1 - dropout.rate) : 0;
    }
    for (Index n = 0; n < x.rows(); ++n) {
      for (Index o = 0; o < O; ++o) {
        const Vector<double> change = static_cast<double>(lora.scale) * B.row(o) * A;
        const double c = setting.dora ? static_cast<double>(m(0, o)) / (W.row(lora.row_begin + o) + change).norm() : 1;
        const double w = static_cast<double>(rows.empty() ? lora.weight : rows[static_cast<std::size_t>(n)]),
                     below = u(n, lora.row_begin + o);
        y(n, lora.row_begin + o) = below + w * (c * (below + change.dot(dropped.row(n))) - below);
      }
    }
    return y;
  }
};

template <class S>
struct Gradients {
  Matrix<S> a, b, m, x;
};

// Of Σ y ⊙ dy for the rig's layer. What reaches x through W is computed here, by lora_backward's contract.
template <class S>
Gradients<S> backward(Rig<S>& rig, const Matrix<S>& dy) {
  const Matrix<S> u = rig.base();
  Matrix<S> through = dy;
  if (rig.setting.dora) {
    for (Index n = 0; n < rig.N; ++n) {
      const S w = rig.rows.empty() ? rig.lora.weight : rig.rows[static_cast<std::size_t>(n)];
      for (Index o = 0; o < rig.O; ++o) through(n, rig.lora.row_begin + o) *= 1 + w * (rig.m(0, o) / rig.lora.norms->norm[o] - 1);
    }
  }
  Gradients<S> g{Matrix<S>::Zero(rig.r, rig.I), Matrix<S>::Zero(rig.O, rig.r), Matrix<S>::Zero(1, rig.setting.dora ? rig.O : 0),
                 Matrix<S>(rig.N, rig.I)};
  ops::linear_backward_input<S>(through, rig.weight, g.x, rig.exec);
  LoraGradients<S> views{view(g.a), view(g.b), rig.setting.dora ? view(g.m) : MatrixView<S>{}};
  lora_backward<S>(rig.lora, rig.dropout, rig.rows, rig.x, rig.weight, {u.data(), u.rows(), u.cols()}, dy, g.x, views, rig.workspace,
                   rig.exec);
  return g;
}

template <class S>
std::vector<Setting> settings(bool quantized) {
  std::vector<Setting> all;
  for (const bool dora : {false, true}) {
    for (const double dropout : {0.0, 0.4}) {
      for (const bool row_weights : {false, true}) {
        for (const double weight : {1.0, -0.3}) {
          for (const Base base : quantized ? std::vector<Base>{{}, QuantizedType::nf4} : std::vector<Base>{{}}) {
            all.push_back({dora, dropout, row_weights, base, weight});
          }
        }
      }
    }
  }
  return all;
}

// W [2, 2] and one adapter of rank 1 on both rows: s·B·A = {{2, 4}, {3, 6}}, V = {{3, 4}, {5, 12}}, norms 5 and 13.
template <class S>
struct Small {
  Matrix<S> w{{1, 0}, {2, 6}}, a{{1, 2}}, b{{1}, {1.5}}, m{{10, 6.5}}, x{{1, 1}, {1, 0}}, u{{1, 8}, {1, 2}}, y = u;
  LoraView<S> lora;
  Workspace workspace;
  explicit Small(bool dora) {
    lora.a = view(a), lora.b = view(b), lora.scale = 2;
    if (!dora) return;
    lora.magnitude = view(m), lora.norms = std::make_shared<DoraNorms<S>>();
    dora_refresh<S>(lora, view(w), {});
  }
  Matrix<S> forward(std::vector<S> rows = {}) {
    Matrix<S> out = u;
    lora_forward<S>(lora, {}, rows, x, {u.data(), 2, 2}, out, workspace, {});
    return out;
  }
  LoraGradients<S> backward(Matrix<S>& da, Matrix<S>& db, Matrix<S>& dm, Matrix<S>& dx, const Matrix<S>& dy) {
    LoraGradients<S> g{view(da), view(db), lora.magnitude ? view(dm) : MatrixView<S>{}};
    lora_backward<S>(lora, {}, {}, x, view(w), {u.data(), 2, 2}, dy, dx, g, workspace, {});
    return g;
  }
};

}  // namespace

TEST_CASE("lora: scale is α/r, with rank stabilisation α/√r") {
  LoraConfig c;
  c.rank = 16, c.alpha = 32;
  CHECK(c.scale() == 2);
  CHECK(c.scale(4, 12) == 3);
  c.rank_stabilized = true;
  CHECK(c.scale() == 8);
  CHECK(c.scale(4, 12) == 6);
}

TEST_CASE_TEMPLATE("lora: by hand", S, float, double) {
  Small<S> lora(false);
  CHECK(lora.forward() == Matrix<S>{{7, 17}, {3, 5}});                 // low = 3, 1; u + 2·low·{1, 1.5}
  CHECK(lora.forward({S(0), S(0.5)}) == Matrix<S>{{1, 8}, {2, 3.5}});  // the first row as if there were no adapter
  CHECK(lora_change<S>(lora.lora, view(lora.w), {}) == Matrix<S>{{2, 4}, {3, 6}});
  lora.lora.weight = S(0.5);
  CHECK(lora.forward() == Matrix<S>{{4, 12.5}, {2, 3.5}});
  CHECK(lora_change<S>(lora.lora, view(lora.w), {}) == Matrix<S>{{1, 2}, {1.5, 3}});
  CHECK(lora.forward({S(1), S(1)}) == Matrix<S>{{7, 17}, {3, 5}});  // a row's own weight, not the view's

  lora.lora.weight = 1;
  Matrix<S> da{{0, 0}}, db{{0}, {0}}, dm, dx{{0, 0}, {0, 0}};
  lora.backward(da, db, dm, dx, Matrix<S>{{1, 0}, {0, 2}});
  CHECK(db == Matrix<S>{{6}, {4}});         // 2·(1·3), 2·(2·1)
  CHECK(da == Matrix<S>{{8, 2}});           // dlow = 2·1·1, 2·2·1.5: 2·{1, 1} + 6·{1, 0}
  CHECK(dx == Matrix<S>{{2, 4}, {6, 12}});  // dlow·A
}

TEST_CASE_TEMPLATE("dora: by hand", S, float, double) {
  Small<S> dora(true);
  CHECK(dora.lora.norms->norm == Vector<S>{{5, 13}});
  CHECK(dora.lora.norms->base_squares == Vector<S>{{1, 40}});
  CHECK(dora.lora.norms->projected == Matrix<S>{{1}, {14}});
  const auto close = [](const Matrix<S>& a, const Matrix<S>& b) { return relative_error(a, b) < kernel_tolerance<S>(); };
  // c = {2, 0.5}, W' = {{6, 8}, {2.5, 6}}
  CHECK(close(lora_change<S>(dora.lora, view(dora.w), {}), Matrix<S>{{5, 8}, {0.5, 0}}));
  CHECK(close(dora.forward(), Matrix<S>{{14, 8.5}, {6, 2.5}}));
  CHECK(close(dora.forward({S(0), S(0.5)}), Matrix<S>{{1, 8}, {3.5, 2.25}}));
  Matrix<S> merged = dora.w;
  lora_merge<S>(dora.lora, view(merged), {});
  CHECK(close(merged, Matrix<S>{{6, 8}, {2.5, 6}}));
  // dy = {{1, 0}, {0, 0}}: t_0 = V_0·x_0 = 7, dm_0 = 7/5. The loss is m_0·f with f = V_0·x_0/‖V_0‖, so
  // dV_0 = m_0·(x_0/5 − 7·V_0/125) = {2 − 1.68, 2 − 2.24}; dB_0 = s·dV_0·Aᵀ, dA = s·B_0·dV_0.
  Matrix<S> da{{0, 0}}, db{{0}, {0}}, dm{{0, 0}}, dx{{0, 0}, {0, 0}};
  dora.backward(da, db, dm, dx, Matrix<S>{{1, 0}, {0, 0}});
  CHECK(close(dm, Matrix<S>{{1.4, 0}}));
  CHECK(relative_error(db, Matrix<double>{{2 * (0.32 - 0.48)}, {0}}) < 10 * kernel_tolerance<S>());
  CHECK(relative_error(da, Matrix<double>{{0.64, -0.48}}) < 10 * kernel_tolerance<S>());
  CHECK(close(dx, Matrix<S>{{4, 8}, {0, 0}}));  // c_0·s·B_0·A; what passes W is the projection's
}

TEST_CASE_TEMPLATE("lora: the forward pass is the formula, and touches no other outputs", S, float, double) {
  std::uint64_t seed = 20;
  for (Setting setting : settings<S>(true)) {
    for (const Kernels kernels : all_kernels) {
      setting.kernels = kernels;
      Rig<S> rig(setting, ++seed);
      const Matrix<S> u = rig.base();
      Block<S> y(u);
      rig.add_forward(u, *y);
      INFO(setting.name());
      CHECK(relative_error(y.value(), rig.expected()) < kernel_tolerance<S>());
      CHECK(relative_error(y.value(), u) > 1e-3);
      CHECK(y.frame_intact());
      CHECK(same_bits(y.value().leftCols(1), u.leftCols(1)));
      CHECK(same_bits(y.value().rightCols(2), u.rightCols(2)));
    }
  }
}

TEST_CASE_TEMPLATE("lora: a fresh adapter changes nothing, to the bit", S, float, double) {
  for (const bool dora : {false, true}) {
    for (const Base base : all_bases) {
      for (const bool row_weights : {false, true}) {
        Rig<S> rig({dora, 0.4, row_weights, base, 0.7}, 3, 17, 192, 40, 37, 4);
        rig.b.setZero();
        if (dora) rig.m = row_norms<S>(rig.weight, rig.lora.row_begin, rig.O);
        rig.refresh();
        INFO(rig.setting.name());
        CHECK(same_bits(rig.forward(), rig.base()));
        CHECK(lora_change<S>(rig.lora, rig.weight, {}).cwiseAbs().maxCoeff() == 0);
        if (dora) CHECK(same_bits(rig.lora.norms->norm, row_norms<S>(rig.weight, rig.lora.row_begin, rig.O)));
        Gradients<S> g = backward(rig, Matrix<S>(Dice(4).matrix<S>(rig.N, rig.all)));
        CHECK(g.a.cwiseAbs().maxCoeff() == 0);  // B moves first
        CHECK(g.b.cwiseAbs().maxCoeff() > 0);
      }
    }
  }
}

TEST_CASE_TEMPLATE("dora: norms are the same bits wherever the matrix lies", S, float, double) {
  Dice dice(8);
  Matrix<S> memory(1, 4 * 77 + 9);
  const Matrix<S> w = dice.matrix<S>(4, 77);
  Vector<S> first;
  for (Index shift = 0; shift < 9; ++shift) {
    Eigen::Map<Matrix<S>>(memory.data() + shift, 4, 77) = w;
    const Vector<S> norms = row_norms<S>(MatrixView<S>{memory.data() + shift, 4, 77}, 1, 3);
    if (shift == 0) first = norms;
    CHECK(same_bits(norms, first));
    CHECK(relative_error(norms, w.bottomRows(3).rowwise().norm().transpose()) < kernel_tolerance<S>());
  }
}

TEST_CASE("lora: every gradient equals central differences") {
  double worst = 0;
  std::uint64_t seed = 100;
  for (Setting setting : settings<double>(true)) {
    for (const Kernels kernels : all_kernels) {
      if (kernels == Kernels::reference && setting.base) continue;
      setting.kernels = kernels;
      Rig<double> rig(setting, ++seed);
      const Matrix<double> dy = Dice(seed + 1000).matrix<double>(rig.N, rig.all);
      const auto loss = [&] { return rig.refresh(), rig.forward().cwiseProduct(dy).sum(); };
      const Gradients<double> g = backward(rig, dy);
      const double errors[] = {gradient_error(rig.a, g.a, loss), gradient_error(rig.b, g.b, loss), gradient_error(rig.x, g.x, loss),
                               setting.dora ? gradient_error(rig.m, g.m, loss) : 0};
      INFO(setting.name());
      for (const double error : errors) {
        CHECK(error < 1e-6);
        worst = std::max(worst, error);
      }
      CHECK(std::min(g.a.norm(), g.b.norm()) > 0.1);
    }
  }
  MESSAGE("worst relative error ", worst);
}

TEST_CASE_TEMPLATE("lora: gradients accumulate, and what is frozen is left out", S, float, double) {
  for (const bool dora : {false, true}) {
    Rig<S> rig({dora, 0.4, true}, 5);
    const Matrix<S> dy = Dice(6).matrix<S>(rig.N, rig.all), u = rig.base();
    const Gradients<S> g = backward(rig, dy);
    Matrix<S> dx_frozen;
    for (const int trained : {0, 1, 2, 4, 7}) {  // bits: A, B, m
      Matrix<S> da = Matrix<S>::Constant(rig.r, rig.I, 2), db = Matrix<S>::Constant(rig.O, rig.r, 3), dm = Matrix<S>::Constant(1, rig.O, 4);
      Matrix<S> dx = Matrix<S>::Constant(rig.N, rig.I, 5);
      LoraGradients<S> views;
      if (trained & 1) views.a = view(da);
      if (trained & 2) views.b = view(db);
      if (dora && (trained & 4)) views.magnitude = view(dm);
      lora_backward<S>(rig.lora, rig.dropout, rig.rows, rig.x, rig.weight, {u.data(), u.rows(), u.cols()}, dy, dx, views, rig.workspace,
                       rig.exec);
      INFO(rig.setting.name(), ", trained ", trained);
      const auto added = [&](const Matrix<S>& now, double before, const Matrix<S>& gradient, bool on) {
        const Matrix<S> start = Matrix<S>::Constant(now.rows(), now.cols(), S(before));
        return on ? relative_error(now, start + gradient) < kernel_tolerance<S>() : same_bits(now, start);
      };
      CHECK(added(da, 2, g.a, bool(views.a)));
      CHECK(added(db, 3, g.b, bool(views.b)));
      CHECK(added(dm, 4, g.m, bool(views.magnitude)));
      if (trained == 0) dx_frozen = dx;
      CHECK(same_bits(dx, dx_frozen));  // x's gradient does not depend on what else is trained
    }
    CHECK((dx_frozen.array() - 5).abs().maxCoeff() > S(0.1));
  }
}

TEST_CASE_TEMPLATE("lora: merged equals unmerged", S, float, double) {
  const double tolerance = std::is_same_v<S, float> ? 1e-5 : 1e-12;
  double worst = 0;
  for (const bool dora : {false, true}) {
    for (const double weight : {1.0, 0.4}) {
      for (const Base base : all_bases) {
        Rig<S> rig({dora, 0, false, base, weight}, 9, 20, 768, 70, 64, 8);
        const Matrix<S> unmerged = rig.forward();
        Matrix<S> merged_weight = rig.dense;
        merged_weight.middleRows(rig.lora.row_begin, rig.O) += lora_change<S>(rig.lora, rig.weight, rig.exec);
        Matrix<S> merged(rig.N, rig.all);
        ops::linear_forward<S>(rig.x, view(merged_weight), {}, merged, rig.exec);
        INFO(rig.setting.name());
        CHECK((merged - unmerged).cwiseAbs().maxCoeff() / unmerged.cwiseAbs().maxCoeff() < tolerance);
        worst = std::max(worst, static_cast<double>((merged - unmerged).cwiseAbs().maxCoeff() / unmerged.cwiseAbs().maxCoeff()));
        Matrix<S> in_place = rig.dense;
        lora_merge<S>(rig.lora, view(in_place), rig.exec);
        CHECK(relative_error(in_place, merged_weight) < kernel_tolerance<S>());
        CHECK(relative_error(in_place, rig.dense) > 1e-2);
        CHECK(same_bits(in_place.topRows(rig.lora.row_begin), rig.dense.topRows(rig.lora.row_begin)));
        CHECK(same_bits(in_place.bottomRows(3), rig.dense.bottomRows(3)));
      }
    }
  }
  MESSAGE("worst difference over the largest output ", worst);
}

TEST_CASE_TEMPLATE("lora: while decoding, a row gets the same bits alone and in a batch, by the view's weight or its own", S, float,
                   double) {
  for (const bool dora : {false, true}) {
    for (const Base base : all_bases) {
      for (const double weight : {1.0, 0.37}) {
        Rig<S> rig({dora, 0, false, base, weight}, 12, 23, 192, 40, 37, 5);
        rig.exec.row_exact = true;
        const Matrix<S> together = rig.forward();
        INFO(rig.setting.name());
        Matrix<S> x = rig.x;
        for (const Index n : {0, 7, 22}) {
          rig.x = x.row(n);
          CHECK(same_bits(rig.forward(), together.row(n)));
          rig.rows = {rig.lora.weight};
          CHECK(same_bits(rig.forward(), together.row(n)));
          rig.rows.clear();
        }
        rig.x = x, rig.rows.assign(23, S(weight)), rig.lora.weight = 1;
        CHECK(same_bits(rig.forward(), together));
      }
    }
  }
}

TEST_CASE_TEMPLATE("lora: the same bits for any number of threads", S, float, double) {
  for (const bool dora : {false, true}) {
    Rig<S> rig({dora, 0.2, true}, 14, 150, 256, 400, 390, 8);
    const Matrix<S> dy = Dice(15).matrix<S>(rig.N, rig.all);
    CHECK(same_bits_on_any_threads([&](const Exec& exec) {
      rig.exec = exec, rig.refresh();
      const Gradients<S> g = backward(rig, dy);
      Matrix<S> all(1, g.a.size() + g.b.size() + g.m.size() + g.x.size());
      all << g.a.reshaped(1, g.a.size()), g.b.reshaped(1, g.b.size()), g.m, g.x.reshaped(1, g.x.size());
      return all;
    }));
    CHECK(same_bits_on_any_threads([&](const Exec& exec) { return rig.exec = exec, rig.forward(); }));
    CHECK(same_bits_on_any_threads([&](const Exec& exec) { return lora_change<S>(rig.lora, rig.weight, exec); }));
  }
}

TEST_CASE_TEMPLATE("dora: a row of zeros stays one, without a NaN", S, float, double) {
  Rig<S> rig({.dora = true}, 16);
  rig.dense.row(rig.lora.row_begin + 2).setZero();
  rig.b.row(2).setZero();
  rig.m(0, 2) = 0;
  rig.refresh();
  CHECK(rig.lora.norms->norm[2] == 0);
  const Matrix<S> y = rig.forward();
  CHECK(y.allFinite());
  CHECK(y.col(rig.lora.row_begin + 2).cwiseAbs().maxCoeff() == 0);
  const Matrix<S> dy = Dice(17).matrix<S>(rig.N, rig.all), u = rig.base();
  Matrix<S> da = Matrix<S>::Zero(rig.r, rig.I), db = Matrix<S>::Zero(rig.O, rig.r), dm = Matrix<S>::Zero(1, rig.O),
            dx = Matrix<S>::Zero(rig.N, rig.I);
  LoraGradients<S> views{view(da), view(db), view(dm)};
  lora_backward<S>(rig.lora, {}, {}, rig.x, rig.weight, {u.data(), u.rows(), u.cols()}, dy, dx, views, rig.workspace, rig.exec);
  CHECK(da.allFinite());
  CHECK(db.allFinite());
  CHECK(dm.allFinite());
  CHECK(dx.allFinite());
}

TEST_CASE("lora: weight zero is no adapter, in both directions") {
  for (const bool dora : {false, true}) {
    Rig<double> rig({.dora = dora, .weight = 0}, 18);
    CHECK(same_bits(rig.forward(), rig.base()));
    const Gradients<double> g = backward(rig, Matrix<double>(Dice(19).matrix<double>(rig.N, rig.all)));
    CHECK(g.a.norm() + g.b.norm() + g.m.norm() == 0);
  }
}

TEST_CASE("lora: what does not fit is said") {
  Rig<double> rig({.dora = true, .row_weights = true}, 20);
  rig.rows.pop_back();
  CHECK_THROWS_WITH_AS(rig.forward(), "lora: expected a weight for each of 5 rows, found 4", std::invalid_argument);
  rig.rows.clear();
  Matrix<double> y = rig.base();
  CHECK_THROWS_WITH_AS(lora_forward<double>(rig.lora, {}, {}, rig.x, {}, y, rig.workspace, {}),
                       "lora: DoRA needs the base's outputs, found none", std::invalid_argument);
  rig.lora.norms = std::make_shared<DoraNorms<double>>();
  CHECK_THROWS_WITH_AS(rig.forward(), "lora: expected norms of 6 rows from dora_refresh, found 0", std::invalid_argument);
  rig.lora.norms.reset();
  CHECK_THROWS_WITH_AS(dora_refresh<double>(rig.lora, rig.weight, {}),
                       "lora: dora_refresh expects an adapter with a magnitude and room for its norms, found none", std::invalid_argument);
}
