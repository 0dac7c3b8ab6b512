#include "glassformer/learn/fault_session.hpp"

#include <algorithm>

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

}  // namespace

std::string FaultSession::State::hint() {
  if (hints >= static_cast<int>(fault.hints.size())) return "  No more hints: answer tells what is wrong.\n";
  const std::string text = fmt::format("hint {} of {}: {}", hints + 1, fault.hints.size(), fault.hints[static_cast<std::size_t>(hints)]);
  ++hints;
  return wrapped(text, "  ");
}

std::string FaultSession::State::causes() const {
  std::string all;
  const auto list = candidates();
  for (std::size_t i = 0; i < list.size(); ++i) all += fmt::format("  {:>2}  ", i + 1) + plot::fit(list[i]->title, width - 6) + "\n";
  return all;
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
  const Fault* meant = chosen ? list[static_cast<std::size_t>(*chosen - 1)] : guesses(fault, text) ? &fault : nullptr;
  for (std::size_t i = 0; !meant && i < list.size(); ++i) meant = guesses(*list[i], text) ? list[i] : nullptr;
  if (!meant && asked) return "  Expected a candidate's number, or words that name one. Which one?\n";
  asked = false;
  if (!meant) return "  No cause is known by these words: causes lists the candidates.\n";
  if (meant != &fault) return wrapped(fmt::format("No, this is in order. (Understood: {}.)", meant->title), "  ");
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
  std::string rest;  // behind the first word
  for (std::size_t i = s.asked ? 0 : 1; i < words.size(); ++i) rest += (rest.empty() ? "" : " ") + words[i];
  const std::string command = words.empty() ? "" : words[0];
  const bool leaves = command == "quit" || command == "exit" || command == "q";
  if (command.empty()) return s.asked = false, "";
  if (s.asked && !leaves) return s.guess(rest);
  if (leaves) return s.finish(), "";
  if (command == "help" || command == "?") return kHelp;
  if (command == "sites") return s.sites();
  if (command == "trace") return s.trace(words);
  if (command == "eval") return s.evaluation();
  if (command == "train") return s.training();
  if (command == "gradcheck") return s.gradients();
  if (command == "sample") return s.sample(rest);
  if (command == "data") return s.data();
  if (command == "settings") return s.settings();
  if (command == "symptom") return s.tell_symptom();
  if (command == "hint") return s.hint();
  if (command == "causes") return s.causes();
  if (command == "guess") return s.guess(rest);
  if (command == "answer" || (command == "give" && rest == "up")) return s.finish(), s.answer();
  if (command == "mode") {
    if (rest != "full" && rest != "decode")
      return fmt::format("mode: expected full or decode, found {}\n", rest.empty() ? "nothing" : rest);
    s.decode = rest == "decode";
    return s.wrapped(s.decode ? "A document's first half is read in one pass, the rest token by token through the cache."
                              : "Documents are read in one pass.",
                     "  ");
  }
  return s.wrapped(fmt::format("expected a command of {}, found {}", kCommands, command));
}

}  // namespace glassformer
