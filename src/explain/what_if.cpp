#include "glassformer/explain/what_if.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "explain/teller.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/model/sites.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/plot/text.hpp"
#include "glassformer/sample/prompt.hpp"

namespace glassformer {
namespace {

constexpr Index kNextTokens = 6;  // of each distribution that are listed

// What the model reads: its soft prompt, if one is attached, and the text.
std::vector<Token> behind_soft_prompt(const Decoder<float>& m, std::span<const Token> ids) {
  std::vector<Token> all = soft_prompt_ids(m);
  all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

// Adds to `edits` what the model has at these sites when it reads the text.
void record_patches(const Decoder<float>& m, const Tokenizer& tokenizer, const WhatIf& w, const Exec& exec, bool once,
                    Edits<float>& edits) {
  const Prompt text = read_prompt(m.config, tokenizer, w.patch_text);
  const Index T = static_cast<Index>(text.ids.size());
  require(w.patch_token < T, "patch token: expected 0 … {}, as the other text has {} tokens, found {}", T - 1, T, w.patch_token);
  Recorder<float> seen({w.patches.begin(), w.patches.end()});
  decoder_read<float>(m, behind_soft_prompt(m, text.ids), {.exec = exec, .trace = &seen});
  const Index row = w.patch_token < 0 ? -1 : m.prompt.rows + w.patch_token;
  for (const auto& [site, value] : seen.values()) edits.add({.site = site, .patch = value, .row = row, .once = once});
}

}  // namespace

void validate(const ModelConfig& c, const WhatIf& w) {
  for (const auto& [layer, head] : w.heads) {
    require(layer >= 0 && layer < c.layers, "ablate: expected a layer of 0 … {}, found {}", c.layers - 1, layer);
    require(head >= 0 && head < c.heads, "ablate: expected a head of 0 … {}, found {}", c.heads - 1, head);
  }
  for (const auto& [site, factor] : w.scales) {
    require_site(c, site);
    require(std::isfinite(static_cast<float>(factor)), "scale: expected a factor that a float can hold for {}, found {:g}", site, factor);
  }
  for (const std::string& site : w.patches) require_site(c, site);
  require(w.patches.empty() || !w.patch_text.empty(), "patch: expected the text whose values are put in, found none");
  require(w.softmax_temperature >= 1e-6 && w.softmax_temperature <= 1e6,
          "softmax temperature: expected a number from 1e-6 to 1e6, found {:g}", w.softmax_temperature);
}

std::string what_if_text(const WhatIf& w) {
  std::string out;
  const auto add = [&out](const std::string& part) { out += fmt::format("{}{}", out.empty() ? "" : "; ", part); };
  for (const auto& [layer, head] : w.heads) add(fmt::format("without head {} of layer {}", head, layer));
  for (const auto& [site, factor] : w.scales) add(fmt::format("{} times {:g}", site, factor));
  for (const std::string& site : w.patches) {
    add(fmt::format("{}{} as when it reads \"{}\"", site, w.patch_token < 0 ? "" : fmt::format(" of token {}", w.patch_token),
                    plot::visible(w.patch_text, false)));
  }
  if (w.no_mask) add("without the mask");
  if (w.softmax_temperature != 1) add(fmt::format("attention's softmax at temperature {:g}", w.softmax_temperature));
  return out.empty() ? "nothing was changed" : out;
}

Intervention::Intervention(Decoder<float>& model, const Tokenizer& tokenizer, const WhatIf& w, const Exec& exec, bool once)
    : model_(model), hook_before_(model.hook), edits_(std::make_shared<Edits<float>>()) {
  validate(model.config, w);
  const Index D = model.config.head_dim;
  for (const auto& [layer, head] : w.heads)
    edits_->add({.site = {fmt::format("blocks.{}.attn.z", layer)}, .factor = 0, .first_column = head * D, .columns = D});
  for (const auto& [site, factor] : w.scales) edits_->add({.site = {site}, .factor = static_cast<float>(factor)});
  if (!w.patches.empty()) record_patches(model, tokenizer, w, exec, once, *edits_);
  for (BlockParams<float>& block : model.blocks) {
    ops::AttentionShape& core = block.attention.config.core;
    attention_before_.push_back(core);
    if (w.no_mask) core.causal = false, core.window = 0;
    core.scale /= w.softmax_temperature;  // scores = q·k·scale − slope·distance
    for (double& slope : core.slopes) slope /= w.softmax_temperature;
  }
  model.hook = edits_;
}

Intervention::~Intervention() {
  model_.hook = hook_before_;
  for (std::size_t i = 0; i < attention_before_.size(); ++i) model_.blocks[i].attention.config.core = attention_before_[i];
}

Reaction reaction(const Decoder<float>& m, std::span<const Token> ids, const Exec& exec) {
  const Index T = static_cast<Index>(ids.size()), room = m.config.context - m.prompt.rows;
  require(room >= T, "prompt: expected at most {} tokens (the model's context), found {}", room, T);
  Matrix<float> logits = decoder_read<float>(m, behind_soft_prompt(m, ids), {.exec = exec}).bottomRows(T), last = logits.bottomRows(1);
  ops::softmax_forward<float>(last, last, exec);
  std::vector<Token> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  std::vector<double> losses(ids.size());
  ops::cross_entropy<float>(logits, targets, losses, false, 1, exec);
  return {T > 1 ? std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(T - 1) : 0, last.row(0).cast<double>(), T};
}

void add_reactions(Story& story, const Tokenizer& tokenizer, const Reaction& before, const Reaction& after) {
  if (before.tokens > 1) {  // one token has none before it
    story.section("Loss of the prompt", "mean of −log p(token | those before)")
        .items.push_back(
            story::Table{.key = "",
                         .columns = {"nats per token", "before", "after", "difference"},
                         .rows = {{std::string("prompt"), before.loss_nats, after.loss_nats, after.loss_nats - before.loss_nats}},
                         .decimals = 4});
    story.data.emplace_back("loss_before_nats", before.loss_nats);
    story.data.emplace_back("loss_after_nats", after.loss_nats);
  }
  const Vector<double> p = before.next.array().max(1e-300), q = after.next.array().max(1e-300);
  const double kl = (before.next.array() * (p.array() / q.array()).log()).sum();

  std::vector<Token> listed = most_probable(before.next, kNextTokens);
  for (const Token token : most_probable(after.next, kNextTokens)) {
    if (std::ranges::find(listed, token) == listed.end()) listed.push_back(token);
  }
  story::Table next{.key = "next_tokens", .columns = {"token", "before", "after", "difference"}, .rows = {}, .decimals = 4};
  for (const Token id : listed) {
    const double b = before.next(id), a = after.next(id);
    next.rows.push_back({plot::visible(token_texts(tokenizer, {&id, 1}).front()), b, a, a - b});
  }
  story::Section& section = story.section("The next token", "p = softmax(logits)");
  section.items.push_back(std::move(next));
  section.items.push_back(story::Number{"kl_nats", "KL(before ‖ after)", kl, 4, "nats"});
}

Story what_if_story(Decoder<float>& m, const Tokenizer& tokenizer, std::string_view prompt, const WhatIf& what, GenerateOptions options) {
  validate(m.config, what);
  const bool reads_again = what.no_mask || !options.use_cache;
  require(what.patches.empty() || !reads_again,
          "patch: expected a text that is read once, with the cache and the mask: a patch acts in the reading of the prompt alone");
  require(std::ranges::find(what.patches, "logits") == what.patches.end(),
          "patch: expected a site before the logits: writing a text needs those of the last token alone");
  const Prompt read = read_prompt(m.config, tokenizer, prompt);
  Story story;
  story.component = "what-if", story.title = fmt::format("What if: {}", what_if_text(what));
  story.opening = read.notes;
  const Reaction before = reaction(m, read.ids, options.exec);
  const Generation plain = generate(m, tokenizer, prompt, options);
  Intervention change(m, tokenizer, what, options.exec, true);
  const Reaction after = reaction(m, read.ids, options.exec);
  change.rearm();
  if (what.no_mask) options.use_cache = false;
  const Generation changed = generate(m, tokenizer, prompt, options);

  add_reactions(story, tokenizer, before, after);
  story::Section& text = story.section("The text", "the same random numbers on both sides");
  const auto shown = [](const Generation& g) { return plot::visible(g.text, false); };
  text.items.push_back(story::Table{.key = "", .columns = {"before", "after"}, .rows = {{shown(plain), shown(changed)}}});
  if (what.no_mask)
    story.closing.push_back("Without the mask the whole text is read again for each token: a cached key has not seen what came later.");
  for (const std::string& note : changed.notes) story.closing.push_back(note);
  story.data.emplace_back("prompt", std::string(prompt));
  story.data.emplace_back("text_before", valid_utf8(plain.text));
  story.data.emplace_back("text", valid_utf8(changed.text));
  story.data.emplace_back("ids_before", plain.ids);
  story.data.emplace_back("ids", changed.ids);
  return story;
}

}  // namespace glassformer
