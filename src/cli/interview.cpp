// interview: predict a number, then see the engine compute it.
#include "glassformer/learn/interview.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <random>

#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer::cli {
namespace {

constexpr Index kDefaultQuestions = 10;

std::string topics_text() {
  std::string text;
  for (const std::string& t : interview_topics()) text += (text.empty() ? "" : ", ") + t;
  return text;
}

Options declare() {
  Options o("interview",
            "Asks as an interviewer would, takes your number first, then computes it with the engine and shows how one gets there.\n"
            "Answer with a number (1024, 1,024, 1k, 1 KiB, 2^10, 3e5, 12.5%, 2*8*64*4, ln(65)). Enter alone or \"skip\" skips, \"why\" "
            "shows the\n"
            "derivation, \"quit\" ends with the score so far.");
  o.text("topic", "NAME", "only questions of " + topics_text());
  o.integer("questions", kDefaultQuestions, 1, "how many to ask");
  o.text("ask", "ID", "this one question; --list shows the ids");
  o.flag("list", "list topics and questions, ask nothing");
  o.integer("seed", std::nullopt, 0, "draws the sizes and the order (another one each time)");
  o.common(kJson);
  o.example("glassformer interview");
  o.example("glassformer interview --topic cache --questions 5");
  o.example("glassformer interview --ask cache-bytes --seed 3");
  return o;
}

// Where the learner types and reads.
class Screen {
 public:
  Screen() : terminal_(terminal(stdout)), typed_by_hand_(::isatty(STDIN_FILENO) == 1), width_(std::clamp<Index>(terminal_.width, 40, 80)) {}

  bool typed_by_hand() const { return typed_by_hand_; }
  std::string styled(const char* code, std::string_view text) const {
    return terminal_.colour ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
  }
  std::string bold(std::string_view text) const { return styled("1", text); }
  std::string dim(std::string_view text) const { return styled("2", text); }

  void line(std::string_view text = "") const { print_output(std::string(text) + "\n"); }
  void paragraph(std::string_view text, std::string_view indent = "  ") const {
    for (const std::string& l : plot::wrap(text, width_, indent)) line(l);
  }
  // "  Formula   sentences that go on under themselves"
  void labelled(std::string_view label, std::string_view text) const {
    const std::string indent(kLabel + 2, ' ');
    bool first = true;
    for (const std::string& l : plot::wrap(text, width_, indent)) {
      line(first ? "  " + dim(plot::pad_right(label, kLabel)) + l.substr(indent.size()) : l);
      first = false;
    }
  }
  void rule(std::string_view left, std::string_view right) const {
    const Index room = width_ - plot::display_width(left) - plot::display_width(right) - 2;
    std::string dashes;
    for (Index i = 0; i < std::max<Index>(1, room); ++i) dashes += "─";
    line(bold(left) + " " + dim(dashes) + " " + bold(right));
  }

  // What was typed; none at the end of the input. What a file or a pipe says is shown, so that the transcript reads well.
  std::optional<std::string> ask(std::string_view prompt) const {
    print_output(std::string(prompt) + " ");
    flush_output();
    std::string typed;
    int c = std::fgetc(stdin);
    if (c == EOF) {
      line();
      return std::nullopt;
    }
    for (; c != EOF && c != '\n'; c = std::fgetc(stdin)) {
      if (typed.size() < 1000) typed += static_cast<char>(c);
    }
    if (!typed.empty() && typed.back() == '\r') typed.pop_back();
    if (!typed_by_hand_) line(plot::fit(plot::visible(typed, false), width_ - 4));
    return typed;
  }

