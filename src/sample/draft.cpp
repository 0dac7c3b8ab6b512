#include "sample/draft.hpp"

#include <algorithm>
#include <numeric>

namespace glassformer {

double probability_of(const Distribution& d, Token token) {
  const auto at = std::ranges::lower_bound(d.ids, token);
  return at != d.ids.end() && *at == token ? d.probability[static_cast<std::size_t>(at - d.ids.begin())] : 0;
}

Distribution residual(const Distribution& p, const Distribution& q) {
  Distribution r;
  double sum = 0;
  std::size_t j = 0;  // both are in ascending order of id
  for (std::size_t i = 0; i < p.ids.size(); ++i) {
    while (j < q.ids.size() && q.ids[j] < p.ids[i]) ++j;
    const double above = p.probability[i] - (j < q.ids.size() && q.ids[j] == p.ids[i] ? q.probability[j] : 0);
    if (above <= 0) continue;
    r.ids.push_back(p.ids[i]);
    r.probability.push_back(above);
    sum += above;
  }
  if (r.ids.empty()) return p;
  for (double& x : r.probability) x /= sum;
  return r;
}

Drafter::Drafter(const Decoder<float>& model, const ReaderOptions& options, const SamplingOptions& sampling, std::size_t known)
    : reader_(model, options), sampler_(sampling), known_(known) {}

void Drafter::read_prompt(Index text, std::span<const Token> ids) {
  std::string note;  // there will be one again
  reader_.make_room(text, static_cast<Index>(ids.size()), note);
  reader_.read_alone(text, ids, logits_);
}

void Drafter::draw(Task& task, Index i, std::span<const float> logits) {
  auto& proposed = proposed_[static_cast<std::size_t>(task.text)];
  if (proposed.size() <= static_cast<std::size_t>(i)) proposed.resize(static_cast<std::size_t>(i) + 1);
  Distribution& q = proposed[static_cast<std::size_t>(i)];
  q = sampler_(logits.first(known_), *task.ids);
  task.ids->push_back(glassformer::draw(q, random_uniform(task.stream.at("draft"), static_cast<std::uint64_t>(task.drawn + i))));
}

void Drafter::propose(std::span<Task> tasks) {
  std::vector<Reader::Text> together;
  std::vector<Task*> drawing;
  for (Index i = 0;; ++i) {
    together.clear(), drawing.clear();
    bool any = false;
    for (Task& task : tasks) {
      if (i >= task.count) continue;
      any = true;
      std::string note;
      reader_.make_room(task.text, static_cast<Index>(task.ids->size()), note);
      if (!note.empty()) task.note = std::move(note);
      if (reader_.reads_on(task.text, static_cast<Index>(task.ids->size()))) {
        together.push_back({task.text, *task.ids});
        drawing.push_back(&task);
      } else {
        reader_.read_alone(task.text, *task.ids, logits_);
        draw(task, i, {logits_.data(), static_cast<std::size_t>(logits_.size())});
      }
    }
    if (!any) return;
    if (together.empty()) continue;
    const Matrix<float>& logits = reader_.read_together(together, true);
    for (std::size_t s = 0; s < drawing.size(); ++s)
      draw(*drawing[s], i, {logits.row(static_cast<Index>(s)).data(), static_cast<std::size_t>(logits.cols())});
  }
}

// x is taken with probability min(1, p(x)/q(x)); q(x) > 0, for x was drawn from it.
bool Drafter::accepts(Index text, Index i, Token draft, const Distribution& p, const RandomStream& stream, Index number) const {
  return random_uniform(stream.at("accept"), static_cast<std::uint64_t>(number)) * probability_of(proposed(text, i), draft) <
         probability_of(p, draft);
}

}  // namespace glassformer
