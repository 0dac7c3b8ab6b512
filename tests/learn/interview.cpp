// The questions: what the engine computes is what the formula says, for several seeds; and what surrounds them.
#include "glassformer/learn/interview.hpp"

#include <doctest/doctest.h>

#include <cctype>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <map>
#include <set>

#include "glassformer/model/decoder.hpp"
#include "learn/formulas.hpp"

using namespace glassformer;

TEST_CASE("each engine number agrees with its independent formula, whatever the seed") {
  for (const std::uint64_t seed : {1, 2, 3, 17, 4711}) {
    for (const InterviewQuestion& q : interview_questions(seed)) {
      CAPTURE(seed);
      CAPTURE(q.id);
      CAPTURE(q.text);
      const double computed = q.compute();
      CAPTURE(computed);
      CAPTURE(q.formula);
      CHECK(q.agreement.covers(computed, q.formula));
      // Whoever computes by the formula is right.
      CHECK(q.tolerance.covers(q.formula, computed));
      CHECK(judge(q, q.formula).verdict == Verdict::right);
    }
  }
}

TEST_CASE("an answer that is wrong does not count") {
  for (const InterviewQuestion& q : interview_questions(5)) {
    CAPTURE(q.id);
    CHECK(q.tolerance.relative <= 0.2);
    const double wrong = q.formula == 0 ? 0.1 : q.formula * 1.5;
    CHECK(judge(q, wrong).verdict == Verdict::wrong);
    CHECK(judge(q, -1.0 - std::abs(q.formula)).verdict == Verdict::wrong);
    CHECK(judge(q, std::nullopt).verdict == Verdict::skipped);
  }
}

TEST_CASE("at least 44 questions over all topics, complete, with ids of their own") {
  const std::vector<InterviewQuestion> all = interview_questions(1);
  CHECK(all.size() >= 44);
  std::set<std::string> ids;
  std::map<std::string, int> topics;
  for (const InterviewQuestion& q : all) {
    CAPTURE(q.id);
    CHECK(ids.insert(q.id).second);
    CHECK(q.id.starts_with(q.topic + "-"));
    ++topics[q.topic];
    for (const std::string& text : {q.text, q.derivation, q.carry_over, q.follow_up, q.follow_up_answer}) CHECK(text.size() > 12);
    CHECK(q.text.find('?') != std::string::npos);
    CHECK(q.follow_up.ends_with("?"));
    CHECK_FALSE(q.read.empty());
    CHECK(std::isfinite(q.carry_over_number));
  }
  CHECK(topics.size() == interview_topics().size());
  for (const std::string& topic : interview_topics()) CHECK_MESSAGE(topics[topic] >= 5, topic);
}

TEST_CASE("what to read exists") {
  const std::set<std::string> components = {"tokenizer", "position", "attention", "block",   "cache",
                                            "sampling",  "lora",     "quantize",  "backward"};
  std::set<std::string> notebooks;  // "01", "02", …: notebooks-cpp/NN_*.cpp
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(GLASSFORMER_SOURCE_DIR) / "notebooks-cpp")) {
    const std::string name = entry.path().filename().string();
    if (name.size() > 7 && std::isdigit(name[0]) && std::isdigit(name[1]) && name[2] == '_' && name.ends_with(".cpp"))
      notebooks.insert(name.substr(0, 2));
  }
  REQUIRE(!notebooks.empty());
  for (const InterviewQuestion& q : interview_questions(1)) {
    for (const std::string& reading : q.read) {
      CAPTURE(q.id);
      CAPTURE(reading);
      if (reading.starts_with("docs/")) {
        CHECK(std::filesystem::exists(std::filesystem::path(GLASSFORMER_SOURCE_DIR) / reading));
      } else if (reading.starts_with("glassformer explain ")) {
        CHECK(components.contains(reading.substr(20)));
      } else if (reading.starts_with("notebook ")) {
        CHECK(notebooks.contains(reading.substr(9)));
      } else {
        CHECK(reading == "glassformer bench train");
      }
    }
  }
}

TEST_CASE("the same seed asks the same; another seed draws other sizes") {
  const auto one = interview_questions(8), again = interview_questions(8), other = interview_questions(9);
  REQUIRE(one.size() == again.size());
  REQUIRE(one.size() == other.size());
  std::size_t differ = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    CHECK(one[i].id == again[i].id);
    CHECK(one[i].text == again[i].text);
    CHECK(one[i].compute() == again[i].compute());
    CHECK(one[i].id == other[i].id);
    differ += one[i].text != other[i].text;
  }
  CHECK(differ > one.size() / 2);
}

TEST_CASE("all numbers are computed in less than ten seconds of CPU") {
  const std::clock_t begin = std::clock();  // CPU time of all threads: other programs do not count
  for (const InterviewQuestion& q : interview_questions(1)) q.compute();
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  MESSAGE("all questions: ", seconds, " s");
  CHECK(seconds < 10);
}

TEST_CASE("models that people know have the sizes that their makers published") {
  using namespace glassformer::learn;
  CHECK(parameters(gpt2_small()) == 124439808);
  CHECK(parameters(llama2_7b()) == 6738415616);
  CHECK(parameters(llama3_8b()) == 8030261248);
  CHECK(parameters(mistral_7b()) == 7241732096);
  CHECK(cache_bytes(llama3_8b(), 1, 2) == 128 * 1024);
  CHECK(cache_bytes(llama2_7b(), 1, 2) == 512 * 1024);
  // The engine lays them out alike (names and shapes alone; nothing is allocated).
  for (const ModelConfig& c : {gpt2_small(), llama2_7b(), llama3_8b(), mistral_7b()}) {
    CHECK(parameters(c) == static_cast<double>(decoder_layout(c)->parameters()));
  }
}

