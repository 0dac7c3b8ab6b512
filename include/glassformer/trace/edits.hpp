// Changing a pass: what would happen without this head, with half of that, with a value from another text?
// An edit names a site (docs/trace.md) and says what becomes of its value x there; the pass goes on from that.
//   scale    x ← factor·x          of some columns; 0 ablates: head h of attn.z is columns h·D … (h+1)·D
//   patch    x ← value             of all rows, or of one (activation patching)
#pragma once
#include <vector>

#include "glassformer/trace/trace.hpp"

namespace glassformer {

template <class S>
struct SiteEdit {
  Site site;                             // sequence and head as fired; −1: any
  S factor = 1;                          // scale: x ← factor·x
  Index first_column = 0, columns = -1;  // of these columns; −1: all from the first
  Matrix<S> patch = {};                  // not empty: replaces the value; must have its shape
  Index row = -1;                        // of a patch: only this row
  bool once = false;                     // only the first time that the site fires: the reading of a prompt, not the decoding after it
};

// A trace that makes edits, in the order in which they were added. Visiting throws std::invalid_argument, saying both shapes, when a patch
// or a range of columns does not fit the value.
template <class S>
class Edits : public Trace<S> {
 public:
  void add(SiteEdit<S> edit) { edits_.push_back({std::move(edit), false}); }
  bool empty() const { return edits_.empty(); }
  void rearm();  // edits that act once act once more

  bool wants(std::string_view site) const override;
  void visit(const Site&, MatrixRef<S> value) override;

 private:
  struct Armed {
    SiteEdit<S> edit;
    bool spent;
  };
  std::vector<Armed> edits_;
};

// Two traces that see the same pass: the second sees what the first left. Either may be null.
template <class S>
class TraceChain : public Trace<S> {
 public:
  TraceChain(Trace<S>* first, Trace<S>* second) : first_(first), second_(second) {}
  bool wants(std::string_view site) const override { return (first_ && first_->wants(site)) || (second_ && second_->wants(site)); }
  void visit(const Site& site, MatrixRef<S> value) override {
    for (Trace<S>* trace : {first_, second_}) {
      if (trace && trace->wants(site.name)) trace->visit(site, value);
    }
  }

 private:
  Trace<S>*first_, *second_;
};

extern template class Edits<float>;
extern template class Edits<double>;

}  // namespace glassformer
