// The backward pass, told: the chain rule through one block, from the loss back to the embedding.
// Legend: N tokens, C channels, F hidden width of the MLP, V vocabulary, D head width.
// At each site of docs/trace.md stand its local derivative, the gradient that the engine recorded there (SITE.grad), and the same by
// central differences made on the spot: the pass runs again with one number of the site changed by ±h, and the loss is read.
#pragma once
#include "glassformer/explain/text.hpp"
#include "glassformer/story/story.hpp"

namespace glassformer {

struct BackwardQuestion {
  Index layer = 0, head = 0;  // the head whose softmax is written out
  Index token = -1;           // its place; −1: the one whose successor was predicted worst
  Index entries = 4;          // numbers of a site that are compared one by one; in the example all are
  double step = 3e-4;         // h, as a fraction of the root mean square of the site's values
  Exec exec{};
  // Looks on while the engine's gradients are made, and only then: an edit of a ".grad" site plants a mistake that the story must report.
  Trace<double>* trace = nullptr;
};

// The loss is the mean over the text's tokens, each predicted from those before it. Beside `entries` numbers of a site, all are compared at
// once: the slope of the loss along one random direction.
// Data: "loss_nats", "agrees" (all sites), "worst_error", "disagreeing" (the sites, on the way back), "checks" (a table: each site).
// Throws std::invalid_argument, naming the valid ones, for a layer, head or token that does not exist; for fewer than two tokens, or more
// than the model's context; for a model with an adapter attached, whose own derivative this story does not tell.
Story explain_backward(const Decoder<double>&, const ExplainedText&, const BackwardQuestion& = {});

// Three words that predict a fourth: one block with RMSNorm, one head, a GELU, four channels, weights of simple decimals. In double.
Story explain_backward_example(const BackwardQuestion& = {});

}  // namespace glassformer
