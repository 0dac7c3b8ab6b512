// Through one block. Legend: N tokens, C channels, F hidden width, H query heads, G key-value heads, D head width, T queries, U keys.
#include <cmath>
#include <functional>
#include <numeric>

#include "explain/backward_teller.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/loss.hpp"

namespace glassformer {
namespace {

// The columns of the largest numbers of one row, in their own order.
std::vector<Index> largest_columns(const Vector<double>& row, Index most) {
  std::vector<Index> columns(static_cast<std::size_t>(row.size()));
  std::iota(columns.begin(), columns.end(), Index{0});
  std::stable_sort(columns.begin(), columns.end(), [&](Index a, Index b) { return row(a) > row(b); });
  columns.resize(std::min(columns.size(), static_cast<std::size_t>(most)));
  std::sort(columns.begin(), columns.end());
  return columns;
}

// Rows [begin, begin + count) of a weight.
MatrixView<double> rows_of(const MatrixView<double>& w, Index begin, Index count) { return {w.data + begin * w.cols, count, w.cols}; }

Matrix<double> back(const Matrix<double>& dy, const MatrixView<double>& w, const Exec& exec) {
  Matrix<double> dx(dy.rows(), w.cols);
  ops::linear_backward_input<double>(dy, w, dx, exec);
  return dx;
}

}  // namespace

Matrix<double> BackwardTeller::norm_back(const NormParams<double>& ln, const Matrix<double>& x, const Matrix<double>& dy) const {
  Matrix<double> y(x.rows(), x.cols()), dx(x.rows(), x.cols());
  ops::NormStatistics<double> statistics;
  ops::norm_forward<double>(config().norm, x, ln.gain, ln.bias, config().norm_epsilon, y, statistics, p_.exec());
  ops::norm_backward<double>(config().norm, x, ln.gain, statistics, dy, dx, {}, {}, p_.exec());
  return dx;
}

// x̂ and dx̂ of the followed row, and the largest entry of the result written out_.
void BackwardTeller::norm_rows(const NormParams<double>& ln, const Matrix<double>& x, const Matrix<double>& dy,
                               const Matrix<double>& result) {
  const bool centred = config().norm == ops::Norm::layer;
  Matrix<double> y(x.rows(), x.cols());
  ops::NormStatistics<double> statistics;
  ops::norm_forward<double>(config().norm, x, ln.gain, ln.bias, config().norm_epsilon, y, statistics, p_.exec());
  const double r = statistics.inverse_deviation(row_);
  Matrix<double> normalized = x, slopes = dy;
  normalized.row(row_) = (x.row(row_).array() - statistics.mean(row_)) * r;
  slopes.row(row_) = dy.row(row_).cwiseProduct((*ln.gain).row(0));
  show_rows({{"x̂", normalized, false}, {"dx̂", slopes}}, columns_of(result));
  const double mean = centred ? slopes.row(row_).mean() : 0, along = slopes.row(row_).cwiseProduct(normalized.row(row_)).mean();
  const Index c = largest_column(result);
  const double by_hand = r * (slopes(row_, c) - mean - normalized(row_, c) * along);
  hold(by_hand, result(row_, c), std::max(std::abs(r * slopes(row_, c)), std::abs(result(row_, c))));
  const auto minus = [](double v) { return fmt::format("{} {}", v < 0 ? "+" : "-", digits(std::abs(v))); };
  say(fmt::format("r = {}, {}mean(dx̂ ⊙ x̂) = {}. By hand: dx{} = {}·({}{} {}·{}) = {}", digits(r),
                  centred ? fmt::format("mean(dx̂) = {}, ", digits(mean)) : "", digits(along), c, digits(r), digits(slopes(row_, c)),
                  centred ? " " + minus(mean) : "", minus(normalized(row_, c)), in_brackets(along), digits(by_hand)));
}

void BackwardTeller::half_out(const Half& h) {
  if (config().placement == NormPlacement::pre) {
    step(fmt::format("What the {} added", h.name), fmt::format("x ← x + {}: local derivative 1", h.part.substr(h.part.rfind('.') + 1)));
    say("A sum hands its gradient to both of its terms, unchanged.");
    const SiteCheck& c = check(h.part);
    show(c);
    hold(c.gradient, grad(h.out), largest(grad(h.out)));
    verdict(c);
    return;
  }
  step(fmt::format("The norm after the {}", h.name), fmt::format("x ← {}(x + {})", h.ln, h.part.substr(h.part.rfind('.') + 1)));
  say("Back through the norm first; then the sum hands its gradient to both of its terms, unchanged.");
  const SiteCheck& c = check(h.part);
  norm_rows(h.norm, value(h.in) + value(h.part), grad(h.out), c.gradient);
  show(c);
  verdict(c);
}

// The stream goes straight on and into f: its gradient is the sum of both.
void BackwardTeller::half_in(const Half& h, const Matrix<double>& read_grad) {
  const bool pre = config().placement == NormPlacement::pre;
  const Matrix<double> through = pre ? norm_back(h.norm, value(h.in), read_grad) : read_grad;
  if (pre) {
    step(fmt::format("Back through {}", h.ln), "the norm's line again");
    norm_rows(h.norm, value(h.in), read_grad, through);
  }
  step("Two paths meet", fmt::format("dx = dx straight on + dx through the {}", h.name));
  say(fmt::format(
      "The stream x at {} was read twice: by the sum, and by the {}. What is read twice gets both gradients. The straight path is "
      "why deep models can be trained: it has no factor that could vanish.",
      h.in, h.name));
  const SiteCheck& c = check(h.in);
  const Matrix<double>& straight = pre ? grad(h.out) : grad(h.part);
  hold(straight + through, c.gradient, std::max(largest(straight), largest(c.gradient)));
  show_rows({{"straight on", straight},
             {fmt::format("through the {}", h.name), through},
             {"sum: d, recorded", c.gradient},
             {"Δ, measured", c.differences}},
            columns_of(c.gradient));
  if (example_ && h.name == "attention") {
    say("Every token's row: the loss reaches the earlier ones only through their keys and values.");
    show_tokens(c);
  }
  verdict(c);
}

Matrix<double> BackwardTeller::mlp() {
  const bool gated = config().mlp == Mlp::swiglu;
  const MlpParams<double>& p = block().mlp;
  const std::string out_site = site("mlp_out"), post = site("mlp.post"), pre = site("mlp.pre");
  step("MLP, down", "y = post·Wᵀ (+ b), so dpost = dy·W");
  weight("Wdown", p.down.weight.dense);
  {
    const SiteCheck& c = check(post);
    show(c);
    write_linear("dpost", grad(out_site), p.down.weight.dense, c.gradient);
    verdict(c);
  }
  step("MLP, activation", gated                             ? "post = silu(gate) ⊙ up"
                          : config().mlp == Mlp::gelu_exact ? "gelu′(x) = Φ(x) + x·φ(x)"
                                                            : "dpre = dpost ⊙ gelu′(pre)");
  say(gated ? "Each number has two inputs: ∂post/∂up = silu(gate), ∂post/∂gate = up·silu′(gate). The first half of pre is the gate."
            : fmt::format("Each number goes its own way: the local derivative is the slope of the curve at the value that came in{}. Where "
                          "the slope is near 0, nothing is learned.",
                          config().mlp == Mlp::gelu_exact ? ", gelu′(x) = Φ(x) + x·φ(x)" : ""));
  {
    const SiteCheck& c = check(pre);
    // The engine's own derivative, by which a gradient of ones is multiplied.
    const Matrix<double> ones = Matrix<double>::Ones(value(post).rows(), value(post).cols());
    Matrix<double> slope(c.value.rows(), c.value.cols());
    if (gated) {
      ops::swiglu_backward<double>(c.value, ones, slope, p_.exec());
    } else {
      ops::activation_backward<double>(config().mlp == Mlp::gelu_exact ? ops::Activation::gelu_exact : ops::Activation::gelu_tanh, c.value,
                                       ones, slope, p_.exec());
    }
    show_rows(
        {{"value: pre", c.value, false}, {"local derivative", slope, false}, {"d, recorded", c.gradient}, {"Δ, measured", c.differences}},
        columns_of(c.gradient));
    const Index i = largest_column(c.gradient), F = value(post).cols();
    write_sum(fmt::format("dpre{}", i), {{grad(post)(row_, i % F), slope(row_, i)}}, c.gradient(row_, i));
    verdict(c);
  }
  const Matrix<double> read = back(grad(pre), p.up.weight.dense, p_.exec());
  step("MLP, up", "pre = y·Wᵀ (+ b), so dy = dpre·W");
  weight("Wup", p.up.weight.dense);
  if (config().placement == NormPlacement::pre) {
    const SiteCheck& c = check(site("ln2.normalized"), -1, read);
    show(c);
    write_linear("dy", grad(pre), p.up.weight.dense, c.gradient);
    verdict(c);
  } else {
    write_linear("dy", grad(pre), p.up.weight.dense, read);
  }
  return read;
}

Matrix<double> BackwardTeller::attention() {
  output_projection();
  values();
  softmax();
  queries_and_keys();
  if (config().position == Position::rope) rotation();
  return projections();
}

void BackwardTeller::output_projection() {
  step("Attention, output", "y = z·Woᵀ (+ b), so dz = dy·Wo");
  weight("Wo", block().attention.out.weight.dense);
  const SiteCheck& c = check(site("attn.z"));
  show(c);
  write_linear("dz", grad(site("attn_out")), block().attention.out.weight.dense, c.gradient);
  verdict(c);
}

void BackwardTeller::values() {
  const Index D = config().head_dim, group = config().heads / config().kv_heads;
  step("Attention, values", "z_t = Σᵤ P_tu·vᵤ, so dvᵤ = Σₜ P_tu·dz_t");
  say(fmt::format("∂z_t/∂vᵤ = P_tu: a value gets back a share of each query that looked at it, as large as the look{}.",
                  group > 1 ? fmt::format(", from each of the {} query heads that read it", group) : ""));
  const SiteCheck& c = check(site("attn.v"));
  if (example_) {
    put(story::Grid{.key = "",
                    .values = p_.value(site("attn.pattern"), q_.head),
                    .rows = token_labels(text_),
                    .columns = numbered("P, key ", p_.tokens())});
    show_tokens(c);
  } else {
    show(c);
  }
  const Index i = largest_column(c.gradient);
  std::vector<std::pair<double, double>> terms;
  for (Index h = i / D * group; h < (i / D + 1) * group; ++h) {
    const Matrix<double>& P = p_.value(site("attn.pattern"), h);
    for (Index t = 0; t < p_.tokens(); ++t) {
      if (P(t, row_) != 0) terms.emplace_back(P(t, row_), grad(site("attn.z"))(t, h * D + i % D));
    }
  }
  write_sum(fmt::format("dv{} of {}", i, quoted_token(text_, row_)), terms, c.gradient(row_, i));
  verdict(c);
}

void BackwardTeller::softmax() {
  const Index D = config().head_dim, T = p_.tokens(), g = q_.head / (config().heads / config().kv_heads);
  const Matrix<double>& P = p_.value(site("attn.pattern"), q_.head);
  const Matrix<double> dz = grad(site("attn.z")).middleCols(q_.head * D, D), v = value(site("attn.v")).middleCols(g * D, D);
  Matrix<double> dP(T, T), dA(T, T);
  ops::multiply_nt<double>(1, dz, v, 0, dP, p_.exec());
  ops::softmax_backward<double>(P, dP, dA, p_.exec());

  step(fmt::format("Attention, pattern of head {}", q_.head), "dP_tu = dz_t·vᵤ");
  say("∂z_t/∂P_tu = vᵤ. How much the loss would like a weight to grow, were it free to: the gradient of z, seen along the value.");
  {
    const SiteCheck& c = check(site("attn.pattern"), q_.head, dP);
    show(c);
    const Index u = largest_column(dP);
    std::vector<std::pair<double, double>> terms;
    for (Index d = 0; d < D; ++d) terms.emplace_back(dz(row_, d), v(u, d));
    write_sum(fmt::format("dP{}", u), terms, dP(row_, u));
    verdict(c);
  }

  step(fmt::format("Attention, softmax of head {}", q_.head), "∂pᵤ/∂sⱼ = pᵤ·(δᵤⱼ − pⱼ)");
  std::vector<Index> keys = largest_columns(P.row(row_), example_ ? T : q_.entries);
  say(
      fmt::format("Weights must add up to 1, so raising one score lowers all other weights. The Jacobian of the row of {}{}; then "
                  "dsⱼ = Σᵤ dpᵤ·∂pᵤ/∂sⱼ = pⱼ·(dpⱼ − Σᵤ dpᵤ·pᵤ):",
                  quoted_token(text_, row_), static_cast<Index>(keys.size()) < T ? fmt::format(", {} keys of {}", keys.size(), T) : ""));
  const Index n = static_cast<Index>(keys.size());
  Matrix<double> jacobian(n, n);
  std::vector<std::string> rows, columns;
  for (Index i = 0; i < n; ++i) {
    const Index u = keys[static_cast<std::size_t>(i)];
    rows.push_back(fmt::format("∂p of {}", token_labels(text_, 8)[static_cast<std::size_t>(u)]));
    columns.push_back(fmt::format("∂s{}", u));
    for (Index j = 0; j < n; ++j) {
      const Index s = keys[static_cast<std::size_t>(j)];
      jacobian(i, j) = P(row_, u) * ((u == s ? 1 : 0) - P(row_, s));
    }
  }
  if (sees_one_key())
    say("This token sees one key alone: there is nothing to choose, so every derivative is zero.");
  put(story::Grid{.key = "jacobian", .values = jacobian, .rows = rows, .columns = columns, .max_rows = 12, .label_width = 20});
  const SiteCheck& c = check(site("attn.attn_scores"), q_.head, dA);
  show_rows({{"score", c.value, false}, {"p", P, false}, {"dp", dP}, {"ds", c.gradient}, {"Δ, measured", c.differences}},
            columns_of(c.gradient));
  const Index u = largest_column(dA);
  std::vector<std::pair<double, double>> terms;
  for (Index j = 0; j < T; ++j) {
    if (P(row_, j) != 0) terms.emplace_back(dP(row_, j), P(row_, j) * ((u == j ? 1 : 0) - P(row_, u)));
  }
  write_sum(fmt::format("ds{}", u), terms, dA(row_, u), 1, largest(dP.row(row_)));
  verdict(c);
}

bool BackwardTeller::sees_one_key() const { return (p_.value(site("attn.pattern"), q_.head).row(row_).array() != 0).count() == 1; }

void BackwardTeller::queries_and_keys() {
  const bool turned = config().position == Position::rope;
  const Index D = config().head_dim, T = p_.tokens(), group = config().heads / config().kv_heads;
  const std::string q_site = site(turned ? "attn.rot_q" : "attn.q"), k_site = site(turned ? "attn.rot_k" : "attn.k");
  step(fmt::format("Attention, queries and keys{}", turned ? ", turned" : ""), "s_tu = q_t·kᵤ/√D, so dq_t = Σᵤ ds_tu·kᵤ/√D");
  say("A product hands each factor the other one: dq_t = Σᵤ ds_tu·kᵤ/√D, dkᵤ = Σₜ ds_tu·q_t/√D.");
  const Matrix<double>& q = value(q_site);
  const Matrix<double>& k = value(k_site);
  // ds of one head again, by the engine's own operations. Where it cancels to zero (one key only), kernels leave rounding of `size`.
  double size = 0;
  const auto scores_grad = [&](Index h) {
    Matrix<double> dP(T, T), dA(T, T);
    ops::multiply_nt<double>(1, grad(site("attn.z")).middleCols(h * D, D), value(site("attn.v")).middleCols(h / group * D, D), 0, dP,
                             p_.exec());
    ops::softmax_backward<double>(p_.value(site("attn.pattern"), h), dP, dA, p_.exec());
    size = std::max(size, largest(dP) * std::max(largest(q), largest(k)) * block().attention.config.core.scale);
    return dA;
  };
  const double scale = block().attention.config.core.scale;
  {
    const SiteCheck& c = check(q_site);
    show(c);
    if (sees_one_key()) say("This token sees one key alone, so its query chooses nothing: its gradient is zero but for rounding.");
    const Index i = largest_column(c.gradient), h = i / D;
    const Matrix<double> dA = scores_grad(h);
    std::vector<std::pair<double, double>> terms;
    for (Index u = 0; u < T; ++u) {
      if (dA(row_, u) != 0) terms.emplace_back(dA(row_, u), k(u, h / group * D + i % D));
    }
    write_sum(fmt::format("dq{}", i), terms, c.gradient(row_, i), scale, size);
    verdict(c);
  }
  say("And the keys:");
  const SiteCheck& c = check(k_site);
  example_ ? show_tokens(c) : show(c);
  const Index i = largest_column(c.gradient);
  std::vector<std::pair<double, double>> terms;
  for (Index h = i / D * group; h < (i / D + 1) * group; ++h) {
    const Matrix<double> dA = scores_grad(h);
    for (Index t = 0; t < T; ++t) {
      if (dA(t, row_) != 0) terms.emplace_back(dA(t, row_), q(t, h * D + i % D));
    }
  }
  write_sum(fmt::format("dk{} of {}", i, quoted_token(text_, row_)), terms, c.gradient(row_, i), scale, size);
  verdict(c);
}

void BackwardTeller::rotation() {
  step("Turned back (RoPE)", "y = R(φ)·x, so dx = R(−φ)·dy");
  say("A rotation's derivative is the rotation; backward it turns the other way. Lengths stay.");
  for (const char* name : {"attn.q", "attn.k"}) {
    const SiteCheck& c = check(site(name));
    show(c);
    verdict(c);
  }
}

Matrix<double> BackwardTeller::projections() {
  const Index HD = config().heads * config().head_dim, GD = config().kv_heads * config().head_dim;
  const MatrixView<double>& w = block().attention.qkv.weight.dense;
  const Matrix<double>&dq = grad(site("attn.q")), &dk = grad(site("attn.k")), &dv = grad(site("attn.v"));
  Matrix<double> dqkv(dq.rows(), HD + 2 * GD);
  dqkv << dq, dk, dv;
  const Matrix<double> read = back(dqkv, w, p_.exec());
  step("Attention, projections", "dy = dq·Wq + dk·Wk + dv·Wv");
  say("What attention read was read three times, so three gradients add up.");
  weight("Wqkv", w);
  const std::vector<Matrix<double>> ways = {back(dq, rows_of(w, 0, HD), p_.exec()), back(dk, rows_of(w, HD, GD), p_.exec()),
                                            back(dv, rows_of(w, HD + GD, GD), p_.exec())};
  hold(ways[0] + ways[1] + ways[2], read, std::max({largest(ways[0]), largest(ways[1]), largest(ways[2]), largest(read)}));
  if (config().placement == NormPlacement::pre) {
    const SiteCheck& c = check(site("ln1.normalized"), -1, read);
    show_rows({{"through q", ways[0]}, {"through k", ways[1]}, {"through v", ways[2]}, {"sum: d", read}, {"Δ, measured", c.differences}},
              columns_of(read));
    write_linear("dy", dqkv, w, read);
    verdict(c);
  } else {
    show_rows({{"through q", ways[0]}, {"through k", ways[1]}, {"through v", ways[2]}, {"sum: d", read}}, columns_of(read));
    write_linear("dy", dqkv, w, read);
  }
  return read;
}

void BackwardTeller::weights() {
  const bool pre = config().placement == NormPlacement::pre;
  step("The weights", "y = x·Wᵀ, so dW_oi = Σₙ dy_no·x_ni");
  say("On the way each weight got its own gradient: its input times the gradient of its output, summed over all tokens, for all of them "
      "used "
      "it. The optimizer reads only these. The largest of each matrix of the block (Δ: a weight changed by h changes y_no by h·x_ni):");
  const Matrix<double>&dq = grad(site("attn.q")), &dk = grad(site("attn.k")), &dv = grad(site("attn.v"));
  Matrix<double> dqkv(dq.rows(), dq.cols() + dk.cols() + dv.cols());
  dqkv << dq, dk, dv;
  story::Table table{"weights", {"matrix", "o", "i", "weight", "d", "Δ"}, {}};
  const auto tell = [&](const char* name, const Matrix<double>& dy, const Matrix<double>& x,
                        const std::function<std::string(Index)>& seen_at) {
    const std::string full = site(name) + ".weight";
    const MatrixView<double> dw = p_.parameter_gradients().arena.view(full);
    Index o = 0, i = 0;
    (*dw).cwiseAbs().maxCoeff(&o, &i);
    std::vector<std::pair<double, double>> terms;
    for (Index n = 0; n < dy.rows(); ++n) {
      if (dy(n, o) != 0) terms.emplace_back(dy(n, o), x(n, i));
    }
    write_sum(fmt::format("{} [{}, {}]", name, o, i), terms, (*dw)(o, i));
    checks_.push_back(p_.check_weight(full, site(seen_at(o)), o, x, i));
    const SiteCheck& c = checks_.back();
    table.rows.push_back(
        {full, fmt::format("{}", o), fmt::format("{}", i), digits(c.value(0, 0)), digits(c.gradient(0, 0)), digits(c.differences(0, 0))});
  };
  if (config().mlp != Mlp::none) {
    tell("mlp.down", grad(site("mlp_out")), value(site("mlp.post")), [](Index) { return "mlp_out"; });
    tell("mlp.up", grad(site("mlp.pre")), value(site(pre ? "ln2.normalized" : "resid_mid")), [](Index) { return "mlp.pre"; });
  }
  tell("attn.out", grad(site("attn_out")), value(site("attn.z")), [](Index) { return "attn_out"; });
  tell("attn.qkv", dqkv, value(site(pre ? "ln1.normalized" : "resid_pre")), [&](Index o) {
    return o < dq.cols() ? "attn.q" : o < dq.cols() + dk.cols() ? "attn.k" : "attn.v";
  });
  put(std::move(table));
}

}  // namespace glassformer
