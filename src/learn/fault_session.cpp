#include "glassformer/learn/fault_session.hpp"

#include <algorithm>
#include <array>

#include "glassformer/plot/text.hpp"
#include "learn/fault_state.hpp"

namespace glassformer {
namespace {

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < line.size();) {
    const auto begin = line.find_first_not_of(" \t\r", at);
    if (begin == std::string_view::npos) break;
    const auto end = std::min(line.find_first_of(" \t\r", begin), line.size());
    words.emplace_back(line.substr(begin, end - begin));
    at = end;
  }
  return words;
}

// Every candidate, in the order of the alphabet, so that their numbers say nothing.
std::vector<const Fault*> candidates() {
  std::vector<const Fault*> all;
  for (const Fault& f : faults()) all.push_back(&f);
  std::ranges::sort(all, {}, &Fault::title);
  return all;
}

constexpr const char* kHelp = R"(  sites                    where one can look in, and how large values are
  trace SITE [ROW] [HEAD]  the values there, and what theory expects of them
  mode full|decode         read in one pass, or token by token through the cache
  eval                     the loss on held-out text, and by place
  train                    a run from fresh weights: loss, norm, rate
  gradcheck                the backward pass against numeric gradients
  sample [PROMPT]          what it writes: with the cache, without, and drawn
  data                     a batch: what is read, and what is asked for
  settings                 the configuration and the options in use
  symptom                  the complaint and its numbers once more
  hint                     one step further
  causes                   all candidates, numbered
  guess TEXT or NUMBER     in your own words, or the number of a candidate
  answer                   give up: what is wrong
  quit                     leave
)";
constexpr const char* kCommands =
    "sites, trace, mode, eval, train, gradcheck, sample, data, settings, symptom, hint, causes, guess, answer, help, quit";

// "give" alone, or "data is shifted" where a guess was asked for, is none: only words that a command takes follow it.
bool is_command(const std::vector<std::string>& words) {
  const std::string& name = words[0];
  if (name == "give") return words.size() == 2 && words[1] == "up";
  if (name == "guess" || name == "trace" || name == "sample" || name == "mode") return true;
  constexpr std::array kAlone = {"sites", "eval",   "train", "gradcheck", "data", "settings", "symptom",
                                 "hint",  "causes", "help",  "answer",    "quit", "exit",     "q", "?"};
  return words.size() == 1 && std::ranges::find(kAlone, name) != kAlone.end();
}

}  // namespace

std::string FaultSession::State::hint() {
  if (hints >= static_cast<int>(fault.hints.size())) return "  No more hints: answer tells what is wrong.\n";
  const std::string text = fmt::format("hint {} of {}: {}", hints + 1, fault.hints.size(), fault.hints[static_cast<std::size_t>(hints)]);
  ++hints;
  return wrapped(text, "  ");
}

std::string FaultSession::State::causes() const { return numbered(candidates()); }

// These candidates, with the numbers that they have among all.
std::string FaultSession::State::numbered(const std::vector<const Fault*>& some) const {
  std::string all;
  const auto list = candidates();
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (std::ranges::find(some, list[i]) != some.end()) all += fmt::format("  {:>2}  ", i + 1) + plot::fit(list[i]->title, width - 6) + "\n";
  }
  return all;
}

// A guess is one cause: neither a list of them, nor what is in order.
std::string FaultSession::State::which_of(const std::vector<const Fault*>& named) {
  asked = true;
  const std::string understood = "  Understood:\n" + numbered(named);
  return understood + (named.size() > 1 ? "  One guess is one cause. Which one?\n" : "  Say what is wrong, not what is in order. Which one?\n");
}

