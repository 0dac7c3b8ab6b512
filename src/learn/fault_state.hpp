// What a session of repair knows; its answers are made in fault_session.cpp (hints, guesses) and fault_show.cpp (all that shows the
// engine).
#pragma once
#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "glassformer/learn/fault_session.hpp"
#include "glassformer/plot/text.hpp"
#include "learn/fault_look.hpp"

namespace glassformer {

// What somebody who watched a healthy engine wrote down.
struct FaultLog {
  Symptom symptom;
  std::vector<double> by_place;
  TrainingRun run;
  std::map<std::string, double> rms[2];  // of each site: in one pass, and token by token
};

struct FaultSession::State {
  Rig& rig;
  const Fault& fault;
  Index width;
  FaultLog log;
  Symptom symptom;
  std::unique_ptr<PlantedFault> planted;
  bool decode = false, finished = false, found = false, asked = false;  // asked: the next line is a guess, unless it is a command
  int hints = 0, looks = 0;

  void finish() { finished = true, planted.reset(); }
  Look look() { return look_at(rig, fault.probe, decode, static_cast<std::uint64_t>(++looks)); }
  std::string wrapped(const std::string& text, const std::string& indent = "") const {
    std::string all;
    for (const std::string& line : plot::wrap(text, width, indent)) all += line + "\n";
    return all;
  }
  // Text behind a label, its further lines as far in.
  std::string labelled(const std::string& label, const std::string& text) const {
    const std::string lines = wrapped(plot::visible(text, false), std::string(static_cast<std::size_t>(plot::display_width(label)), ' '));
    return label + lines.substr(std::min(label.size(), lines.size()));
  }
  std::string token(Token t) const { return t < 0 ? "·" : plot::visible(rig.tokenizer.token_bytes(t)); }

  void keep_log();
  std::string tell_symptom() const;
  std::string sites();
  std::string trace(const std::vector<std::string>& words);
  std::string values(const Look&, const Site&, const Matrix<float>&, std::optional<Index> row) const;
  std::string evaluation() const;
  std::string training();
  std::string gradients() const;
  std::string sample(std::string prompt) const;
  std::string data();
  std::string settings() const;
  std::string hint();
  std::string causes() const;
  std::string numbered(const std::vector<const Fault*>& some) const;
  std::string which_of(const std::vector<const Fault*>& named);
  std::string guess(std::string_view text);
  std::string answer() const;
  std::string command(const std::vector<std::string>& words, const std::string& rest);
};

// What was typed, to be quoted in an answer: safe for a terminal, and short.
inline std::string shown(std::string_view typed) { return plot::fit(plot::visible(typed, false), 40); }

inline std::optional<Index> whole_number(std::string_view text) {
  Index n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

}  // namespace glassformer
