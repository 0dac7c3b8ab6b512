// Edits of named sites, for faults that are planted through a trace.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/trace/trace.hpp"

namespace glassformer {

// "blocks.*.attn.z" stands for every layer.
inline bool site_matches(std::string_view pattern, std::string_view site) {
  constexpr std::string_view any = "blocks.*.";
  if (!pattern.starts_with(any)) return pattern == site;
  if (!site.starts_with("blocks.")) return false;
  const auto dot = site.find('.', 7);
  return dot != std::string_view::npos && site.substr(dot + 1) == pattern.substr(any.size());
}

template <class S>
class FaultEdits : public Trace<S> {
 public:
  using Edit = std::function<void(const Site&, MatrixRef<S>)>;
  // `hidden`: a value is only laid out otherwise here, and put back at a later site: who looks on sees it before.
  void at(std::string pattern, Edit edit, bool hidden = false) { edits_.push_back({std::move(pattern), std::move(edit), hidden}); }
  bool empty() const { return edits_.empty(); }
  bool hides(std::string_view site) const {
    for (const auto& e : edits_) {
      if (e.hidden && site_matches(e.pattern, site)) return true;
    }
    return false;
  }
  bool wants(std::string_view site) const override {
    for (const auto& e : edits_) {
      if (site_matches(e.pattern, site)) return true;
    }
    return false;
  }
  void visit(const Site& site, MatrixRef<S> value) override {
    for (const auto& e : edits_) {
      if (site_matches(e.pattern, site.name)) e.edit(site, value);
    }
  }

 private:
  struct One {
    std::string pattern;
    Edit edit;
    bool hidden;
  };
  std::vector<One> edits_;
};

}  // namespace glassformer
