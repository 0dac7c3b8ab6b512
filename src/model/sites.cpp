#include "glassformer/model/sites.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

// Of one block, without "blocks.i.".
std::vector<std::string> block_sites(const ModelConfig& c) {
  const bool pre = c.placement == NormPlacement::pre, mlp = c.mlp != Mlp::none;
  std::vector<std::string> sites = {"resid_pre"};
  const auto add = [&sites](std::initializer_list<const char*> more) { sites.insert(sites.end(), more.begin(), more.end()); };
  if (pre) add({"ln1.normalized"});
  add({"attn.q", "attn.k", "attn.v"});
  if (c.position == Position::rope) add({"attn.rot_q", "attn.rot_k"});
  add({"attn.attn_scores", "attn.pattern", "attn.z", "attn_out"});
  if (!pre) add({"ln1.normalized"});
  add({"resid_mid"});
  if (mlp && pre) add({"ln2.normalized"});
  if (mlp) add({"mlp.pre", "mlp.post", "mlp_out"});
  if (mlp && !pre) add({"ln2.normalized"});
  add({"resid_post"});
  return sites;
}

}  // namespace

std::vector<std::string> decoder_sites(const ModelConfig& c) {
  std::vector<std::string> sites = {"embed"};
  if (c.position == Position::learned || c.position == Position::sinusoidal) sites.push_back("pos_embed");
  for (Index i = 0; i < c.layers; ++i) {
    for (const std::string& site : block_sites(c)) sites.push_back(fmt::format("blocks.{}.{}", i, site));
  }
  if (c.placement == NormPlacement::pre) sites.push_back("ln_final.normalized");
  sites.push_back("logits");
  return sites;
}

void require_site(const ModelConfig& c, std::string_view name) {
  const std::vector<std::string> all = decoder_sites(c);
  if (std::ranges::find(all, name) != all.end()) return;
  // One block's stand for all.
  std::string valid;
  for (const std::string& site : all) {
    if (site.starts_with("blocks.") && !site.starts_with("blocks.0.")) continue;
    const std::string shown = site.starts_with("blocks.0.") ? fmt::format("blocks.i.{}", site.substr(9)) : site;
    valid += fmt::format("{}{}", valid.empty() ? "" : ", ", shown);
  }
  require(false, "site: found {}; this model has {}; i from 0 to {}", name, valid, c.layers - 1);
}

}  // namespace glassformer
