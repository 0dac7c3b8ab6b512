// Looking into a pass: named sites whose values a Trace may read or change.
// Sites carry TransformerLens's names (`blocks.0.attn.pattern`, `blocks.0.resid_post`, …; docs/trace.md lists them all).
#pragma once
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

// Where a value stands. Values of all heads at once ([tokens, heads·D]) have no head; scores and patterns come one matrix
// [queries, keys] for each sequence and head.
struct Site {
  std::string name;
  Index sequence = -1, head = -1;
  auto operator<=>(const Site&) const = default;
};

// Receives the values of a pass. A pass asks `wants` before it chooses its kernels: scores and patterns are only ever
// materialised when somebody wants them. `visit` may edit the value; the pass goes on from the edited one.
template <class S> class Trace {
 public:
  virtual ~Trace() = default;
  virtual bool wants(std::string_view site) const = 0;
  virtual void visit(const Site&, MatrixRef<S> value) = 0;
};

// Keeps a copy of every wanted value: all sites, or those named.
template <class S> class Recorder : public Trace<S> {
 public:
  Recorder() = default;
  explicit Recorder(std::set<std::string, std::less<>> sites) : sites_(std::move(sites)) {}
  bool wants(std::string_view site) const override { return sites_.empty() || sites_.contains(site); }
  void visit(const Site& site, MatrixRef<S> value) override { values_[site] = value; }

  const std::map<Site, Matrix<S>>& values() const { return values_; }
  // Throws std::invalid_argument naming the recorded sites when there is none of this name.
  const Matrix<S>& at(std::string_view name, Index sequence = -1, Index head = -1) const;

 private:
  std::set<std::string, std::less<>> sites_;
  std::map<Site, Matrix<S>> values_;
};

extern template class Recorder<float>;
extern template class Recorder<double>;

}  // namespace glassformer
