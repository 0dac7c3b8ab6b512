// Learning by repair: mistakes that are really made, each planted into the real engine while it runs (fault_rig.hpp), and what a learner
// is told of each. `glassformer debug` is made of these.
#pragma once
#include <string>
#include <vector>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

// How a fault's symptom is measured: fault_rig.hpp says what each of them runs.
enum class Probe { evaluation, training, cache, adapter, neighbours, beginning, drawing, repetition };

struct Fault {
  Index number = 0;     // from 1
  std::string id;       // one word: "scale"
  std::string topic;    // "attention", "training", "cache", …
  std::string title;    // what is wrong, as the list of candidate causes says it
  std::string symptom;  // what a user would complain about; gives nothing away
  Probe probe = Probe::evaluation;
  std::string telling;                // the reading of the probe that shows it
  std::vector<std::string> hints;     // from vague to precise
  std::string answer;                 // what is wrong, and why it shows as it does
  std::string file, line;             // where it would live: a file of this repository, and a piece of the line
  std::string test_file, test;        // the test case that would have caught it
  std::vector<std::string> keywords;  // a guess that holds one of these at the beginning of a word means it; lower case
};

// All faults, in the order of their numbers.
const std::vector<Fault>& faults();
// Throws std::invalid_argument naming the valid numbers, or ids, when there is no such fault.
const Fault& fault(Index number);
const Fault& fault(std::string_view id);

// The faults that a guess in the learner's own words names, in the order of their numbers: the one whose title it is, or all of which it
// holds a keyword. A keyword inside a longer one of another fault names nothing: "document mask" is not "mask". Case does not matter.
std::vector<const Fault*> faults_named(std::string_view words);
// Does it say what is not the fault ("not the mask but …")? Titles and keywords alone never do.
bool denies(std::string_view words);

}  // namespace glassformer
