#include "explain/backward_pass.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "glassformer/core/random.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/explain/gradient_check.hpp"

namespace glassformer {
namespace {

// Wanting these would make the engine choose its formulas instead of its fused kernels.
bool changes_kernel(std::string_view site) {
  return site.ends_with("attn.attn_scores") || site.ends_with("attn.pattern") || site.ends_with("attn.z");
}

// Shows the pass to whoever plants a mistake, then keeps what is left.
class Witness : public Trace<double> {
 public:
  Witness(Trace<double>* other, Recorder<double>& recorder, bool kernel_sites)
      : other_(other), recorder_(recorder), kernel_sites_(kernel_sites) {}
  bool wants(std::string_view site) const override { return changes_kernel(site) == kernel_sites_ || (other_ && other_->wants(site)); }
  void visit(const Site& site, MatrixRef<double> value) override {
    if (other_ && other_->wants(site.name)) other_->visit(site, value);
    recorder_.visit(site, value);
  }

 private:
  Trace<double>* other_;
  Recorder<double>& recorder_;
  bool kernel_sites_;
};

// x ← x + offset·direction at one site
class Nudge : public Trace<double> {
 public:
  Nudge(const std::string& site, Index head, const Matrix<double>& direction) : site_(site), head_(head), direction_(direction) {}
  double offset = 0;
  bool wants(std::string_view site) const override { return site == site_; }
  void visit(const Site& site, MatrixRef<double> x) override {
    if (site.head == head_) x += offset * direction_;
  }

