// Learning by predicting: questions as an interviewer asks them, whose answers the engine computes after the learner has predicted them.
// A question's sizes are drawn from a seed, so it differs each time. Its number comes from a run (a decoder is made and its arena counted,
// a cache is asked for its bytes, a pass is traced, a few steps are trained); the formula beside it is what the learner should have used,
// and a test holds the two together. See docs/interview.md.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/require.hpp"

namespace glassformer {

// x counts as y where |x − y| ≤ absolute + relative·|y|.
struct Tolerance {
  double relative = 0, absolute = 0;
  bool covers(double x, double y) const;
};

struct InterviewQuestion {
  std::string id = {};                   // "cache-bytes": unique
  std::string topic = {};                // one of interview_topics()
  std::string text = {};                 // with the sizes drawn for this seed
  std::string unit = {};                 // "bytes", "nats", "%", "tokens"; empty: a plain number
  Tolerance tolerance = {};              // of an answer against the engine's number
  std::function<double()> compute = {};  // the engine's number: a run, each time it is called
  double formula = 0;                    // the derivation's number, of the same sizes
  Tolerance agreement = {};              // of the engine's number against the formula: none for a count, the sampling error of a draw
  std::string derivation = {};           // the formula with its numbers filled in
  std::string carry_over = {};           // the same formula for a model that people know
  double carry_over_number = 0;          // what it gives there
  std::string follow_up = {}, follow_up_answer = {};
  std::vector<std::string> read = {};  // "docs/attention.md", "glassformer explain attention", "notebook 03": what to read next
};

// In the order in which one learns them: tokenizer, positions, attention, block, training, cache, sampling, lora, numerics, checkpoints.
const std::vector<std::string>& interview_topics();

// All questions, topic by topic, with the sizes of this seed. The same seed gives the same questions and numbers.
std::vector<InterviewQuestion> interview_questions(std::uint64_t seed);

// `count` of them in an order that visits every topic before it returns to one: of one topic, or of all where `topic` is empty. Fewer where
// there are not so many. Throws std::invalid_argument for an unknown topic (naming the valid ones) and a count below 1.
std::vector<InterviewQuestion> interview_selection(std::uint64_t seed, std::string_view topic, Index count);

// What a learner typed, as a number in `unit`. Numbers: 1024  1,024  1k  3e5  1.5 million  12.5%  128 KiB. A unit may follow (the
// question's own, K Ki M Mi …, with or without "B"). They may be joined by + − * / ^ and brackets, with ln, log2, exp, sqrt, cos and
// sin: "2*8*64*4", "ln(65)", "2^10", "1/8". In a question asked in %, a number without % is taken as one.
// Errors: one sentence that says what was expected and found: no number, another unit, a division by zero.
//   parse_answer("2^10", "bytes") == 1024    parse_answer("12.5%", "") == 0.125    parse_answer("12.5%", "%") == 12.5
Expected<double> parse_answer(std::string_view typed, std::string_view unit);

// A number with its unit, as shown: "1,048,576 bytes (1 MiB)", "4.174 nats", "12.5%".
std::string amount_text(double value, std::string_view unit);

enum class Verdict { right, wrong, skipped };
std::string_view verdict_name(Verdict);

// A question that was asked. `answer` is what the learner predicted; none: skipped.
struct InterviewTurn {
  InterviewQuestion question;
  std::optional<double> answer;
  double computed = 0;
  Verdict verdict = Verdict::skipped;
};
// Runs the engine and judges the answer.
InterviewTurn judge(const InterviewQuestion&, std::optional<double> answer);
// What counts: "within 5%", "within 0.03", "to the digit".
std::string tolerance_text(const Tolerance&);
// "to the digit", "12% too large", "off by 0.03": one phrase. Empty for a skipped one.
std::string distance_text(const InterviewTurn&);

struct TopicScore {
  std::string topic;
  Index right = 0, wrong = 0, skipped = 0;
  Index asked() const { return right + wrong + skipped; }
};
// One for each topic that was asked, in the order of interview_topics().
std::vector<TopicScore> interview_scores(std::span<const InterviewTurn>);
// What to read: of the questions that were not right, each reading once, those of the most missed first.
std::vector<std::string> interview_readings(std::span<const InterviewTurn>);

}  // namespace glassformer
