// glassformer debug: learning by repair. Prints what a FaultSession says, and hands it what is typed.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <string>

#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/learn/fault_session.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer::cli {
namespace {

constexpr Index kWidth = 80;

Options declare() {
  Options o(
      "debug",
      "Learning by repair: runs the engine with a planted mistake, shows the symptom, and lets you find it. Without --fault, the list.");
  o.text("fault", "N", "number of the fault, or random (0) to have --seed pick one");
  o.path("model", "DIR", "plant it in this model (evaluation, cache and sampling only); a small one is trained unless given");
  o.common(kSeed | kThreads | kJson);
  o.example("glassformer debug");
  o.example("glassformer debug --fault 4");
  o.example("echo \"trace blocks.0.attn.pattern\" | glassformer debug --fault random --seed 7");
  return o;
}

std::string list() {
  std::string text = "Faults, by their symptoms. Plant one with glassformer debug --fault N, or random:\n";
  for (const Fault& f : faults()) {
    std::string number = fmt::format("\n{:>4}  ", f.number);
    for (const std::string& line : plot::wrap(f.symptom, kWidth - 6)) {
      text += number + line + "\n";
      number = "      ";
    }
  }
  return text;
}

// Which fault is meant by "7", "0", "random".
Index chosen(const std::string& text, std::uint64_t seed) {
  const auto count = static_cast<Index>(faults().size());
  Index n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  const bool numeric = !text.empty() && error == std::errc() && end == text.data() + text.size();
  require_usage(text == "random" || (numeric && n >= 0 && n <= count), "--fault: expected a number from 1 to {}, 0 or random, found {}",
                count, text.empty() ? "nothing" : text);
  return n > 0 ? n : 1 + static_cast<Index>(random_below(RandomStream{seed}.at("fault"), 0, static_cast<std::uint64_t>(count)));
}

Rig rig_of(const Options& o) {
  Rig rig;
  if (o.given("model")) {
    const ModelFiles model = load_to_explain(o);
    rig = make_rig(model.decoder, model.tokenizer, o.seed());
  } else {
    ProgressLine progress;
    rig = make_rig(o.seed(),
                   [&](Index step, Index steps) { progress.update(fmt::format("training a small model: step {} of {}", step, steps)); });
  }
  rig.training.exec = rig.writing.exec = o.exec();
  return rig;
}

// A fault that the rig cannot hold is not what random means: the next one is.
const Fault& fault_for(const Options& o, const Rig& rig) {
  const std::string asked = o.text("fault");
  const auto count = static_cast<Index>(faults().size());
  Index n = chosen(asked, o.seed());
  const bool fixed = asked != "random" && asked.find_first_not_of('0') != std::string::npos;
  for (Index tries = 0; !fixed && tries < count && !obstacle(fault(n), rig).empty(); ++tries) n = n % count + 1;
  return fault(n);
}

void print_json(const Fault& fault, const FaultSession& session) {
  JsonLine json;
  json.add("fault", fault.number).add("symptom", std::string_view(fault.symptom));
  for (std::size_t i = 0; i < session.faulty().readings.size(); ++i) {
    const ProbeReading &good = session.healthy().readings[i], &bad = session.faulty().readings[i];
    JsonLine reading;
    reading.add("name", std::string_view(bad.name)).add("unit", std::string_view(bad.unit));
    json.push("readings", reading.add("healthy", good.value).add("found", bad.value));
  }
  json.print();
}

void converse(FaultSession& session) {
  const bool typed = ::isatty(STDIN_FILENO) == 1;  // a terminal shows what was typed; elsewhere the line is shown here
  print_output(session.opening() + "\n");
  std::string line;
  while (!session.finished()) {
    if (typed) print_output(session.prompt());
    flush_output();
    if (!std::getline(std::cin, line)) {
      if (typed) print_output("\n");
      return;
    }
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!typed) print_output(session.prompt() + plot::visible(line, false) + "\n");
    try {
      print_output(session.reply(line));
    } catch (const std::invalid_argument& error) {  // what this engine cannot do, faulty as it is
      print_output(fmt::format("  {}\n", error.what()));
    }
  }
}

}  // namespace

int debug_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  if (!o.given("fault")) {
    require_usage(!o.given("model") && !o.json(), "expected --fault N beside --model and --json; glassformer debug lists the faults");
    print_output(list());
    return 0;
  }
  chosen(o.text("fault"), o.seed());  // a mistake is said before a model is trained
  Rig rig = rig_of(o);
  const Fault& planted = fault_for(o, rig);
  FaultSession session(rig, planted, kWidth);
  if (o.json()) {
    print_json(planted, session);
  } else {
    converse(session);
  }
  return 0;
}

}  // namespace glassformer::cli
