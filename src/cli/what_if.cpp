#include "cli/what_if.hpp"

namespace glassformer::cli {

void declare_what_if(Options& o, bool patches) {
  o.group("What if");
  o.list("ablate", "L.H", "leave out head H of layer L");
  o.list("scale", "SITE=F", "multiply the value at a site: blocks.0.mlp_out=0.5");
  if (patches) {
    o.list("patch", "SITE", "put in the value that this site has for another text");
    o.text("patch-from", "TEXT", "that text");
    o.integer("patch-token", std::nullopt, 0, "patch only this token's row, counted from 0 (all, so both texts need equally many)");
  }
  o.flag("no-mask", "every token sees all that were read");
  o.positive("softmax-temperature", 1, "attention takes softmax(scores/τ)");
}

WhatIf what_if(const Options& o, bool patches) {
  WhatIf w;
  for (const std::string& text : o.texts("ablate")) {
    const auto dot = text.find('.');
    const auto layer = number<Index>(text.substr(0, dot)),
               head = dot == std::string::npos ? std::nullopt : number<Index>(text.substr(dot + 1));
    require_usage(layer && head, "--ablate: expected LAYER.HEAD, as 0.3, found {}", text);
    w.heads.emplace_back(*layer, *head);
  }
  for (const std::string& text : o.texts("scale")) {
    const auto equals = text.rfind('=');
    const auto factor = equals == std::string::npos ? std::nullopt : number<double>(text.substr(equals + 1));
    require_usage(factor.has_value(), "--scale: expected SITE=NUMBER, as blocks.0.mlp_out=0.5, found {}", text);
    w.scales.emplace_back(text.substr(0, equals), *factor);
  }
  w.no_mask = o.is_set("no-mask");
  w.softmax_temperature = o.real("softmax-temperature");
  if (patches) {
    require_usage(!o.given("patch-token") || o.given("patch"), "--patch-token: expected --patch SITE with it");
    w.patches = o.texts("patch");
    w.patch_text = o.text("patch-from");
    w.patch_token = o.integer_or("patch-token", -1);
    require_usage(w.patches.empty() == w.patch_text.empty(), "--patch SITE and --patch-from TEXT belong together");
  }
  return w;
}

}  // namespace glassformer::cli