std::string FaultSession::State::guess(std::string_view text) {
  const auto list = candidates();
  const auto chosen = whole_number(text);
  if (text.empty()) {
    asked = true;
    return causes() + "  Which one? A number, or your own words; an empty line to go on looking.\n";
  }
  if (chosen && (*chosen < 1 || *chosen > static_cast<Index>(list.size()))) {
    asked = true;
    return fmt::format("  Expected a candidate from 1 to {}, or words; found {}. Which one?\n", list.size(), text);
  }
  const std::vector<const Fault*> named =
      chosen ? std::vector<const Fault*>{list[static_cast<std::size_t>(*chosen - 1)]} : faults_named(text);
  if (named.empty() && asked) return "  Expected a candidate's number, or words that name one. Which one?\n";
  if (named.empty()) return "  No cause is known by these words: causes lists the candidates.\n";
  if (!chosen && (named.size() > 1 || denies(text))) return which_of(named);
  asked = false;
  if (named.front() != &fault) return wrapped(fmt::format("No, this is in order. (Understood: {}.)", named.front()->title), "  ");
  found = true;
  finish();
  return fmt::format("  Yes{}.\n\n", hints == 0 ? ", and without a hint" : fmt::format(", with {} hint{}", hints, hints == 1 ? "" : "s")) +
         answer();
}

std::string FaultSession::State::answer() const {
  std::string all = wrapped(fmt::format("Fault {}: {}.", fault.number, fault.title), "  ") + wrapped(fault.answer, "  ") + "\n";
  all += wrapped(fmt::format("Where it would live: {}", fault.file), "  ") + wrapped(fault.line, "    ");
  return all + wrapped(fmt::format("The test that would have caught it: {}", fault.test_file), "  ") +
         wrapped(fmt::format("\"{}\"", fault.test), "    ");
}

FaultSession::FaultSession(Rig& rig, const Fault& fault, Index width) : state_(new State{rig, fault, width, {}, {}, nullptr}) {
  require(!rig.planted, "a session needs a healthy rig, and this one has a fault in it");
  const std::string why = obstacle(fault, rig);
  require(why.empty(), "fault {}: {}", fault.number, why);
  state_->keep_log();
  state_->planted = plant(fault, rig);
  state_->symptom = measure(rig, fault.probe);
}
FaultSession::~FaultSession() = default;

const Symptom& FaultSession::healthy() const { return state_->log.symptom; }
const Symptom& FaultSession::faulty() const { return state_->symptom; }
bool FaultSession::finished() const { return state_->finished; }
bool FaultSession::found() const { return state_->found; }
int FaultSession::hints() const { return state_->hints; }
std::string FaultSession::prompt() const { return state_->asked ? "which one> " : state_->decode ? "debug (decode)> " : "debug> "; }

std::string FaultSession::opening() const {
  return state_->tell_symptom() + "\n" +
         state_->wrapped(
             "One thing in this engine is wrong. Find it: sites, trace, eval and gradcheck look, hint helps, guess ends it; help lists all "
             "commands.");
}

std::string FaultSession::reply(std::string_view line) {
  State& s = *state_;
  if (s.finished) return "";
  const std::vector<std::string> words = words_of(line);
  if (words.empty()) return s.asked = false, "";
  const bool guess = s.asked && !is_command(words);
  std::string rest;  // behind the command
  for (std::size_t i = guess ? 0 : 1; i < words.size(); ++i) rest += (rest.empty() ? "" : " ") + words[i];
  if (guess || words[0] == "guess") return s.guess(rest);
  s.asked = s.asked && words[0] == "causes";  // any other command goes on looking
  return s.command(words, rest);
}

std::string FaultSession::State::command(const std::vector<std::string>& words, const std::string& rest) {
  const std::string& name = words[0];
  if (name == "quit" || name == "exit" || name == "q") return finish(), "";
  if (name == "help" || name == "?") return kHelp;
  if (name == "sites") return sites();
  if (name == "trace") return trace(words);
  if (name == "eval") return evaluation();
  if (name == "train") return training();
  if (name == "gradcheck") return gradients();
  if (name == "sample") return sample(rest);
  if (name == "data") return data();
  if (name == "settings") return settings();
  if (name == "symptom") return tell_symptom();
  if (name == "hint") return hint();
  if (name == "causes") return causes();
  if (name == "answer" || (name == "give" && rest == "up")) return finish(), answer();
  if (name == "mode") {
    if (rest != "full" && rest != "decode")
      return fmt::format("mode: expected full or decode, found {}\n", rest.empty() ? "nothing" : shown(rest));
    decode = rest == "decode";
    return wrapped(decode ? "A document's first half is read in one pass, the rest token by token through the cache."
                          : "Documents are read in one pass.",
                   "  ");
  }
  return wrapped(fmt::format("expected a command of {}, found {}", kCommands, shown(name)));
}

}  // namespace glassformer