TEST_CASE("carry-over numbers that are published") {
  const std::map<std::string, double> expected = {
      {"cache-bytes", 131072},       {"block-gpt", 124439808},           {"block-llama", 8030261248}, {"tokenizer-merges", 50257},
      {"positions-table", 786432},   {"checkpoints-bytes", 16060522496}, {"lora-parameters", 294912}, {"lora-share", 4194304},
      {"block-parameters", 7087872}, {"training-memory", 107814649856},  {"cache-grouped", 4},        {"numerics-counting", 256}};
  std::size_t found = 0;
  for (const InterviewQuestion& q : interview_questions(3)) {
    const auto at = expected.find(q.id);
    if (at == expected.end()) continue;
    CHECK_MESSAGE(q.carry_over_number == at->second, q.id);
    ++found;
  }
  CHECK(found == expected.size());
}

TEST_CASE("a selection visits every topic before it returns to one") {
  const auto ten = interview_selection(3, "", 10);
  std::set<std::string> topics;
  for (const InterviewQuestion& q : ten) topics.insert(q.topic);
  CHECK(ten.size() == 10);
  CHECK(topics.size() == 10);

  const auto again = interview_selection(3, "", 10), other = interview_selection(4, "", 10);
  bool same = true;
  for (std::size_t i = 0; i < 10; ++i) {
    CHECK(ten[i].id == again[i].id);
    same = same && ten[i].id == other[i].id;
  }
  CHECK_FALSE(same);

  const auto cache = interview_selection(3, "cache", 1000);
  CHECK(cache.size() >= 5);
  for (const InterviewQuestion& q : cache) CHECK(q.topic == "cache");
  std::set<std::string> ids;
  for (const InterviewQuestion& q : interview_selection(3, "", 1000)) ids.insert(q.id);
  CHECK(ids.size() == interview_questions(3).size());

  CHECK_THROWS_WITH_AS(interview_selection(1, "cash", 3), doctest::Contains("expected one of tokenizer, positions"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(interview_selection(1, "", 0), doctest::Contains("expected at least 1"), std::invalid_argument);
}

namespace {

InterviewTurn turn_of(std::string topic, double computed, std::optional<double> answer, Tolerance tolerance = {0.1, 0},
                      std::vector<std::string> read = {}) {
  InterviewQuestion q;
  q.topic = std::move(topic), q.tolerance = tolerance, q.read = std::move(read);
  q.compute = [computed] { return computed; };
  return judge(q, answer);
}

}  // namespace

TEST_CASE("the score is kept by topic") {
  const std::vector<InterviewTurn> turns = {turn_of("cache", 100, 109), turn_of("cache", 100, 111), turn_of("attention", 100, std::nullopt),
                                            turn_of("cache", 100, 91)};
  CHECK(turns[0].verdict == Verdict::right);
  CHECK(turns[1].verdict == Verdict::wrong);
  CHECK(turns[2].verdict == Verdict::skipped);
  CHECK(turns[3].verdict == Verdict::right);
  const auto scores = interview_scores(turns);
  REQUIRE(scores.size() == 2);  // in the order of the topics; those not asked are left out
  CHECK(scores[0].topic == "attention");
  CHECK(scores[0].skipped == 1);
  CHECK(scores[0].asked() == 1);
  CHECK(scores[1].topic == "cache");
  CHECK(scores[1].right == 2);
  CHECK(scores[1].wrong == 1);
  CHECK(interview_scores({}).empty());
}

TEST_CASE("readings are those of what was missed, the most missed first") {
  const std::vector<InterviewTurn> turns = {turn_of("cache", 1, 1, {0, 0}, {"right"}), turn_of("cache", 1, 2, {0, 0}, {"a", "b"}),
                                            turn_of("lora", 1, std::nullopt, {0, 0}, {"b", "c"})};
  CHECK(interview_readings(turns) == std::vector<std::string>{"b", "a", "c"});
}

TEST_CASE("what counts and how far off") {
  CHECK(tolerance_text({0.05, 0}) == "within 5%");
  CHECK(tolerance_text({0.005, 0}) == "within 0.5%");
  CHECK(tolerance_text({0, 0.03}) == "within 0.03");
  CHECK(tolerance_text({0, 1e-9}) == "to the digit");
  CHECK(distance_text(turn_of("cache", 100, 100)) == "to the digit");
  CHECK(distance_text(turn_of("cache", 100, 112)) == "12% too large");
  CHECK(distance_text(turn_of("cache", 100, 95)) == "5% too small");
  CHECK(distance_text(turn_of("cache", 100, 800)) == "8 times too large");
  CHECK(distance_text(turn_of("cache", 100, 40)) == "2.5 times too small");
  CHECK(distance_text(turn_of("cache", 100, 1234567)) == "12,346 times too large");
  CHECK(distance_text(turn_of("cache", 0, 0.5)) == "off by 0.5000");
  CHECK(distance_text(turn_of("cache", 0.75, 0.5, {0, 0.1})) == "off by 0.2500");
  CHECK(distance_text(turn_of("cache", 5, -5)) == "off by 10");
  CHECK(distance_text(turn_of("cache", 5, std::nullopt)) == "");
}
