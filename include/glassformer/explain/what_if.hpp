// What if the model had no such head, half of that, no mask? The same model with a change, side by side with itself.
// Heads are ablated by zeroing their columns of attn.z, parts by scaling or patching a site (docs/trace.md); the mask and the softmax's
// temperature are the attention's own settings: pattern = softmax(scores/τ).
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "glassformer/io/model_directory.hpp"
#include "glassformer/sample/generate.hpp"
#include "glassformer/story/story.hpp"
#include "glassformer/trace/edits.hpp"

namespace glassformer {

struct WhatIf {
  std::vector<std::pair<Index, Index>> heads = {};          // (layer, head) to ablate
  std::vector<std::pair<std::string, double>> scales = {};  // (site, factor)
  std::vector<std::string> patches = {};                    // sites whose value is that of `patch_text`
  std::string patch_text = {};
  Index patch_token = -1;          // of the patches: only this token's row; −1: all, so both texts need equally many
  bool no_mask = false;            // every token sees all that were read
  double softmax_temperature = 1;  // τ
  bool empty() const { return heads.empty() && scales.empty() && patches.empty() && !no_mask && softmax_temperature == 1; }
};

// "without head 2 of layer 1; blocks.0.mlp_out times 0.5": a sentence without a full stop.
std::string what_if_text(const WhatIf&);

// Throws std::invalid_argument naming the valid ones for a layer, head or site that does not exist, a factor or a temperature that makes no
// sense, patches without a text.
void validate(const ModelConfig&, const WhatIf&);

// The change, put on a model as long as this lives: its hook and its attention's settings. Patches act in every pass, or `once`: in the
// first that meets them, the reading of a prompt and not the decoding after it (rearm: again). Throws std::invalid_argument naming the
// valid ones for a layer, head, site or token that does not exist, a factor or a temperature that makes no sense, patches without a text.
class Intervention {
 public:
  Intervention(Decoder<float>&, const Tokenizer&, const WhatIf&, const Exec& = {}, bool once = false);
  ~Intervention();
  Intervention(Intervention&&) = delete;
  void rearm() { edits_->rearm(); }

 private:
  Decoder<float>& model_;
  std::shared_ptr<Trace<float>> hook_before_;
  std::vector<ops::AttentionShape> attention_before_;  // of each layer
  std::shared_ptr<Edits<float>> edits_;
};

// What the model makes of a prompt: the mean loss of its tokens, the distribution of the next one.
struct Reaction {
  double loss_nats = 0;  // over the prompt's tokens but the first; 0 when there is but one
  Vector<double> next;   // [V] probabilities
  Index tokens = 0;
};
// Throws std::invalid_argument for a prompt beyond the model's context.
Reaction reaction(const Decoder<float>&, std::span<const Token> ids, const Exec& = {});

// Loss of the prompt and next tokens before and after, as tables. Data: loss_before_nats, loss_after_nats, kl_nats (of after from before).
void add_reactions(Story&, const Tokenizer&, const Reaction& before, const Reaction& after);

// All of it, with the text that each goes on with. Without the mask everything is read again for each token, as a cached key has seen only
// what was there when it was made.
Story what_if_story(Decoder<float>&, const Tokenizer&, std::string_view prompt, const WhatIf&, GenerateOptions);

}  // namespace glassformer