 private:
  const std::string& site_;
  Index head_;
  const Matrix<double>& direction_;
};

// Of what is finite: a masked score has no size. 1 for zeros.
double root_mean_square(const Matrix<double>& x) {
  double sum = 0;
  Index count = 0;
  for (Index i = 0; i < x.size(); ++i) {
    const double v = x.data()[i];
    if (std::isfinite(v)) sum += v * v, ++count;
  }
  return sum == 0 ? 1 : std::sqrt(sum / static_cast<double>(count));
}

// ‖a − n‖/(‖a‖ + ‖n‖), and whether that says anything beside the noise of differences.
struct Comparison {
  double difference = 0, analytic = 0, numeric = 0;  // squares
  Index count = 0;
  void add(double a, double n) { difference += (a - n) * (a - n), analytic += a * a, numeric += n * n, ++count; }
  double size() const { return std::sqrt(analytic) + std::sqrt(numeric); }
  double error() const { return size() == 0 ? 0 : std::sqrt(difference) / size(); }
  bool zero(double noise) const { return size() <= noise * std::sqrt(static_cast<double>(count)); }
  bool agrees(double noise) const {
    return std::sqrt(difference) <= kGradientTolerance * size() + noise * std::sqrt(static_cast<double>(count));
  }
  // So small that the relative error is one of noise, not of the gradient: zero, or it agrees by its noise alone.
  bool unseen(double noise) const { return zero(noise) || (agrees(noise) && error() > kGradientTolerance); }
  double seen_error(double noise) const { return unseen(noise) ? 0 : error(); }
};

}  // namespace

BackwardPass::BackwardPass(const Decoder<double>& m, std::vector<Token> ids, std::vector<Token> targets, const BackwardQuestion& question)
    : model_(m),
      ids_(std::move(ids)),
      targets_(std::move(targets)),
      starts_{0, static_cast<Index>(ids_.size())},
      question_(question),
      scored_(std::ranges::count_if(targets_, [](Token t) { return t >= 0; })),
      grads_(make_gradients(m)) {
  require(question.step > 0 && question.step < 0.1, "step: expected a number above 0 and below 0.1, found {}", question.step);
  require(question.entries > 0, "entries: expected at least one, found {}", question.entries);
  Workspace workspace;
  Pass<double> pass;
  pass.exec = question.exec, pass.starts = starts_, pass.workspace = &workspace;
  DecoderSaved<double> saved;
  Witness witness(question.trace, seen_, false);
  pass.trace = &witness;
  loss_ = decoder_loss<double>(m, pass, ids_, targets_, &saved, &grads_, 1 / static_cast<double>(scored_)).mean();
  Witness of_kernels(nullptr, watched_, true);
  loss_with(&of_kernels);
}

double BackwardPass::loss_with(Trace<double>* trace) const {
  Workspace workspace;
  Pass<double> pass;
  pass.exec = question_.exec, pass.starts = starts_, pass.workspace = &workspace, pass.trace = trace;
  return decoder_loss<double>(model_, pass, ids_, targets_, nullptr, nullptr, 1).mean();
}

const Matrix<double>& BackwardPass::value(const std::string& site, Index head) const {
  return changes_kernel(site) ? watched_.at(site, head < 0 ? -1 : 0, head) : seen_.at(site);
}

double BackwardPass::step_of(const std::string& site, Index head) const { return question_.step * root_mean_square(value(site, head)); }

// ∂L along u = (8(L(x + hu) − L(x − hu)) − (L(x + 2hu) − L(x − 2hu)))/12h
double BackwardPass::slope(const std::string& site, Index head, const Matrix<double>& u) const {
  Nudge nudge(site, head, u);
  const auto at = [&](double offset) {
    nudge.offset = offset;
    return loss_with(&nudge);
  };
  const double h = step_of(site, head);
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}

// A loss rounds by some ten ε in all; that divided by h is what a difference cannot see.
double BackwardPass::noise(double h) const { return 20 * std::numeric_limits<double>::epsilon() * std::max(1.0, std::abs(loss_)) / h; }

SiteCheck BackwardPass::check(const std::string& site, Index head, const Matrix<double>& gradient, const std::vector<Entry>& entries,
                              bool direction) const {
  SiteCheck check{site, value(site, head), gradient, {}, static_cast<Index>(entries.size()), direction};
  check.differences = Matrix<double>::Constant(check.value.rows(), check.value.cols(), std::numeric_limits<double>::quiet_NaN());
  Matrix<double> u = Matrix<double>::Zero(check.value.rows(), check.value.cols());
  Comparison single, along;
  for (const auto& [row, column] : entries) {
    u(row, column) = 1;
    check.differences(row, column) = slope(site, head, u);
    u(row, column) = 0;
    single.add(gradient(row, column), check.differences(row, column));
  }
  if (direction) {
    const RandomStream stream = RandomStream{1}.at(site);
    for (Index i = 0; i < u.size(); ++i) u.data()[i] = random_normal(stream, static_cast<std::uint64_t>(i));
    // g·u is of the size of ‖g‖, but may be small by chance: the error is measured by ‖g‖.
    const double numeric = slope(site, head, u);
    along.add(gradient.cwiseProduct(u).sum(), numeric);
    along.analytic = gradient.squaredNorm(), along.numeric = std::max(numeric * numeric, along.analytic);
  }
  const double unseen = noise(step_of(site, head));
  check.error = std::max(single.seen_error(unseen), along.seen_error(unseen));
  check.unseen_entries = single.unseen(unseen);
  check.zero = check.unseen_entries && along.unseen(unseen);
  check.agrees = single.agrees(unseen) && along.agrees(unseen);
  return check;
}

SiteCheck BackwardPass::check_weight(const std::string& name, const std::string& site, Index output, const Matrix<double>& x,
                                     Index input) const {
  const MatrixView<double> w = model_.arena.view(name), dw = grads_.arena.view(name);
  const Index column = output - (site.ends_with("attn.k")   ? model_.config.heads * model_.config.head_dim
                                 : site.ends_with("attn.v") ? (model_.config.heads + model_.config.kv_heads) * model_.config.head_dim
                                                            : 0);
  Matrix<double> u = Matrix<double>::Zero(value(site).rows(), value(site).cols());
  u.col(column) = x.col(input);
  SiteCheck check{name, Matrix<double>::Constant(1, 1, (*w)(output, input)), Matrix<double>::Constant(1, 1, (*dw)(output, input)),
                  Matrix<double>::Constant(1, 1, slope(site, -1, u)), 1};
  Comparison single;
  single.add(check.gradient(0, 0), check.differences(0, 0));
  const double unseen = noise(step_of(site, -1));
  check.error = single.seen_error(unseen), check.zero = check.unseen_entries = single.unseen(unseen), check.agrees = single.agrees(unseen);
  return check;
}

}  // namespace glassformer
