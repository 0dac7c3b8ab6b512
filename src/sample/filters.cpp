#include "glassformer/sample/filters.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace glassformer {
namespace {

using Logits = Eigen::Map<const Vector<float>>;
constexpr Index kBlock = 64;  // numbers that are passed over at once

// The largest logit.
float check(std::span<const float> logits, std::span<const Token> text) {
  for (const Token t : text) {
    require(t >= 0 && static_cast<std::size_t>(t) < logits.size(), "sampling: token {} of the text is outside the vocabulary of {}", t,
            logits.size());
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float best = logits.empty() ? -kInfinity : Logits(logits.data(), static_cast<Index>(logits.size())).maxCoeff<Eigen::PropagateNaN>();
  if (std::isfinite(best)) return best;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    require(logits[i] < kInfinity, "sampling: the logit of token {} is {}: the model's weights hold NaN or infinity, or overflow", i,
            logits[i]);
  }
  require(false, "sampling: expected at least one token with a logit above -infinity, found none among {}", logits.size());
  return best;
}

// The first token with this logit, which one of them has.
Token first_of(std::span<const float> logits, float z) {
  const auto size = static_cast<Index>(logits.size());
  Index i = 0;
  while (i + kBlock <= size && Eigen::Map<const Eigen::Array<float, 1, kBlock>>(logits.data() + i).maxCoeff() < z) i += kBlock;
  while (logits[static_cast<std::size_t>(i)] != z) ++i;
  return static_cast<Token>(i);
}

// p [n] ← exp(z); 0 for what is too small to matter, −∞ with it, where Eigen's has a smallest number.
template <class Z, class P>
void exponentials(const Z& z, P&& p) {
  p.array() = z.array().exp();
  for (Index i = 0; i < p.size(); ++i) p[i] = z[i] < -700 ? 0 : p[i];
}

}  // namespace

void validate(const SamplingOptions& o) {
  require(std::isfinite(o.temperature) && o.temperature >= 0, "temperature: expected 0 (greedy) or more, found {}", o.temperature);
  require(o.top_k >= 0, "top-k: expected 0 (off) or more, found {}", o.top_k);
  require(o.top_p > 0 && o.top_p <= 1, "top-p: expected more than 0 and at most 1 (off), found {}", o.top_p);
  require(o.min_p >= 0 && o.min_p <= 1, "min-p: expected 0 (off) to 1, found {}", o.min_p);
  // Within what leaves every product with a logit finite.
  require(o.repetition_penalty >= 1e-9 && o.repetition_penalty <= 1e9, "repetition penalty: expected 1e-9 to 1e9 (1 is off), found {}", o.repetition_penalty);
}

Sampler::Sampler(const SamplingOptions& options) : options_(options) { validate(options); }

// All tokens are left.
void Sampler::start(std::span<const float> logits) {
  left_.ids.resize(logits.size());
  std::iota(left_.ids.begin(), left_.ids.end(), Token{0});
  if (z_.size() < static_cast<Index>(logits.size())) z_.resize(static_cast<Index>(logits.size())), p_.resize(z_.size());
  z() = Logits(logits.data(), static_cast<Index>(logits.size())).cast<double>();
}

void Sampler::penalise(std::span<const Token> text) {
  const double penalty = options_.repetition_penalty;
  if (penalty == 1) return;
  seen_.resize(left_.ids.size(), 0);
  for (const Token t : text) {
    if (std::exchange(seen_[static_cast<std::size_t>(t)], 1)) continue;
    z_[t] = z_[t] > 0 ? z_[t] / penalty : z_[t] * penalty;
  }
  for (const Token t : text) seen_[static_cast<std::size_t>(t)] = 0;
}

// z ← (z − max z)/τ: the maximum goes first, so that no temperature however small gives ∞ − ∞.
void Sampler::shift_and_divide(double temperature) {
  const double best = z().maxCoeff();
  z().array() = (z().array() - best) / temperature;
}

// One scan: what does not beat the k-th best so far is passed over, a block at a time.
void Sampler::keep_best(Index k) {
  const Index size = left();
  if (k == 0 || k >= size) return;
  const auto most = static_cast<std::size_t>(k);
  candidates_.clear();
  bool full = false;
  double limit = 0;  // of the k-th best, once there are k
  const auto cut = [&] {
    std::nth_element(candidates_.begin(), candidates_.begin() + k - 1, candidates_.end(), better);
    candidates_.resize(most);
    limit = candidates_.back().z, full = true;
  };
  for (Index begin = 0; begin < size; begin += kBlock) {
    const Index end = std::min(size, begin + kBlock);
    if (full && z_.segment(begin, end - begin).maxCoeff() <= limit) continue;
    for (Index i = begin; i < end; ++i) {
      if (full && z_[i] <= limit) continue;  // of equal ones the first stays
      candidates_.push_back({left_.ids[static_cast<std::size_t>(i)], z_[i], 0});
      if (candidates_.size() >= 2 * most + 16) cut();
    }
  }
  cut();
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  left_.ids.resize(most);
  for (std::size_t i = 0; i < most; ++i) left_.ids[i] = candidates_[i].id, z_[static_cast<Index>(i)] = candidates_[i].z;
}

