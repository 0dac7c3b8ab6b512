// A session of repair: a fault that is planted in a rig, and a learner who looks for it. Text in, text out; who shows it is `glassformer
// debug`, a page, or a test.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "glassformer/learn/fault_rig.hpp"

namespace glassformer {

class FaultSession {
 public:
  // Measures the rig while it is healthy, plants the fault, and measures again. The rig must outlive the session; once that is finished, it
  // is as before. Lines of at most `width` columns. Throws std::invalid_argument where plant() does.
  FaultSession(Rig&, const Fault&, Index width = 80);
  ~FaultSession();

  const Symptom& healthy() const;
  const Symptom& faulty() const;
  std::string opening() const;               // the complaint, the numbers of both, how to begin
  std::string reply(std::string_view line);  // to what was typed; a mistake is answered with what is valid
  std::string prompt() const;                // what stands before the next line
  bool finished() const;                     // found, given up, or left
  bool found() const;
  int hints() const;  // given so far

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace glassformer
