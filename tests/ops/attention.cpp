#include <doctest/doctest.h>

#include <set>

#include "../support/check.hpp"
#include "glassformer/ops/attention_core.hpp"

using namespace glassformer;
using namespace glassformer::test;

namespace {

struct Lengths {
  Index queries, keys;
};

// Tensors [rows, heads, D] of several sequences, as the model lays them out: heads are strided columns, or (keys and values in a cache)
// [heads, capacity, D]. What lies between them must stay as it was.
template <class S>
struct Tensors {
  Index heads, head_dim;
  bool head_major;
  std::vector<Index> rows;
  std::vector<Matrix<S>> memory;

  Tensors(std::vector<Index> rows_, Index heads_, Index head_dim_, bool head_major_, S fill)
      : heads(heads_), head_dim(head_dim_), head_major(head_major_), rows(std::move(rows_)) {
    for (const Index n : rows) {
      memory.push_back(head_major ? Matrix<S>(Matrix<S>::Constant(heads * (n + 3), head_dim, S(-777)))
                                  : Matrix<S>(Matrix<S>::Constant(n, heads * head_dim + 5, S(-777))));
    }
    for_each([&](S& x) { x = fill; });
  }
  ops::Heads<S> at(std::size_t i) {
    if (head_major) return {memory[i].data(), head_dim, (rows[i] + 3) * head_dim};
    return {memory[i].data() + 2, heads * head_dim + 5, head_dim};
  }
  ops::Heads<const S> const_at(std::size_t i) {
    const ops::Heads<S> x = at(i);
    return {x.data, x.token_stride, x.head_stride};
  }
  template <class F>
  void for_each(F&& f) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (Index n = 0; n < rows[i]; ++n) {
        for (Index h = 0; h < heads; ++h) {
          for (Index d = 0; d < head_dim; ++d) f(at(i).at(n, h)[d]);
        }
      }
    }
  }
  void randomize(Dice& dice, double deviation = 1) {
    for_each([&](S& x) { x = static_cast<S>(deviation * dice.normal()); });
  }
  Matrix<S> value() {  // all of it in one row
    std::vector<S> all;
    for_each([&](S& x) { all.push_back(x); });
    return Eigen::Map<Vector<S>>(all.data(), static_cast<Index>(all.size()));
  }
  std::vector<S*> pointers() {
    std::vector<S*> all;
    for_each([&](S& x) { all.push_back(&x); });
    return all;
  }
  bool gaps_intact() const {
    Tensors copy = *this;
    copy.for_each([](S& x) { x = S(-777); });
    return std::all_of(copy.memory.begin(), copy.memory.end(), [](const Matrix<S>& m) { return (m.array() == S(-777)).all(); });
  }
};

template <class S>
struct Outcome {
  Matrix<S> z, logsumexp, dq, dk, dv;
};

template <class S>
struct Problem {
  ops::AttentionShape shape;
  std::vector<Lengths> lengths;
  Tensors<S> q, k, v, dz;

  Problem(ops::AttentionShape shape_, std::vector<Lengths> lengths_, bool cached, Dice& dice, double deviation = 1)
      : shape(std::move(shape_)),
        lengths(std::move(lengths_)),
        q(counts(true), shape.heads, shape.head_dim, false, 0),
        k(counts(false), shape.kv_heads, shape.head_dim, cached, 0),
        v(counts(false), shape.kv_heads, shape.head_dim, cached, 0),
        dz(counts(true), shape.heads, shape.head_dim, false, 0) {
    shape.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    q.randomize(dice, deviation), k.randomize(dice, deviation), v.randomize(dice), dz.randomize(dice);
  }
  std::vector<Index> counts(bool queries) const {
    std::vector<Index> n;
    for (const Lengths& l : lengths) n.push_back(queries ? l.queries : l.keys);
    return n;
  }

  // z and logsumexp, and the gradients unless `forward_only`; every output begins as NaN.
  Outcome<S> run(const Exec& exec, const ops::AttentionWatch<S>& watch = {}, bool forward_only = false) {
    const S nan = std::numeric_limits<S>::quiet_NaN();
    Tensors<S> z(q.rows, q.heads, q.head_dim, false, nan), dq = z;
    Tensors<S> dk(k.rows, k.heads, k.head_dim, k.head_major, nan), dv = dk;
    Index rows = 0;
    for (const Lengths& l : lengths) rows += l.queries * shape.heads;
    Outcome<S> out;
    out.logsumexp = Matrix<S>::Constant(1, rows, nan);
    std::vector<ops::AttentionSequence<S>> sequences;
    std::vector<ops::AttentionGradients<S>> gradients;
    Index at = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      sequences.push_back(
          {lengths[i].queries, lengths[i].keys, q.const_at(i), k.const_at(i), v.const_at(i), z.at(i), out.logsumexp.data() + at});
      gradients.push_back({dz.const_at(i), dq.at(i), dk.at(i), dv.at(i)});
      at += lengths[i].queries * shape.heads;
    }
    ops::attention_core_forward<S>(shape, sequences, watch, exec);
    out.z = z.value();
    CHECK(z.gaps_intact());
    if (forward_only) return out;
    ops::attention_core_backward<S>(shape, sequences, gradients, watch, exec);
    out.dq = dq.value(), out.dk = dk.value(), out.dv = dv.value();
    CHECK((dq.gaps_intact() && dk.gaps_intact() && dv.gaps_intact()));
    return out;
  }
};

