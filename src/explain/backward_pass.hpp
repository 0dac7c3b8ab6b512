// One backward pass with everything kept, and the same derivatives by differences. Legend: N tokens, C channels.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "glassformer/explain/backward.hpp"

namespace glassformer {

// The gradient at one site, by the engine and by differences.
struct SiteCheck {
  std::string site;
  Matrix<double> value, gradient, differences;  // alike in shape; a difference that was not made is NaN
  Index compared = 0;                           // differences that were made one by one
  bool has_direction = false;                   // and one along a random direction through all numbers of the site
  double error = 0;                             // ‖a − n‖/(‖a‖ + ‖n‖) over them, or along the direction, whichever is larger and can be seen
  bool unseen_entries = false;                  // those one by one are below what differences can see, as where a token sees one key
  bool zero = false;                            // all of it is: nothing to compare, and the error is 0
  bool agrees = false;
};

using Entry = std::pair<Index, Index>;  // row, column

class BackwardPass {
 public:
  // `targets` [N], −1: not scored. The loss is their mean.
  BackwardPass(const Decoder<double>&, std::vector<Token> ids, std::vector<Token> targets, const BackwardQuestion&);

  const Decoder<double>& model() const { return model_; }
  Index tokens() const { return static_cast<Index>(ids_.size()); }
  Token id(Index place) const { return ids_[static_cast<std::size_t>(place)]; }
  Token target(Index place) const { return targets_[static_cast<std::size_t>(place)]; }
  Index scored() const { return scored_; }
  double loss() const { return loss_; }
  const Exec& exec() const { return question_.exec; }

  // What the trace saw. `head` is that of scores and patterns.
  const Matrix<double>& value(const std::string& site, Index head = -1) const;
  const Matrix<double>& gradient(const std::string& site) const { return value(site + ".grad"); }
  const DecoderGrads<double>& parameter_gradients() const { return grads_; }

  // The gradient of `site` that the trace saw, against differences at these entries, and along a direction.
  SiteCheck check(const std::string& site, const std::vector<Entry>& entries, bool direction) const {
    return check(site, -1, gradient(site), entries, direction);
  }
  // The same for a gradient from elsewhere: the engine shows none of scores, patterns and what a norm makes.
  SiteCheck check(const std::string& site, Index head, const Matrix<double>& gradient, const std::vector<Entry>& entries,
                  bool direction) const;
  // One weight W_oi of y = x·Wᵀ: it adds h·x_ni to y_no for all n, which is how `site`, where y is seen, is changed here.
  SiteCheck check_weight(const std::string& name, const std::string& site, Index output, const Matrix<double>& x, Index input) const;

 private:
  double step_of(const std::string& site, Index head) const;  // h
  double slope(const std::string& site, Index head, const Matrix<double>& direction) const;
  double noise(double h) const;
  double loss_with(Trace<double>*) const;

  const Decoder<double>& model_;
  std::vector<Token> ids_, targets_;
  std::vector<Index> starts_;
  BackwardQuestion question_;
  Index scored_ = 0;
  double loss_ = 0;
  DecoderGrads<double> grads_;
  Recorder<double> seen_, watched_;  // values and gradients; scores, patterns and z, which change the kernel and so have their own pass
};

}  // namespace glassformer