// The smallest set of the best whose mass reaches P of all. First by bins of z, the best one first: what lies in a bin before the one in
// which P is reached stays, what lies in one after it goes. In that bin the range in which the border lies is halved again and again, each
// time putting the better half before the other.
void Sampler::keep_mass() {
  if (options_.top_p >= 1) return;
  constexpr double kBins = 1024, kPerUnit = 16;  // the last one has all that is below e⁻⁶⁴ of the best
  const auto bin_of = [](double z) { return static_cast<Index>(std::min(-z * kPerUnit, kBins - 1)); };
  bins_.setZero(static_cast<Index>(kBins));
  for (Index i = 0; i < left(); ++i) bins_[bin_of(z_[i])] += p_[i];
  const double target = options_.top_p * p().sum();
  double before = 0;  // mass of the bins before the border's
  Index border = 0;
  while (before + bins_[border] < target && border + 1 < bins_.size()) before += bins_[border++];

  candidates_.clear();
  for (Index i = 0; i < left(); ++i) {
    if (bin_of(z_[i]) == border) candidates_.push_back({left_.ids[static_cast<std::size_t>(i)], z_[i], p_[i]});
  }
  if (candidates_.empty()) return;  // rounding: not even all reach P
  const auto first = candidates_.begin();
  Index begin = 0, end = static_cast<Index>(candidates_.size());  // the first `begin` fall short of P, the first `end` reach it
  while (end - begin > 1) {
    const Index middle = begin + (end - begin) / 2;
    std::nth_element(first + begin, first + middle, first + end, better);
    const double mass = std::accumulate(first + begin, first + middle, before, [](double sum, const Candidate& c) { return sum + c.p; });
    if (mass >= target) {
      end = middle;
    } else {
      begin = middle, before = mass;
    }
  }
  const Candidate last = candidates_[static_cast<std::size_t>(begin)];  // of those that stay
  keep_where([&](Index i) { return z_[i] > last.z || (z_[i] == last.z && left_.ids[static_cast<std::size_t>(i)] <= last.id); });
}

void Sampler::keep_probable() {
  if (options_.min_p > 0) keep_where([&](Index i) { return p_[i] >= options_.min_p; });
}

template <class F>
void Sampler::keep_where(F stays) {
  std::size_t kept = 0;
  for (Index i = 0; i < left(); ++i) {
    const bool stay = stays(i);
    left_.ids[kept] = left_.ids[static_cast<std::size_t>(i)], z_[static_cast<Index>(kept)] = z_[i], p_[static_cast<Index>(kept)] = p_[i];
    kept += stay;
  }
  left_.ids.resize(kept);
}

void Sampler::normalise() {
  left_.probability.resize(left_.ids.size());
  Eigen::Map<Vector<double>>(left_.probability.data(), left()) = p() / p().sum();
}

void Sampler::show(std::vector<SamplingStage>* stages, const char* name) const {
  if (stages == nullptr) return;
  const Vector<double> z = z_.head(left()).array() - z_.head(left()).maxCoeff();
  Vector<double> shown(z.size());
  exponentials(z, shown);
  shown /= shown.sum();
  stages->push_back({name, {left_.ids, {shown.data(), shown.data() + shown.size()}}});
}

const Distribution& Sampler::operator()(std::span<const float> logits, std::span<const Token> text, std::vector<SamplingStage>* stages) {
  const float best = check(logits, text);
  const bool greedy = options_.temperature == 0;
  if (greedy && options_.repetition_penalty == 1 && stages == nullptr) {
    left_.ids.assign(1, first_of(logits, best));
    left_.probability.assign(1, 1.0);
    return left_;
  }
  if (stages != nullptr) stages->clear();
  start(logits);
  show(stages, "softmax");
  penalise(text);
  show(stages, "repetition penalty");
  if (greedy) keep_best(1);
  shift_and_divide(greedy ? 1 : options_.temperature);
  show(stages, "temperature");
  keep_best(options_.top_k);
  exponentials(z(), p());
  show(stages, "top-k");
  keep_mass();
  show(stages, "top-p");
  keep_probable();
  show(stages, "min-p");
  normalise();
  return left_;
}

Distribution sampling_distribution(std::span<const float> logits, std::span<const Token> text, const SamplingOptions& options,
                                   std::vector<SamplingStage>* stages) {
  return Sampler(options)(logits, text, stages);
}

Token draw(const Distribution& d, double uniform) {
  require(!d.ids.empty() && d.ids.size() == d.probability.size(),
          "draw: expected as many probabilities as tokens and at least one, found {} and {}", d.probability.size(), d.ids.size());
  require(uniform >= 0 && uniform < 1, "draw: expected a number in [0, 1), found {}", uniform);
  double cumulated = 0;
  std::size_t last = 0;  // the last possible token: rounding may leave the whole sum a little below 1
  for (std::size_t i = 0; i < d.ids.size(); ++i) {
    if (d.probability[i] <= 0) continue;
    last = i;
    cumulated += d.probability[i];
    if (uniform < cumulated) break;
  }
  return d.ids[last];
}

}  // namespace glassformer
