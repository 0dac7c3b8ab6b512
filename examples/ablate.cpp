// What is a head for? Take it away and see what the loss says. A Trace may change the value at a site, and the pass goes on from there.
// The two heads are made by hand: head 0 votes for the letter three places back, head 1, more softly, for the same letter again.
//   build/release/examples/ablate
#include <fmt/core.h>

#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/trace/edits.hpp"

using namespace glassformer;

constexpr Index V = 8, T = 16, C = V + T + V, D = T;  // channels of the stream: the letter, its place, the votes

Decoder<float> model_by_hand() {
  ModelConfig config{.vocab = V, .context = T, .layers = 1, .heads = 2, .width = C, .head_dim = D, .norm = ops::Norm::rms};
  config.mlp = Mlp::none, config.bias = false, config.tied = false;
  Decoder<float> model = make_decoder<float>(resolved(config));
  auto qkv = *model.blocks[0].attention.qkv.weight;  // [6·D, C]: q of both heads, k of both, v of both
  auto out = *model.blocks[0].attention.out.weight;  // [C, 2·D]
  (*model.blocks[0].ln1.gain).setOnes();
  (*model.ln_final.gain).setOnes();
  (*model.embed.weight).leftCols(V).setIdentity();
  (*model.pos_embed).middleCols(V, T).setIdentity();
  for (Index u = 0; u < T; ++u) {
    if (u + 2 < T) qkv(u, V + u + 2) = 4;               // q of head 0: at place t for place t − 2, as t + 1 comes next
    qkv(D + u, V + u) = 4;                              // q of head 1: for its own place
    qkv(2 * D + u, V + u) = qkv(3 * D + u, V + u) = 1;  // k: I am at place u
  }
  for (Index letter = 0; letter < V; ++letter) {
    qkv(4 * D + letter, letter) = qkv(5 * D + letter, letter) = 1;  // v: I am this letter
    out(V + T + letter, letter) = 1, out(V + T + letter, D + letter) = 0.5F;
    (*model.unembed.weight)(letter, V + T + letter) = 1.5F;
  }
  return model;
}

int main() {
  const Decoder<float> model = model_by_hand();
  const std::vector<Token> ids = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2};
  fmt::print("abcabcabcabc →    logits: a      b      c   loss of a, nats\n");
  const auto report = [&](const char* what, Trace<float>* trace) {
    const auto next = decoder_read<float>(model, ids, {.trace = trace}).bottomRows(1).eval();  // [1, V]
    const float loss = std::log((next.array() - next(0, 0)).exp().sum());                      // −ln p(a)
    fmt::print("{:16} {:10.2f} {:6.2f} {:6.2f} {:17.2f}\n", what, next(0, 0), next(0, 1), next(0, 2), loss);
  };
  report("both heads", nullptr);
  for (const Index head : {0, 1}) {
    Edits<float> edits;  // of z [N, H·D], what the heads have read: this head's columns become 0
    edits.add({.site = {"blocks.0.attn.z"}, .factor = 0, .first_column = head * D, .columns = D});
    report(head == 0 ? "no head 0" : "no head 1", &edits);
  }
  fmt::print("a guess among {}: ln {} {:37.2f}\n", V, V, std::log(V));
}
