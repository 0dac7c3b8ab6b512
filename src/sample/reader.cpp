#include "glassformer/sample/reader.hpp"

#include <algorithm>
#include <numeric>

#include "glassformer/model/adapter.hpp"

namespace glassformer {

Reader::Reader(const Decoder<float>& model, const ReaderOptions& options)
    : model_(model),
      options_(options),
      context_(model.config.context),
      sinks_(model.prompt.rows + std::min(options.sinks, (context_ - model.prompt.rows) / 2)),
      soft_(soft_prompt_ids(model)) {}

void Reader::add(Index tokens) {
  const auto number = static_cast<Index>(texts_.size());
  const bool softly = model_.prompt && (!options_.mix || (*options_.mix)(number, soft_prompt_adapter(model_)) != 0);
  texts_.push_back({.soft = softly ? std::span<const Token>(soft_) : std::span<const Token>(), .prompt = tokens});
}

// As small as the longest text needs. One that slides turns RoPE keys at each step, so it is one only where a text may outgrow the context;
// in 8 bits always, because rounding a key before it is turned is not rounding it after, and a text must not depend on those beside it.
void Reader::make_cache_for_all() {
  Index longest = 1;  // tokens to be read: all but the last drawn
  for (const State& s : texts_) {
    longest = std::max(longest, static_cast<Index>(s.soft.size()) + s.prompt + std::min(options_.max_tokens, context_ + 1) - 1);
  }
  const bool outgrows = longest > context_, may_slide = options_.past_context == PastContext::slide && !reads_again();
  const Index slots = static_cast<Index>(texts_.size()), capacity = std::min(longest, context_);
  cache_.emplace(make_cache(model_, slots, capacity, may_slide && (outgrows || options_.cache_kind == CacheKind::int8),
                            may_slide && outgrows ? sinks_ : 0, options_.cache_kind));
}

bool Reader::make_room(Index text, Index size, std::string& note) {
  State& s = at(text);
  note.clear();
  if (size - s.begin <= room(s)) return true;
  const std::string context = fmt::format("the context of {} tokens{}", context_,
                                          s.soft.empty() ? "" : fmt::format(", {} of them the soft prompt's", s.soft.size()));
  if (options_.past_context == PastContext::stop) {
    if (size == s.prompt) note = fmt::format("The prompt has {} tokens, too many for {}: nothing was written.", size, context);
    return false;
  }
  if (reads_again()) {
    const Index half = std::max<Index>(1, room(s) / 2);
    s.begin = s.read = size - half;
    if (cache_) cache_->truncate(text, 0);
    note = fmt::format("Past {}: {} positions cannot move, so the last {} tokens are read afresh each time it is full.", context,
                       choice_name(model_.config.position), half);
  } else if (cache_) {
    note = fmt::format("Past {}: the cache slides, keeping the first {}.", context, sinks_);
  } else {
    s.begin = size - room(s);
    note = fmt::format("Past {}: the last {} are read for each new one.", context, room(s));
  }
  return true;
}

Index Reader::retractable(Index text, Index size) const { return std::max<Index>(0, room(at(text)) - (size - at(text).begin)); }

bool Reader::reads_on(Index text, Index size) const {
  const State& s = at(text);
  const Index unread = size - s.read;  // a cache that slides makes room for one
  return cache_ && s.read > s.begin && (unread == 1 || cache_->length(text) + unread <= cache_->shape().capacity);
}

Pass<float> Reader::pass_of(std::span<const Index> starts, std::span<const Index> texts, bool row_exact) {
  Pass<float> pass;
  pass.exec = options_.exec;
  pass.exec.row_exact = row_exact;  // one order of summation a row: the same bits alone and in company
  pass.starts = starts;
  pass.cache = cache_ ? &*cache_ : nullptr;
  pass.slots = texts;
  pass.trace = options_.trace;
  pass.workspace = &workspace_;
  if (options_.mix) {
    mixed_.resize(static_cast<Index>(texts.size()), options_.mix.cols);
    for (Index i = 0; i < mixed_.rows(); ++i) mixed_.row(i) = (*options_.mix).row(texts[static_cast<std::size_t>(i)]);
    pass.mix = {mixed_.data(), mixed_.rows(), mixed_.cols()};
  }
  return pass;
}

void Reader::read(std::span<const Token> ids, std::span<const Index> starts, std::span<const Index> texts, bool row_exact,
                  MatrixRef<float> hidden) {
  decoder_forward(model_, pass_of(starts, texts, row_exact), ids, hidden);
}

// logits [n, V] of rows of hidden: text i has the rows starts[i] … starts[i + 1].
void Reader::head(std::span<const Index> starts, std::span<const Index> texts, ConstMatrixRef<float> hidden, MatrixRef<float> logits) {
  decoder_logits(model_, pass_of(starts, texts, true), hidden, logits);
}

void Reader::read_alone(Index text, std::span<const Token> ids, Vector<float>& logits) {
  State& s = at(text);
  const Workspace::Frame frame(workspace_);
  const MatrixView<float> last = workspace_.matrix<float>(1, model_.config.width);
  const auto size = static_cast<Index>(ids.size());
  Index next = cache_ ? s.read : s.begin;
  while (next < size) {
    const Workspace::Frame piece(workspace_);
    const bool from_start = !cache_ || cache_->length(text) == 0;
    const Index fits = from_start ? room(s) : std::max<Index>(1, (context_ - sinks_) / 8), count = std::min(size - next, fits);
    ids_.clear();
    if (from_start) ids_.assign(s.soft.begin(), s.soft.end());
    ids_.insert(ids_.end(), ids.begin() + next, ids.begin() + next + count);
    const Index starts[2] = {0, static_cast<Index>(ids_.size())};
    const MatrixView<float> hidden = workspace_.matrix<float>(starts[1], model_.config.width);
    read(ids_, starts, {&text, 1}, options_.exec.row_exact, *hidden);
    *last = (*hidden).bottomRows(1);
    next += count;
  }
  s.read = next;
  logits.resize(model_.config.vocab);
  const Index one[2] = {0, 1};
  head(one, {&text, 1}, *last, logits);
}

const Matrix<float>& Reader::read_together(std::span<const Text> texts, bool last_only) {
  ids_.clear(), starts_.assign(1, 0), numbers_.clear();
  for (const Text& t : texts) {
    ids_.insert(ids_.end(), t.ids.begin() + at(t.number).read, t.ids.end());
    starts_.push_back(static_cast<Index>(ids_.size()));
    numbers_.push_back(t.number);
    at(t.number).read = static_cast<Index>(t.ids.size());
  }
  const Workspace::Frame frame(workspace_);
  MatrixView<float> hidden = workspace_.matrix<float>(starts_.back(), model_.config.width);
  read(ids_, starts_, numbers_, true, *hidden);
  if (last_only && hidden.rows > static_cast<Index>(texts.size())) {
    for (std::size_t i = 0; i < texts.size(); ++i) (*hidden).row(static_cast<Index>(i)) = (*hidden).row(starts_[i + 1] - 1);
    hidden.rows = static_cast<Index>(texts.size());
    std::iota(starts_.begin(), starts_.end(), Index{0});
  }
  logits_.resize(hidden.rows, model_.config.vocab);
  head(starts_, numbers_, *hidden, logits_);
  return logits_;
}

void Reader::cut(Index text, Index size) {
  State& s = at(text);
  const Index back = s.read - size;
  if (back <= 0 || !cache_) return;
  if (size > s.begin && back < cache_->length(text)) {
    cache_->truncate(text, cache_->length(text) - back);
    s.read = size;
  } else {  // all that the window held is gone
    cache_->truncate(text, 0);
    s.begin = s.read = std::max<Index>(0, size - std::max<Index>(1, room(s) / 2));
  }
}

}  // namespace glassformer
