// The conversation: what is answered to what is typed.
#include "glassformer/learn/fault_session.hpp"

#include <doctest/doctest.h>

#include <sstream>

#include "glassformer/plot/text.hpp"
#include "small_rig.hpp"

namespace glassformer {
namespace {

bool says(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("session: the complaint and both columns of numbers, and nothing that gives it away") {
  for (const char* id : {"scale", "sum", "stale", "nucleus", "alpha"}) {
    const Fault& f = fault(std::string_view(id));
    FaultSession s(rig(), f);
    const std::string opening = s.opening();
    CHECK(says(opening, f.symptom.substr(0, 40)));
    for (std::size_t i = 0; i < s.faulty().readings.size(); ++i) {
      for (const ProbeReading* r : {&s.healthy().readings[i], &s.faulty().readings[i]})
        CHECK(says(opening, " " + plot::number(r->value, r->decimals)));
    }
    CHECK(!says(opening, f.title));
  }
  CHECK(!rig().trace);  // taken out at the session's end
}

TEST_CASE("session: found by words, by a candidate's number, and with hints counted") {
  const Fault& f = fault("residual");
  FaultSession s(rig(), f);
  CHECK(says(s.reply("hint"), f.hints[0].substr(0, 30)));
  CHECK(s.hints() == 1);
  CHECK(says(s.reply("guess the temperature"), "Understood: the temperature is applied twice"));
  CHECK(says(s.reply("guess rabbit"), "No cause is known"));
  CHECK(!s.finished());
  const std::string end = s.reply("  guess   the Residual connection ");
  CHECK(says(end, "Yes, with 1 hint"));
  CHECK(says(end, f.file));
  CHECK(says(end, f.test));
  CHECK(s.finished());
  CHECK(s.found());
  CHECK(s.reply("sites").empty());

  {
    FaultSession gradients(rig(), fault("uncleared"));
    CHECK(says(gradients.reply("guess the gradients are not zeroed"), "Yes"));
  }
  FaultSession again(rig(), f);
  std::istringstream causes(again.reply("causes"));
  std::string line, number;
  while (std::getline(causes, line)) {
    if (says(line, f.title)) number = line.substr(0, 4);
  }
  CHECK(says(again.reply("guess " + number), "Yes, and without a hint"));
}

TEST_CASE("session: an answer that is none is asked again; an empty one is let be") {
  FaultSession s(rig(), fault("axis"));
  CHECK(says(s.reply("guess"), "Which one?"));
  CHECK(s.prompt() == "which one> ");
  CHECK(says(s.reply("xyz"), "Which one?"));
  CHECK(says(s.reply("99"), "from 1 to 24, or words; found 99"));
  CHECK(says(s.reply("0"), "from 1 to 24"));
  CHECK(s.prompt() == "which one> ");
  s.reply("");
  CHECK(s.prompt() == "debug> ");
  s.reply("guess");
  CHECK(says(s.reply("softmax over the columns"), "Yes"));
}

TEST_CASE("session: a guess names one cause, and not what is in order") {
  FaultSession s(rig(), fault("residual"));
  std::string all;
  for (const Fault& f : faults()) all += f.keywords.front() + ", ";
  for (const std::string& words : {std::string("it is not the residual connection but the sampler"),
                                   std::string("it is not the residual connection but the temperature"), all}) {
    CAPTURE(words);
    const std::string reply = s.reply("guess " + words);
    CHECK(says(reply, fault("residual").title));  // what was understood
    CHECK(says(reply, "Which one?"));
    CHECK(!s.finished());
    CHECK(s.prompt() == "which one> ");
  }
  CHECK(says(s.reply("the residual connection"), "Yes"));
}

TEST_CASE("session: where a guess is asked for, commands are commands") {
  FaultSession s(rig(), fault("axis"));
  s.reply("guess");
  CHECK(says(s.reply("hint"), "hint 1 of 3"));
  CHECK(s.prompt() == "debug> ");
  s.reply("guess");
  CHECK(says(s.reply("mode decode"), "token by token"));
  CHECK(s.prompt() == "debug (decode)> ");
  s.reply("guess");
  CHECK(says(s.reply("sample"), "mia got a red"));
  s.reply("guess");
  CHECK(says(s.reply("causes"), " 24  "));
  CHECK(s.prompt() == "which one> ");
  CHECK(says(s.reply("guess 99"), "found 99"));
  CHECK(says(s.reply("data is shifted"), "Understood: " + fault("targets").title.substr(0, 20)));
  s.reply("guess");
  CHECK(says(s.reply("guess softmax over the columns"), "Yes"));
}

TEST_CASE("session: what was typed is quoted as text that a terminal does not obey, and cut between characters") {
  FaultSession s(rig(), fault("scale"));
  const std::string hostile = "\x1b[2J\xff\xc3" + std::string(300, 'x');
  for (const std::string& line : {hostile, "mode " + hostile, "trace " + hostile, "trace blocks.9" + hostile,
                                  "trace blocks.0.attn.q " + hostile, "trace blocks.0.attn.pattern 1 " + hostile, "guess " + hostile}) {
    const std::string reply = s.reply(line);
    CAPTURE(reply);
    CHECK(!reply.empty());
    for (const char* byte : {"\x1b", "\xff", "\xc3x"}) CHECK(!says(reply, byte));
    CHECK(!says(reply, std::string(41, 'x')));
  }
}

TEST_CASE("session: what does not exist is answered with what does") {
  FaultSession s(rig(), fault("scale"));
  CHECK(says(s.reply("rabbit"), "sites, trace, mode"));
  CHECK(says(s.reply("trace"), "expected a site"));
  CHECK(says(s.reply("trace blocks.0.attn.rabbit"), "blocks.0.attn.pattern"));
  CHECK(says(s.reply("trace blocks.7.attn.q"), "a layer from 0 to 1"));
  CHECK(says(s.reply("trace blocks.x.attn.q"), "a layer from 0 to 1"));
  CHECK(says(s.reply("trace blocks.0.attn.q ten"), "a row from 0 to"));
  CHECK(says(s.reply("trace blocks.0.attn.q 100000"), "a row from 0 to"));
  CHECK(says(s.reply("trace blocks.0.attn.pattern 1 4"), "a head from 0 to 3"));
  CHECK(says(s.reply("trace blocks.0.attn.q 1 1"), "has no heads"));
  CHECK(says(s.reply("mode sideways"), "full or decode"));
  CHECK(s.reply("").empty());
  CHECK(s.reply("   ").empty());
  CHECK(!s.finished());
  CHECK(s.reply("quit").empty());
  CHECK(s.finished());
  CHECK(!s.found());
}

TEST_CASE("session: every command works under every fault, in 80 columns, and giving up tells the answer") {
  for (const Fault& f : faults()) {
    CAPTURE(f.id);
    FaultSession s(rig(), f);
    std::string all = s.opening();
    for (const char* line : {"help",
                             "sites",
                             "trace blocks.0.attn.pattern",
                             "trace blocks.1.attn.attn_scores 3 1",
                             "trace logits 5",
                             "trace embed.grad",
                             "mode decode",
                             "sites",
                             "trace blocks.0.attn.pattern",
                             "mode full",
                             "eval",
                             "sample",
                             "sample tom",
                             "data",
                             "settings",
                             "symptom",
                             "causes",
                             "hint",
                             "hint",
                             "hint",
                             "hint"}) {
      const std::string reply = s.reply(line);
      CAPTURE(line);
      CHECK(!reply.empty());
      all += reply;
    }
    all += s.reply("give up");
    CHECK(s.finished());
    CHECK(!s.found());
    std::istringstream lines(all);
    std::string line;
    while (std::getline(lines, line)) CHECK_MESSAGE(plot::display_width(line) <= 80, line);
  }
}

TEST_CASE("session: train and gradcheck show the mistake beside the log") {
  {
    FaultSession s(rig(), fault("gelu"));
    CHECK_THROWS_AS(FaultSession(rig(), fault("head")), std::invalid_argument);  // one rig, one session
    const std::string check = s.reply("gradcheck");
    CHECK(says(check, "FAIL"));
    CHECK(says(check, "blocks.1.mlp.up.weight"));
    CHECK(says(s.reply("train"), "healthy: loss, norm"));
  }
  FaultSession right(rig(), fault("head"));
  CHECK(says(right.reply("gradcheck"), "PASS"));
  const std::string before = right.reply("sites");
  right.reply("train");
  CHECK(right.reply("sites") == before);  // a run leaves the weights as they were
}

}  // namespace glassformer
