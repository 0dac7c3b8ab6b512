#include "glassformer/sample/filters.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace glassformer {
namespace {

// A token that is still in the running, and its logit less the best one's, so z ≤ 0 and exp(z) = p/max p.
struct Candidate {
  Token id;
  double z;
};
using Candidates = std::vector<Candidate>;

bool better(const Candidate& a, const Candidate& b) { return a.z != b.z ? a.z > b.z : a.id < b.id; }
bool before(const Candidate& a, const Candidate& b) { return a.id < b.id; }

Distribution softmax(const Candidates& candidates) {
  Distribution d;
  d.ids.reserve(candidates.size());
  d.probability.reserve(candidates.size());
  double sum = 0;
  for (const Candidate& c : candidates) {
    d.ids.push_back(c.id);
    d.probability.push_back(std::exp(c.z));
    sum += d.probability.back();
  }
  for (double& p : d.probability) p /= sum;
  return d;
}

// z ← (z − max z)/τ: the maximum goes first, so that no temperature however small gives ∞ − ∞.
void shift_and_divide(Candidates& candidates, double temperature) {
  double best = -std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates) best = std::max(best, c.z);
  for (Candidate& c : candidates) c.z = (c.z - best) / temperature;
}

void penalise(Candidates& candidates, std::span<const Token> text, double penalty) {
  if (penalty == 1) return;
  std::vector<char> done(candidates.size(), 0);
  for (const Token t : text) {
    const auto i = static_cast<std::size_t>(t);
    if (done[i]) continue;
    done[i] = 1;
    double& z = candidates[i].z;
    z = z > 0 ? z / penalty : z * penalty;
  }
}

void keep_best(Candidates& candidates, Index k) {
  if (k == 0 || k >= static_cast<Index>(candidates.size())) return;
  std::nth_element(candidates.begin(), candidates.begin() + k, candidates.end(), better);
  candidates.resize(static_cast<std::size_t>(k));
  std::sort(candidates.begin(), candidates.end(), before);
}

// Sorts only as far as the mass needs: the best 64, then the next 128, …
void keep_mass(Candidates& candidates, double top_p) {
  if (top_p >= 1) return;
  double total = 0;
  for (const Candidate& c : candidates) total += std::exp(c.z);
  const auto size = static_cast<Index>(candidates.size());
  double mass = 0;
  Index kept = 0;
  for (Index begin = 0, chunk = 64; mass < top_p * total && begin < size; begin = kept, chunk *= 2) {
    const Index end = std::min(size, begin + chunk);
    const auto first = candidates.begin();
    if (end < size) std::nth_element(first + begin, first + end, first + size, better);
    std::sort(first + begin, first + end, better);
    for (; kept < end && mass < top_p * total; ++kept) mass += std::exp(first[kept].z);
  }
  candidates.resize(static_cast<std::size_t>(kept));
  std::sort(candidates.begin(), candidates.end(), before);
}

void keep_probable(Candidates& candidates, double min_p) {
  if (min_p <= 0) return;
  std::erase_if(candidates, [&](const Candidate& c) { return std::exp(c.z) < min_p; });
}

void check(std::span<const float> logits, std::span<const Token> text) {
  bool possible = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    require(!std::isnan(logits[i]) && !(std::isinf(logits[i]) && logits[i] > 0),
            "sampling: the logit of token {} is {}: the model's weights hold NaN or infinity, or overflow", i, logits[i]);
    possible |= !std::isinf(logits[i]);
  }
  require(possible, "sampling: expected at least one token with a logit above -infinity, found none among {}", logits.size());
  for (const Token t : text) {
    require(t >= 0 && static_cast<std::size_t>(t) < logits.size(), "sampling: token {} of the text is outside the vocabulary of {}", t,
            logits.size());
  }
}

}  // namespace

void validate(const SamplingOptions& o) {
  require(std::isfinite(o.temperature) && o.temperature >= 0, "temperature: expected 0 (greedy) or more, found {}", o.temperature);
  require(o.top_k >= 0, "top-k: expected 0 (off) or more, found {}", o.top_k);
  require(o.top_p > 0 && o.top_p <= 1, "top-p: expected more than 0 and at most 1 (off), found {}", o.top_p);
  require(o.min_p >= 0 && o.min_p <= 1, "min-p: expected 0 (off) to 1, found {}", o.min_p);
  require(std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0, "repetition penalty: expected more than 0 (1 is off), found {}",
          o.repetition_penalty);
}

Distribution sampling_distribution(std::span<const float> logits, std::span<const Token> text, const SamplingOptions& options,
                                   std::vector<SamplingStage>* stages) {
  validate(options);
  check(logits, text);
  const bool greedy = options.temperature == 0;
  if (greedy && options.repetition_penalty == 1 && stages == nullptr) {
    return {{static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin())}, {1.0}};
  }
  Candidates candidates(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<Token>(i), static_cast<double>(logits[i])};
  const auto show = [&](const char* name) {
    if (stages == nullptr) return;
    Candidates shifted = candidates;
    shift_and_divide(shifted, 1);
    stages->push_back({name, softmax(shifted)});
  };
  if (stages != nullptr) stages->clear();
  show("softmax");
  penalise(candidates, text, options.repetition_penalty);
  show("repetition penalty");
  if (greedy) keep_best(candidates, 1);
  shift_and_divide(candidates, greedy ? 1 : options.temperature);
  show("temperature");
  keep_best(candidates, options.top_k);
  show("top-k");
  keep_mass(candidates, options.top_p);
  show("top-p");
  keep_probable(candidates, options.min_p);
  show("min-p");
  return softmax(candidates);
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
