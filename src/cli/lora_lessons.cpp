#include "cli/lora_lessons.hpp"

#include "cli/command.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer::cli {
namespace {

constexpr Index kDrawsAShot = 16;  // to find one that fits

std::vector<Batch> packed(std::span<const Example> examples, Index sequences, Index context) {
  std::vector<Batch> batches;
  const auto at_once = static_cast<std::size_t>(sequences);
  for (std::size_t i = 0; i < examples.size(); i += at_once) {
    batches.push_back(pack_examples(examples.subspan(i, std::min(at_once, examples.size() - i)), context));
  }
  return batches;
}

}  // namespace

Lessons::Lessons(const TextSource& source, const Tokenizer& tokenizer, const ModelConfig& config, bool answers_only, double val_fraction,
                 Index reserve)
    : context_(config.context), separator_(document_separator(config)), answers_only_(answers_only) {
  if (answers_only)
    read_answers(source, tokenizer, val_fraction, reserve);
  else
    read_windows(source, tokenizer, val_fraction);
}

void Lessons::read_windows(const TextSource& source, const Tokenizer& tokenizer, double val_fraction) {
  tokens_ = std::make_shared<const TokenSplit>(tokens_to_train(tokenizer, source, separator_, val_fraction, context_));
  description_ = fmt::format("{} tokens to train on, {} to validate", tokens_->train.size(), tokens_->val.size());
}

void Lessons::read_answers(const TextSource& source, const Tokenizer& tokenizer, double val_fraction, Index reserve) {
  const Index room = context_ - reserve;
  std::vector<Example> all;
  Index too_long = 0;
  try {
    for (const auto& [prompt, answer] : prompts_and_answers(source.text)) {
      Example e{tokenizer.encode(prompt), tokenizer.encode(answer)};
      if (separator_) e.prompt.insert(e.prompt.begin(), *separator_);
      if (static_cast<Index>(e.answer.size()) > room) {
        ++too_long;
        continue;
      }
      all.push_back(std::move(e));
      const std::size_t question = prompt.rfind("Customer:");  // the last one alone: more of them fit
      shots_.push_back(tokenizer.encode(fmt::format("{}{}\n", question == std::string::npos ? prompt : prompt.substr(question), answer)));
    }
  } catch (const std::invalid_argument& error) {
    throw Failure(fmt::format("{}: {}", source.name, error.what()));
  }
  const auto cut = static_cast<std::size_t>((1 - val_fraction) * static_cast<double>(all.size()));
  if (cut == 0 || cut == all.size()) {
    throw Failure(fmt::format(
        "{}: expected dialogues of \"Customer: …\" and \"Agent: …\" lines with at least two answers of up to {} tokens, found {}",
        source.name, room, all.size()));
  }
  const auto boundary = all.begin() + static_cast<std::ptrdiff_t>(cut);
  val_ = std::make_shared<const std::vector<Example>>(boundary, all.end());
  all.erase(boundary, all.end());
  train_ = std::make_shared<const std::vector<Example>>(std::move(all));
  shots_.resize(cut);
  description_ = fmt::format("{} answers to train on, {} to validate{}", train_->size(), val_->size(),
                             too_long ? fmt::format(" ({} longer than the context were left out)", too_long) : "");
}

BatchSource Lessons::batches(const TrainOptions& t, const std::vector<Token>& prefix) const {
  const RandomStream stream = RandomStream{t.seed}.at("batches");
  const Index room = context_ - static_cast<Index>(prefix.size()), batch = t.batch, accumulate = t.accumulate;
  const auto with_prefix = [prefix](Batch b) { return prefix.empty() ? b : prepend(b, prefix); };
  if (!answers_only_) {
    return [=, tokens = tokens_, separator = separator_](Index step, Index micro) {
      return with_prefix(
          random_batch(tokens->train, batch, room, stream, static_cast<std::uint64_t>(step * accumulate + micro), separator));
    };
  }
  return [=, train = train_](Index step, Index micro) {
    std::vector<Example> drawn;
    const RandomStream at = stream.at(static_cast<std::uint64_t>(step * accumulate + micro));
    for (Index i = 0; i < batch; ++i) drawn.push_back((*train)[random_below(at, static_cast<std::uint64_t>(i), train->size())]);
    return with_prefix(pack_examples(drawn, room));
  };
}

std::vector<Batch> Lessons::validation(Index sequences, std::span<const Token> prefix) const {
  const Index room = context_ - static_cast<Index>(prefix.size());
  std::vector<Batch> batches = answers_only_ ? packed(*val_, sequences, room) : whole_split(tokens_->val, room, sequences, separator_);
  if (!prefix.empty()) {
    for (Batch& b : batches) b = prepend(b, prefix);
  }
  return batches;
}

std::vector<Batch> Lessons::few_shot(Index sequences, Index shots, std::uint64_t seed, double& used) const {
  if (!answers_only_) {
    used = 0;
    return validation(sequences, std::span(tokens_->train).first(static_cast<std::size_t>(context_ / 2)));
  }
  const RandomStream stream = RandomStream{seed}.at("shots");
  const Index most = std::min(shots, context_);  // a shot takes a place at least
  Index fitted = 0;
  std::vector<Example> asked = *val_;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    Example& e = asked[i];
    std::vector<Token> before;
    Index taken = 0;
    for (Index draw = 0; draw < kDrawsAShot * most && taken < most; ++draw) {
      const std::vector<Token>& shot = shots_[random_below(stream.at(i), static_cast<std::uint64_t>(draw), shots_.size())];
      if (before.size() + shot.size() + e.prompt.size() + e.answer.size() > static_cast<std::size_t>(context_) + 1) continue;
      before.insert(before.end(), shot.begin(), shot.end());
      ++taken;
    }
    fitted += taken;
    e.prompt.insert(e.prompt.begin() + (separator_ ? 1 : 0), before.begin(), before.end());
  }
  used = static_cast<double>(fitted) / static_cast<double>(asked.size());
  return packed(asked, sequences, context_);
}

Index scored_tokens(std::span<const Batch> batches) {
  Index n = 0;
  for (const Batch& b : batches) n += b.scored();
  return n;
}

}  // namespace glassformer::cli
