#include "glassformer/score/score.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "glassformer/core/require.hpp"
#include "glassformer/model/adapter.hpp"

namespace glassformer {
namespace {

constexpr Index kTokensAtOnce = 2048;

}  // namespace

double Score::perplexity() const { return std::exp(loss_nats()); }
double Score::bits_per_byte() const { return sum_nats / static_cast<double>(bytes) / std::numbers::ln2; }

Score score_batches(const Decoder<float>& model, const Tokenizer& tokenizer, std::span<const Batch> batches, const Exec& exec) {
  Score score;
  Workspace workspace;
  for (const Batch& batch : batches) {
    Pass<float> pass;
    pass.exec = exec, pass.starts = batch.starts, pass.workspace = &workspace;
    const Loss loss = decoder_loss<float>(model, pass, batch.inputs, batch.targets, nullptr, nullptr, 1.0F);
    score.sum_nats += loss.sum_nats;
    score.tokens += loss.count;
    score.correct += loss.correct;
    for (const Token t : batch.targets) {
      if (t >= 0 && !tokenizer.is_special(t)) score.bytes += static_cast<Index>(tokenizer.token_bytes(t).size());
    }
  }
  return score;
}

std::optional<Token> document_separator(const ModelConfig& c) {
  return c.prepend_bos && c.bos >= 0 ? std::optional<Token>(c.bos) : std::nullopt;
}

std::vector<Batch> scoring_batches(std::span<const Token> ids, Index context, std::optional<Token> separator, Index prompt) {
  return whole_split(ids, context, std::max<Index>(1, kTokensAtOnce / (context + prompt)), separator);
}

Score score_tokens(const Decoder<float>& model, const Tokenizer& tokenizer, std::span<const Token> ids, Index context, const Exec& exec) {
  const std::vector<Token> prompt = soft_prompt_ids(model);
  const Index room = context - static_cast<Index>(prompt.size());
  require(room > 0, "score: expected a context of more than the {} tokens of the soft prompt, found {}", prompt.size(), context);
  std::vector<Batch> batches = scoring_batches(ids, room, document_separator(model.config), context - room);
  if (!prompt.empty()) std::ranges::transform(batches, batches.begin(), [&](const Batch& batch) { return prepend(batch, prompt); });
  return score_batches(model, tokenizer, batches, exec);
}

double continuation_nats(const Decoder<float>& model, const Tokenizer& tokenizer, std::string_view prefix, std::string_view continuation,
                         const Exec& exec) {
  const std::vector<Token> tail = tokenizer.encode(continuation);
  std::vector<Token> ids = tokenizer.encode(prefix);
  if (const auto start = document_separator(model.config)) ids.insert(ids.begin(), *start);
  require(!ids.empty() && !tail.empty(), "continuation: expected a prefix and a continuation of at least one token each");
  ids.insert(ids.end(), tail.begin(), tail.end());
  const std::vector<Token> prompt = soft_prompt_ids(model);
  require(prompt.size() + tail.size() <= static_cast<std::size_t>(model.config.context),
          "continuation: {} tokens do not fit the context of {}", prompt.size() + tail.size(), model.config.context);
  const std::size_t room = static_cast<std::size_t>(model.config.context) + 1 - prompt.size();
  if (ids.size() > room) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
  ids.insert(ids.begin(), prompt.begin(), prompt.end());
  std::vector<Token> targets(ids.size() - 1, -1);
  std::copy(tail.begin(), tail.end(), targets.end() - static_cast<std::ptrdiff_t>(tail.size()));
  ids.pop_back();
  const std::vector<Index> starts = {0, static_cast<Index>(ids.size())};
  Workspace workspace;
  Pass<float> pass;
  pass.exec = exec, pass.starts = starts, pass.workspace = &workspace;
  return decoder_loss<float>(model, pass, ids, targets, nullptr, nullptr, 1.0F).sum_nats;
}

double agreement_accuracy(const Decoder<float>& model, const Tokenizer& tokenizer, std::span<const AgreementItem> items, const Exec& exec) {
  require(!items.empty(), "agreement: expected at least one item");
  Index right = 0;
  for (const AgreementItem& item : items) {
    const double own = continuation_nats(model, tokenizer, item.prefix, item.right, exec);
    right += std::ranges::all_of(
        item.wrong, [&](const std::string& wrong) { return own < continuation_nats(model, tokenizer, item.prefix, wrong, exec); });
  }
  return static_cast<double>(right) / static_cast<double>(items.size());
}

}  // namespace glassformer