ops::AttentionShape shape_of(Index heads, Index kv_heads, Index head_dim, bool causal, Index window, bool alibi, double dropout) {
  ops::AttentionShape shape;
  shape.heads = heads, shape.kv_heads = kv_heads, shape.head_dim = head_dim, shape.causal = causal, shape.window = window;
  for (Index h = 1; alibi && h <= heads; ++h) shape.slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(heads)));
  shape.dropout = {dropout, RandomStream{3, 4}};
  return shape;
}

template <class S>
Matrix<S> joined(const Outcome<S>& o) {
  Matrix<S> all(1, o.z.size() + o.logsumexp.size() + o.dq.size() + o.dk.size() + o.dv.size());
  all << o.z, o.logsumexp, o.dq, o.dk, o.dv;
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("attention by hand: one head, two places, causal", S, float, double) {
  for (const Kernels kernels : all_kernels) {
    ops::AttentionShape shape;
    shape.head_dim = 2, shape.scale = 1;
    // q₁·k₀ = 0 and q₁·k₁ = ln 3: the second query puts 1/4 on the first value and 3/4 on the second.
    const std::vector<S> q{9, 9, S(std::log(3.0)), 0}, k{0, 1, 1, 0}, v{4, 0, 8, 100};
    std::vector<S> z(4, S(-777)), logsumexp(2, S(-777));
    const std::vector<ops::AttentionSequence<S>> sequences{
        {2, 2, {q.data(), 2, 2}, {k.data(), 2, 2}, {v.data(), 2, 2}, {z.data(), 2, 2}, logsumexp.data()}};
    ops::attention_core_forward<S>(shape, sequences, {}, exec_of(kernels));
    CHECK(z[0] == doctest::Approx(4));
    CHECK(z[1] == doctest::Approx(0));
    CHECK(z[2] == doctest::Approx(7));
    CHECK(z[3] == doctest::Approx(75));
    CHECK(logsumexp[0] == doctest::Approx(9));
    CHECK(logsumexp[1] == doctest::Approx(std::log(4.0)));
    shape.slopes = {std::log(2.0)};  // ALiBi: the key one place back loses ln 2, so 1/7 and 6/7
    ops::attention_core_forward<S>(shape, sequences, {}, exec_of(kernels));
    CHECK(z[2] == doctest::Approx(4.0 / 7 + 48.0 / 7));
    shape.window = 1;  // only itself
    ops::attention_core_forward<S>(shape, sequences, {}, exec_of(kernels));
    CHECK(z[2] == doctest::Approx(8));
    CHECK(z[3] == doctest::Approx(100));
  }
}

TEST_CASE("attention: gradients against central differences, every combination of the axes") {
  Dice dice(51);
  for (const bool causal : {true, false}) {
    for (const Index window : {0, 2}) {
      for (const bool alibi : {false, true}) {
        for (const Index kv_heads : {4, 2, 1}) {
          for (const double dropout : {0.0, 0.3}) {
            for (const bool cached : {false, true}) {  // T < U, keys and values head by head
              const std::vector<Lengths> lengths = cached ? std::vector<Lengths>{{2, 5}, {1, 3}} : std::vector<Lengths>{{3, 3}, {1, 1}};
              Problem<double> problem(shape_of(4, kv_heads, 3, causal, window, alibi, dropout), lengths, cached, dice);
              const Outcome<double> reference = problem.run(exec_of(Kernels::reference)), fused = problem.run(Exec{});
              const Matrix<double> dz = problem.dz.value();
              const auto loss = [&] { return problem.run(exec_of(Kernels::reference), {}, true).z.cwiseProduct(dz).sum(); };
              INFO("causal ", causal, " window ", window, " alibi ", alibi, " kv_heads ", kv_heads, " dropout ", dropout, " cached ",
                   cached);
              const Vector<double> dq = numeric_gradient(problem.q.pointers(), loss), dk = numeric_gradient(problem.k.pointers(), loss),
                                   dv = numeric_gradient(problem.v.pointers(), loss);
              CHECK(relative_error(reference.dq, dq) < 1e-6);
              CHECK(relative_error(reference.dk, dk) < 1e-6);
              CHECK(relative_error(reference.dv, dv) < 1e-6);
              CHECK(relative_error(fused.dq, dq) < 1e-6);
              CHECK(relative_error(fused.dk, dk) < 1e-6);
              CHECK(relative_error(fused.dv, dv) < 1e-6);
            }
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: fused equals the formula on odd shapes; the same bits on any threads", S, float, double) {
  Dice dice(52);
  for (int trial = 0; trial < 60; ++trial) {
    const Index kv_heads = dice.between(1, 3), heads = kv_heads * dice.between(1, 3), D = dice.between(1, 80);
    const bool cached = dice.between(0, 1), causal = dice.between(0, 3) > 0;
    const Index window = dice.between(0, 2) == 0 ? dice.between(1, 90) : 0;
    std::vector<Lengths> lengths;
    for (Index i = dice.between(1, 3); i > 0; --i) {
      const Index T = dice.between(0, 3) == 0 ? 1 : dice.between(1, 150);
      lengths.push_back({T, cached ? T + dice.between(0, 150) : T});
    }
    Problem<S> problem(shape_of(heads, kv_heads, D, causal, window, dice.between(0, 1), dice.between(0, 2) == 0 ? 0.2 : 0.0), lengths,
                       cached, dice);
    const Outcome<S> expected = problem.run(exec_of(Kernels::reference)), found = problem.run(Exec{});
    INFO("trial ", trial, " H ", heads, " G ", kv_heads, " D ", D, " causal ", causal, " window ", window, " ALiBi ",
         !problem.shape.slopes.empty(), " dropout ", problem.shape.dropout.rate, " cached ", cached, " T ", lengths[0].queries, " U ",
         lengths[0].keys);
    // Three sums stand behind one another, and dA = P ⊙ (dP − Σ dP ⊙ P) cancels: a few times a single product's rounding.
    const double tolerance = 3 * kernel_tolerance<S>();
    CHECK(relative_error(expected.z, found.z) < tolerance);
    CHECK(relative_error(expected.logsumexp, found.logsumexp) < tolerance);
    // Where every query sees only itself the probabilities are 1 and dq, dk are rounding alone: measured against dz·v's size instead.
    const double size = static_cast<double>(problem.dz.value().norm());
    CHECK((expected.dq - found.dq).norm() < tolerance * (static_cast<double>(expected.dq.norm()) + size));
    CHECK((expected.dk - found.dk).norm() < tolerance * (static_cast<double>(expected.dk.norm()) + size));
    CHECK(relative_error(expected.dv, found.dv) < tolerance);
    CHECK(same_bits_on_any_threads([&](const Exec& exec) { return joined(problem.run(exec)); }));
  }
}

TEST_CASE_TEMPLATE("attention: scores of hundreds stay finite and right", S, float, double) {
  Dice dice(53);
  Problem<S> problem(shape_of(2, 1, 16, true, 0, false, 0), {{90, 90}}, false, dice, 25);
  const Outcome<S> expected = problem.run(exec_of(Kernels::reference)), found = problem.run(Exec{});
  CHECK(joined(found).allFinite());
  CHECK(relative_error(expected.z, found.z) < 300 * kernel_tolerance<S>());  // a score of 1000 is off by ε·1000 in float
  CHECK(relative_error(expected.dv, found.dv) < 300 * kernel_tolerance<S>());
}

TEST_CASE_TEMPLATE("attention: a sequence gives the same bits alone and beside others while decoding", S, float, double) {
  Dice dice(54);
  const std::vector<Lengths> lengths{{1, 37}, {1, 130}, {1, 1}, {3, 64}};
  Problem<S> together(shape_of(4, 2, 24, true, 0, false, 0), lengths, true, dice);
  const Matrix<S> z = together.run(Exec{}, {}, true).z;
  Index at = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    Problem<S> alone = together;
    alone.lengths = {lengths[i]};
    for (Tensors<S>* t : {&alone.q, &alone.k, &alone.v, &alone.dz}) t->rows = {t->rows[i]}, t->memory = {t->memory[i]};
    const Matrix<S> expected = alone.run(Exec{}, {}, true).z;
    CHECK(same_bits(expected, z.middleCols(at, expected.cols())));
    at += expected.cols();
  }
  CHECK(at == z.cols());
}

TEST_CASE_TEMPLATE("a watch sees every score, masked ones as −∞, and changes nothing by looking", S, float, double) {
  Dice dice(55);
  Problem<S> problem(shape_of(4, 2, 8, true, 3, true, 0.1), {{5, 5}, {4, 7}}, true, dice);
  std::set<std::pair<Index, Index>> scores_seen, patterns_seen;
  bool masked_right = true, sums_right = true;
  ops::AttentionWatch<S> watch;
  watch.scores = [&](Index sequence, Index head, MatrixRef<S> a) {
    scores_seen.insert({sequence, head});
    const Lengths& l = problem.lengths[static_cast<std::size_t>(sequence)];
    REQUIRE((a.rows() == l.queries && a.cols() == l.keys));
    for (Index t = 0; t < a.rows(); ++t) {
      for (Index u = 0; u < a.cols(); ++u)
        masked_right &= (a(t, u) == -std::numeric_limits<S>::infinity()) == !problem.shape.sees(l.keys - l.queries + t, u);
    }
  };
  watch.pattern = [&](Index sequence, Index head, MatrixRef<S> p) {
    patterns_seen.insert({sequence, head});
    for (Index t = 0; t < p.rows(); ++t) sums_right &= std::abs(static_cast<double>(p.row(t).sum()) - 1) < 1e-5;
  };
  const Matrix<S> watched = joined(problem.run(Exec{}, watch)), unwatched = joined(problem.run(Exec{}));
  CHECK(scores_seen.size() == 8);
  CHECK(scores_seen == patterns_seen);
  CHECK(masked_right);
  CHECK(sums_right);
  CHECK(relative_error(watched, unwatched) < 3 * kernel_tolerance<S>());
}

TEST_CASE("a watch's edits are honoured forward and backward") {
  Dice dice(56);
  Problem<double> problem(shape_of(2, 2, 4, true, 0, false, 0), {{6, 6}}, false, dice);
  const Outcome<double> plain = problem.run(Exec{});
  ops::AttentionWatch<double> ablate, hide;
  ablate.pattern = [](Index, Index head, MatrixRef<double> p) {
    if (head == 1) p.setZero();
  };
  const auto head = [](const Matrix<double>& x, Index h) {  // the head's columns of [6, 2, 4]
    return Matrix<double>(Eigen::Map<const Matrix<double>>(x.data(), 6, 8).middleCols(4 * h, 4));
  };
  Outcome<double> out = problem.run(Exec{}, ablate);
  for (const auto& [found, before] : {std::pair{&out.z, &plain.z}, {&out.dq, &plain.dq}, {&out.dk, &plain.dk}, {&out.dv, &plain.dv}}) {
    CHECK(head(*found, 1).isZero(0));
    CHECK(relative_error(head(*found, 0), head(*before, 0)) < 1e-12);
    CHECK_FALSE(head(*before, 1).isZero(1e-3));
  }

  // Hiding key 2 from the queries after it: the gradients are those of the function so changed.
  hide.scores = [](Index, Index, MatrixRef<double> a) { a.col(2).tail(3).setConstant(-std::numeric_limits<double>::infinity()); };
  out = problem.run(Exec{}, hide);
  const Matrix<double> dz = problem.dz.value();
  const auto loss = [&] { return problem.run(Exec{}, hide, true).z.cwiseProduct(dz).sum(); };
  CHECK(relative_error(out.dq, numeric_gradient(problem.q.pointers(), loss)) < 1e-6);
  CHECK(relative_error(out.dk, numeric_gradient(problem.k.pointers(), loss)) < 1e-6);
  CHECK(relative_error(out.dv, numeric_gradient(problem.v.pointers(), loss)) < 1e-6);
  CHECK(relative_error(out.z, plain.z) > 1e-3);
}

TEST_CASE("attention without a place for log-sum-exp gives the same z") {
  Dice dice(57);
  Problem<float> problem(shape_of(2, 1, 16, true, 0, false, 0), {{70, 70}}, false, dice);
  const Matrix<float> expected = problem.run(Exec{}, {}, true).z;
  Tensors<float> z(problem.q.rows, 2, 16, false, std::numeric_limits<float>::quiet_NaN());
  const std::vector<ops::AttentionSequence<float>> sequences{
      {70, 70, problem.q.const_at(0), problem.k.const_at(0), problem.v.const_at(0), z.at(0), nullptr}};
  ops::attention_core_forward<float>(problem.shape, sequences, {}, Exec{});
  CHECK(same_bits(z.value(), expected));
}

TEST_CASE("attention names shapes that cannot be") {
  Dice dice(58);
  for (const Kernels kernels : all_kernels) {
    Problem<double> uneven(shape_of(4, 2, 3, true, 0, false, 0), {{2, 2}}, false, dice);
    uneven.shape.kv_heads = 3;
    CHECK_THROWS_AS(uneven.run(exec_of(kernels)), std::invalid_argument);
    Problem<double> too_many(shape_of(2, 2, 3, true, 0, false, 0), {{4, 4}}, false, dice);
    too_many.lengths[0].keys = 3;
    CHECK_THROWS_AS(too_many.run(exec_of(kernels)), std::invalid_argument);
  }
}