 private:
  static constexpr Index kLabel = 12;
  Terminal terminal_;
  bool typed_by_hand_;
  Index width_;
};

enum class Wish { answer, skip, why, quit };

// answer: none of the other words.
Wish wish_of(const std::string& typed) {
  std::string word;
  for (const char c : typed) {
    if (c != ' ' && c != '\t') word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (word.empty() || word == "skip" || word == "s") return Wish::skip;
  if (word == "why" || word == "why?" || word == "?") return Wish::why;
  return word == "quit" || word == "q" || word == "exit" ? Wish::quit : Wish::answer;
}

// Asks until there is a number or a wish.
Wish take_answer(const Screen& screen, const InterviewQuestion& q, std::optional<double>& answer) {
  const std::string unit = q.unit.empty() ? "" : q.unit == "%" ? " in %" : ", " + q.unit;
  const std::string prompt =
      fmt::format("  {} {}", screen.bold("Your number" + unit), screen.dim(fmt::format("({} counts):", tolerance_text(q.tolerance))));
  while (true) {
    const auto typed = screen.ask(prompt);
    if (!typed) return Wish::quit;
    if (const Wish wish = wish_of(*typed); wish != Wish::answer) return wish;
    const Expected<double> number = parse_answer(*typed, q.unit);
    if (number) {
      answer = *number;
      return Wish::answer;
    }
    screen.paragraph(fmt::format("{}. Enter skips.", number.error()));
  }
}

void show_result(const Screen& screen, const InterviewTurn& turn) {
  const InterviewQuestion& q = turn.question;
  screen.line();
  const std::string engine = fmt::format("The engine: {}.", amount_text(turn.computed, q.unit));
  if (!turn.answer) {
    screen.line("  " + screen.bold("– " + engine));
  } else {
    const bool right = turn.verdict == Verdict::right;
    const std::string yours = fmt::format("You: {}, {}{}.", amount_text(*turn.answer, q.unit), distance_text(turn),
                                          right && *turn.answer != turn.computed ? ", which counts" : "");
    screen.line("  " + screen.styled(right ? "1;32" : "1;31", (right ? "✓ " : "✗ ") + engine));
    screen.paragraph(yours, "    ");
  }
  screen.line();
  screen.labelled("Derivation", q.derivation);
  screen.labelled("Elsewhere", q.carry_over);
}

// False when that is enough.
bool show_follow_up(const Screen& screen, const InterviewQuestion& q) {
  screen.line();
  screen.labelled("Follow-up", q.follow_up);
  if (screen.typed_by_hand()) {
    const auto typed = screen.ask("  " + screen.dim("            say your answer aloud, then press Enter"));
    if (!typed || wish_of(*typed) == Wish::quit) {
      screen.line();
      return false;
    }
  }
  screen.labelled("Answer", q.follow_up_answer);
  screen.line();
  return true;
}

std::vector<InterviewTurn> hold(const Screen& screen, const std::vector<InterviewQuestion>& questions) {
  std::vector<InterviewTurn> turns;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const InterviewQuestion& q = questions[i];
    screen.rule(fmt::format("{} of {}", i + 1, questions.size()), q.topic);
    screen.line();
    screen.paragraph(q.text);
    screen.line();
    std::optional<double> answer;
    const Wish wish = take_answer(screen, q, answer);
    if (wish == Wish::quit) {
      screen.line();
      break;
    }
    turns.push_back(judge(q, answer));
    show_result(screen, turns.back());
    if (!show_follow_up(screen, q)) break;
  }
  return turns;
}

// For each topic where something was missed.
void show_readings(const Screen& screen, const std::vector<InterviewTurn>& turns) {
  bool first = true;
  for (const TopicScore& s : interview_scores(turns)) {
    if (s.right == s.asked()) continue;
    std::vector<InterviewTurn> of_topic;
    std::ranges::copy_if(turns, std::back_inserter(of_topic), [&](const InterviewTurn& t) { return t.question.topic == s.topic; });
    std::string text;
    for (const std::string& reading : interview_readings(of_topic)) text += (text.empty() ? "" : ", ") + reading;
    if (first) screen.line("\n  " + screen.bold("Read next"));
    screen.labelled(s.topic, text);
    first = false;
  }
}

void show_score(const Screen& screen, const std::vector<InterviewTurn>& turns, std::size_t planned, std::uint64_t seed) {
  screen.rule("Score", fmt::format("{} of {} asked", turns.size(), planned));
  screen.line();
  Index right = 0;
  for (const TopicScore& s : interview_scores(turns)) {
    right += s.right;
    std::string note = s.wrong > 0 ? fmt::format("{} wrong", s.wrong) : "";
    if (s.skipped > 0) note += fmt::format("{}{} skipped", note.empty() ? "" : ", ", s.skipped);
    const std::string count = fmt::format("{} of {}", s.right, s.asked());
    const std::string topic =
        fmt::format("  {} {}", plot::pad_right(s.topic, 12), screen.styled(s.right == s.asked() ? "32" : "31", count));
    screen.line(note.empty() ? topic : fmt::format("{}  {}", topic, screen.dim(note)));
  }
  const auto asked = static_cast<Index>(turns.size());
  screen.line("  " + screen.bold(fmt::format("{} {} of {}", plot::pad_right("together", 12), right, asked)));
  show_readings(screen, turns);
  screen.line("\n  " + screen.dim(fmt::format("The same questions again: --seed {}", seed)));
}

void list_questions(const Screen& screen, std::uint64_t seed) {
  std::string topic;
  for (const InterviewQuestion& q : interview_questions(seed)) {
    if (q.topic != topic) screen.line((topic.empty() ? "" : "\n") + screen.bold(q.topic));
    topic = q.topic;
    screen.line("  " + q.id);
    screen.paragraph(q.text, "      ");
  }
}

JsonLine json_of(const InterviewTurn& turn) {
  const InterviewQuestion& q = turn.question;
  JsonLine json;
  json.add("id", std::string_view(q.id))
      .add("topic", std::string_view(q.topic))
      .add("question", std::string_view(q.text))
      .add("unit", std::string_view(q.unit));
  json.add("answer", turn.answer.value_or(std::nan("")))
      .add("computed", turn.computed)
      .add("formula", q.formula)
      .add("verdict", verdict_name(turn.verdict));
  json.add("tolerance_relative", q.tolerance.relative).add("tolerance_absolute", q.tolerance.absolute);
  return json.add("carry_over", q.carry_over_number);
}

void print_json(const std::vector<InterviewTurn>& turns, std::uint64_t seed) {
  JsonLine json;
  TopicScore all;
  json.add("seed", static_cast<Index>(seed));
  const std::span<const Token> none;  // an empty list, where nothing is asked
  json.add("topics", none);
  for (const TopicScore& s : interview_scores(turns)) {
    all.right += s.right, all.wrong += s.wrong, all.skipped += s.skipped;
    JsonLine topic;
    topic.add("topic", std::string_view(s.topic))
        .add("asked", s.asked())
        .add("right", s.right)
        .add("wrong", s.wrong)
        .add("skipped", s.skipped);
    json.push("topics", topic);
  }
  json.add("asked", all.asked()).add("right", all.right).add("wrong", all.wrong).add("skipped", all.skipped);
  json.add("questions", none);
  for (const InterviewTurn& turn : turns) json.push("questions", json_of(turn));
  json.print();
}

std::vector<InterviewQuestion> selected(const Options& o, std::uint64_t seed) {
  if (!o.given("ask")) {
    const std::string topic = o.text("topic");
    const auto& topics = interview_topics();
    require_usage(!o.given("topic") || std::ranges::find(topics, topic) != topics.end(), "--topic: expected one of {}, found {}{}",
                  topics_text(), topic, did_you_mean(topic, topics));
    return interview_selection(seed, topic, o.integer("questions"));
  }
  require_usage(!o.given("topic") && !o.given("questions"), "expected either --ask ID or --topic and --questions, found both");
  std::vector<std::string> ids;
  for (InterviewQuestion& q : interview_questions(seed)) {
    if (q.id == o.text("ask")) return {std::move(q)};
    ids.push_back(q.id);
  }
  throw UsageError(
      fmt::format("--ask: expected the id of a question (--list shows them), found {}{}", o.text("ask"), did_you_mean(o.text("ask"), ids)));
}

}  // namespace

int interview_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  const Screen screen;
  const std::uint64_t seed = o.given("seed") ? static_cast<std::uint64_t>(o.integer("seed")) : std::random_device{}() % 10000;
  if (o.is_set("list")) {
    list_questions(screen, seed);
    return 0;
  }
  const std::vector<InterviewQuestion> questions = selected(o, seed);
  screen.line(screen.bold("glassformer interview") +
              fmt::format(": {} question{}. Predict; then the engine computes it.", questions.size(), questions.size() == 1 ? "" : "s"));
  screen.line(screen.dim("Type a number: 1024, 1,024, 1k, 1 KiB, 2^10, 3e5, 12.5%, 2*8*64, ln(65)."));
  screen.line(screen.dim("Enter skips, \"why\" shows how one gets there, \"quit\" ends with the score."));
  screen.line();
  const std::vector<InterviewTurn> turns = hold(screen, questions);
  show_score(screen, turns, questions.size(), seed);
  if (o.json()) print_json(turns, seed);
  return 0;
}

}  // namespace glassformer::cli
