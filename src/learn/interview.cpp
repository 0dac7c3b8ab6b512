#include "learn/interview.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace glassformer {

bool Tolerance::covers(double x, double y) const { return std::abs(x - y) <= absolute + relative * std::abs(y); }

const std::vector<std::string>& interview_topics() {
  static const std::vector<std::string> topics = {"tokenizer", "positions", "attention", "block",    "training",
                                                  "cache",     "sampling",  "lora",      "numerics", "checkpoints"};
  return topics;
}

std::vector<InterviewQuestion> interview_questions(std::uint64_t seed) {
  std::vector<InterviewQuestion> all;
  learn::add_tokenizer_questions(all, seed);
  learn::add_position_questions(all, seed);
  learn::add_attention_questions(all, seed);
  learn::add_block_questions(all, seed);
  learn::add_training_questions(all, seed);
  learn::add_optimizer_questions(all, seed);
  learn::add_cache_questions(all, seed);
  learn::add_sampling_questions(all, seed);
  learn::add_lora_questions(all, seed);
  learn::add_numerics_questions(all, seed);
  learn::add_checkpoint_questions(all, seed);
  return all;
}

namespace {

// Fisher and Yates.
template <class T>
void shuffle(std::vector<T>& items, const RandomStream& stream) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_below(stream, i, i)]);
}

}  // namespace

std::vector<InterviewQuestion> interview_selection(std::uint64_t seed, std::string_view topic, Index count) {
  require(count >= 1, "questions: expected at least 1, found {}", count);
  std::vector<std::string> topics = interview_topics();
  if (!topic.empty()) {
    std::string valid;
    for (const std::string& t : topics) valid += (valid.empty() ? "" : ", ") + t;
    require(std::ranges::find(topics, topic) != topics.end(), "topic: expected one of {}, found {}", valid, topic);
    topics = {std::string(topic)};
  }
  const RandomStream stream = RandomStream{seed}.at("interview").at("order");
  shuffle(topics, stream);
  std::map<std::string, std::vector<InterviewQuestion>> by_topic;
  for (InterviewQuestion& q : interview_questions(seed)) by_topic[q.topic].push_back(std::move(q));
  for (auto& [name, questions] : by_topic) shuffle(questions, stream.at(name));

  std::vector<InterviewQuestion> selection;
  for (std::size_t round = 0, found = 1; found > 0; ++round) {
    found = 0;
    for (const std::string& t : topics) {
      auto& questions = by_topic[t];
      if (round >= questions.size() || static_cast<Index>(selection.size()) == count) continue;
      selection.push_back(std::move(questions[round]));
      ++found;
    }
  }
  return selection;
}

std::string_view verdict_name(Verdict v) {
  switch (v) {
    case Verdict::right:
      return "right";
    case Verdict::wrong:
      return "wrong";
    case Verdict::skipped:
      break;
  }
  return "skipped";
}

InterviewTurn judge(const InterviewQuestion& question, std::optional<double> answer) {
  InterviewTurn turn{question, answer, question.compute(), Verdict::skipped};
  if (answer) turn.verdict = question.tolerance.covers(*answer, turn.computed) ? Verdict::right : Verdict::wrong;
  return turn;
}

std::string tolerance_text(const Tolerance& t) {
  if (t.relative >= 0.001) return fmt::format("within {:.3g}%", 100 * t.relative);
  if (t.absolute >= 1e-6) return fmt::format("within {:.3g}", t.absolute);
  return "to the digit";
}

std::string distance_text(const InterviewTurn& turn) {
  if (!turn.answer) return "";
  const double x = *turn.answer, y = turn.computed, off = std::abs(x - y);
  if (off <= 1e-9 * std::max(1.0, std::abs(y))) return "to the digit";
  if (y == 0 || x * y < 0 || (turn.question.tolerance.relative == 0 && std::abs(y) < 10))
    return fmt::format("off by {}", learn::digits(off));
  const std::string way = std::abs(x) > std::abs(y) ? "too large" : "too small";
  const double ratio = std::abs(x) > std::abs(y) ? x / y : y / x;
  if (x == 0 || !std::isfinite(ratio)) return fmt::format("off by {}", learn::digits(off));
  if (ratio >= 1.95)
    return ratio < 100 ? fmt::format("{:.2g} times {}", ratio, way) : fmt::format("{} times {}", learn::grouped(ratio), way);
  return fmt::format("{:.2g}% {}", 100 * off / std::abs(y), way);
}

std::vector<TopicScore> interview_scores(std::span<const InterviewTurn> turns) {
  std::vector<TopicScore> scores;
  for (const std::string& topic : interview_topics()) {
    TopicScore score{topic};
    for (const InterviewTurn& turn : turns) {
      if (turn.question.topic != topic) continue;
      (turn.verdict == Verdict::right ? score.right : turn.verdict == Verdict::wrong ? score.wrong : score.skipped) += 1;
    }
    if (score.asked() > 0) scores.push_back(score);
  }
  return scores;
}

std::vector<std::string> interview_readings(std::span<const InterviewTurn> turns) {
  std::vector<std::string> readings;
  std::map<std::string, Index> missed;
  for (const InterviewTurn& turn : turns) {
    if (turn.verdict == Verdict::right) continue;
    for (const std::string& reading : turn.question.read) {
      if (missed[reading]++ == 0) readings.push_back(reading);
    }
  }
  std::ranges::stable_sort(readings, [&](const std::string& a, const std::string& b) { return missed[a] > missed[b]; });
  return readings;
}

namespace learn {

Decoder<float> random_decoder(const ModelConfig& config, std::uint64_t seed) {
  Decoder<float> model = make_decoder<float>(config);
  initialize(model, seed);
  return model;
}

std::vector<Token> random_ids(Index n, Index vocab, const RandomStream& stream) {
  std::vector<Token> ids(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Token>(random_below(stream, i, static_cast<std::uint64_t>(vocab)));
  return ids;
}

}  // namespace learn
}  // namespace glassformer
