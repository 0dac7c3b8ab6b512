// How a token is chosen: the options that sample and explain sampling share.
#pragma once
#include "cli/options.hpp"
#include "glassformer/sample/filters.hpp"

namespace glassformer::cli {

inline void declare_sampling(Options& o) {
  o.group("Choice of each token");
  o.real("temperature", 0.8, 0, 1000, "below 1: safer, above 1: wilder; 0: always the most probable");
  o.integer("top-k", 0, 0, "only the N most probable; 0: all");
  o.real("top-p", 1, 1e-9, 1, "only the smallest set of the most probable with this much of the probability");
  o.real("min-p", 0, 0, 1, "only those with at least this share of the best one's probability");
  o.positive("repetition-penalty", 1, "above 1: tokens that the text already has become less probable");
}

inline SamplingOptions sampling_options(const Options& o) {
  return {o.real("temperature"), o.integer("top-k"), o.real("top-p"), o.real("min-p"), o.real("repetition-penalty")};
}
inline bool sampling_given(const Options& o) {
  for (const char* name : {"temperature", "top-k", "top-p", "min-p", "repetition-penalty"}) {
    if (o.given(name)) return true;
  }
  return false;
}

}  // namespace glassformer::cli
