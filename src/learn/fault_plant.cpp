// The faults themselves: each changes what the engine works with, or edits a value that the engine has just computed.
// Legend: N tokens, T queries, U keys, H heads, G key-value heads, D head width.
#include <algorithm>
#include <limits>
#include <map>

#include "glassformer/learn/fault_rig.hpp"
#include "glassformer/ops/loss.hpp"
#include "learn/fault_edits.hpp"

namespace glassformer {
namespace {

// Where a fault may act.
struct Plan {
  Rig& rig;
  FaultEdits<float>& passes;                      // every pass
  FaultEdits<float>& writing;                     // passes that write text
  FaultEdits<float>& drawing;                     // those whose logits are drawn from
  std::vector<std::shared_ptr<void>>& keepsakes;  // what must live as long as the fault
  const ModelConfig& config() const { return rig.model.config; }
};

template <class S>
std::shared_ptr<std::map<Site, Matrix<S>>> notes() {
  return std::make_shared<std::map<Site, Matrix<S>>>();
}
template <class F>
void each_core(Plan& p, F&& change) {
  for (auto& block : p.rig.model.blocks) change(block.attention.config.core);
}
std::string last_block(const ModelConfig& c) { return fmt::format("blocks.{}.", c.layers - 1); }

// ---- attention

void scale(Plan& p) {
  each_core(p, [](ops::AttentionShape& core) { core.scale = 1; });
}

// No mask but what is laid over the scores here: everything behind the next token.
void mask_one_off(Plan& p) {
  each_core(p, [](ops::AttentionShape& core) { core.causal = false; });
  p.passes.at("blocks.*.attn.attn_scores", [](const Site&, MatrixRef<float> scores) {  // [T, U]
    const Index T = scores.rows(), U = scores.cols();
    for (Index t = 0; t < T; ++t) {
      for (Index u = U - T + t + 2; u < U; ++u) scores(t, u) = -std::numeric_limits<float>::infinity();
    }
  });
}

// softmax over the queries of each key: the columns of the scores sum to 1, and not the rows.
void softmax_axis(Plan& p) {
  const auto scores = notes<float>();
  p.passes.at("blocks.*.attn.attn_scores", [scores](const Site& site, MatrixRef<float> value) {
    (*scores)[{"", site.sequence, site.head}] = value.transpose();
  });
  p.passes.at("blocks.*.attn.pattern", [scores](const Site& site, MatrixRef<float> value) {
    Matrix<float>& columns = scores->at({"", site.sequence, site.head});
    ops::softmax_forward<float>(columns, columns, {});
    value = columns.transpose();
  });
}

// Head h is laid where head `source[h]` was, for the core; and its result back.
void permute_heads(Plan& p, const std::vector<Index>& source) {
  const Index D = p.config().head_dim;
  const auto move = [D, source](MatrixRef<float> x, bool back) {
    const Matrix<float> before = x;
    for (std::size_t h = 0; h < source.size(); ++h) {
      const Index to = back ? source[h] : static_cast<Index>(h), from = back ? static_cast<Index>(h) : source[h];
      x.middleCols(to * D, D) = before.middleCols(from * D, D);
    }
  };
  const char* q = p.rig.model.rope ? "blocks.*.attn.rot_q" : "blocks.*.attn.q";
  p.passes.at(
      q, [move](const Site&, MatrixRef<float> x) { move(x, false); }, true);
  p.passes.at("blocks.*.attn.z", [move](const Site&, MatrixRef<float> x) { move(x, true); });
}

// Query head h reads key-value head h mod G, and not h/(H/G).
void grouped_heads(Plan& p) {
  const Index H = p.config().heads, G = p.config().kv_heads;
  std::vector<Index> source;
  for (Index g = 0; g < G; ++g) {
    for (Index m = 0; m < H / G; ++m) source.push_back(m * G + g);
  }
  permute_heads(p, source);
}

void head_off(Plan& p) {
  const Index D = p.config().head_dim, head = p.config().heads - 1;
  p.passes.at(last_block(p.config()) + "attn.z", [=](const Site&, MatrixRef<float> z) { z.middleCols(head * D, D).setZero(); });
}

// ---- positions and cache

// The engine turns (i, i + D/2); with channels laid out otherwise before and put back after, these are (2i, 2i + 1).
void rope_pairs(Plan& p) {
  const Index D = p.config().head_dim;
  const auto lay = [D](MatrixRef<float> x, bool back) {
    const Matrix<float> before = x;
    for (Index c = 0; c < x.cols(); ++c) {
      const Index head = c / D * D, i = c % D, paired = head + i / 2 + (i % 2) * (D / 2);
      if (back) {
        x.col(c) = before.col(paired);
      } else {
        x.col(paired) = before.col(c);
      }
    }
  };
  for (const char* name : {"q", "k"}) {
    p.passes.at(
        fmt::format("blocks.*.attn.{}", name), [lay](const Site&, MatrixRef<float> x) { lay(x, false); }, true);
    p.passes.at(fmt::format("blocks.*.attn.rot_{}", name), [lay](const Site&, MatrixRef<float> x) { lay(x, true); });
  }
}

// While decoding, q and k stand one place further than they do.
void decode_place(Plan& p) {
  const auto rope = p.rig.model.rope;
  for (const auto& [name, heads] : {std::pair{"blocks.*.attn.rot_q", p.config().heads}, {"blocks.*.attn.rot_k", p.config().kv_heads}}) {
    p.writing.at(name, [rope, heads = heads](const Site&, MatrixRef<float> x) {
      const Index one[1] = {1};
      if (x.rows() == 1) rope_rotate<float>(*rope, one, heads, false, x, {});
    });
  }
}

// While decoding, each row of the cache gets the key and value of the token before: the last of the prompt twice, the newest not at all.
void stale_row(Plan& p) {
  const auto before = notes<float>();
  for (const char* name : {p.rig.model.rope ? "blocks.*.attn.rot_k" : "blocks.*.attn.k", "blocks.*.attn.v"}) {
    p.writing.at(name, [before](const Site& site, MatrixRef<float> x) {
      const Matrix<float> now = x.bottomRows(1);
      if (x.rows() == 1 && before->contains(site)) x = (*before)[site];
      (*before)[site] = now;
    });
  }
}

// ---- block and head

void residual(Plan& p) {
  const auto added = notes<float>();
  const std::string at = last_block(p.config());
  p.passes.at(at + "attn_out", [added](const Site&, MatrixRef<float> x) { (*added)[{}] = x; });
  p.passes.at(at + "resid_mid", [added](const Site&, MatrixRef<float> x) { x = added->at({}); });
}

void epsilon(Plan& p) { p.rig.model.config.norm_epsilon = 1; }

void untied(Plan& p) {
  const auto other = std::make_shared<Decoder<float>>(make_decoder<float>(p.config()));
  initialize(*other, p.rig.training.seed + 1);
  p.rig.model.unembed.weight = other->embed.weight;
  p.keepsakes.push_back(other);
}

void transposed(Plan& p) {
  const MatrixView<float> w = p.rig.model.blocks.front().attention.out.weight.dense;  // [C, H·D], here square
  const Matrix<float> before = *w;
  *w = before.transpose();
}

// ---- backward: the same edits for training in float and for the gradient check in double

template <class S>
void activation_derivative(FaultEdits<S>& e) {
  const auto post = notes<S>();
  e.at("blocks.*.mlp.post.grad", [post](const Site&, MatrixRef<S> d) { (*post)[{}] = d; });
  e.at("blocks.*.mlp.pre.grad", [post](const Site&, MatrixRef<S> d) { d = post->at({}); });
}

template <class S>
void rope_backward(FaultEdits<S>& e) {
  const auto turned = notes<S>();
  for (const char* name : {"q", "k"}) {
    e.at(fmt::format("blocks.*.attn.rot_{}.grad", name), [turned, name](const Site&, MatrixRef<S> d) { (*turned)[{name}] = d; });
    e.at(fmt::format("blocks.*.attn.{}.grad", name), [turned, name](const Site&, MatrixRef<S> d) { d = turned->at({name}); });
  }
}

template <class S>
void loss_sum(FaultEdits<S>& e) {
  e.at("logits.grad", [](const Site&, MatrixRef<S> d) {  // a row that is not scored is zero
    d *= static_cast<S>((d.rowwise().squaredNorm().array() > 0).template cast<S>().sum());
  });
}

template <class S>
using Backward = void (*)(FaultEdits<S>&);
template <class S>
const std::map<std::string_view, Backward<S>>& backward_faults() {
  static const std::map<std::string_view, Backward<S>> all = {
      {"gelu", activation_derivative<S>}, {"unturned", rope_backward<S>}, {"sum", loss_sum<S>}};
  return all;
}

// ---- training, data, adapter, evaluation, writing

// What a gradient held before a step, it holds still when the step's own is added: it is put back as the pass begins.
void uncleared(Plan& p) {
  struct Held {
    std::vector<float> values;
    Trainer<float>* trainer = nullptr;
  };
  const auto held = std::make_shared<Held>();
  p.rig.after_step = [held](Trainer<float>& trainer) {
    const auto gradient = trainer.gradients().arena.values();
    held->values.assign(gradient.begin(), gradient.end()), held->trainer = &trainer;
    if (trainer.steps_done() == trainer.options().steps) held->trainer = nullptr;
  };
  p.passes.at("embed", [held](const Site&, MatrixRef<float>) {
    if (held->trainer) std::ranges::copy(held->values, held->trainer->gradients().arena.values().begin());
  });
}

void huge_rate(Plan& p) { p.rig.training.rate *= 30, p.rig.training.min_rate *= 30, p.rig.training.warmup = 0; }

void targets_by_two(Plan& p) {
  p.rig.collate = [](Batch& batch) {
    for (std::size_t s = 0; s + 1 < batch.starts.size(); ++s) {
      const auto begin = batch.targets.begin() + batch.starts[s], end = batch.targets.begin() + batch.starts[s + 1];
      std::copy(begin + 1, end, begin);
      *(end - 1) = -1;
    }
  };
}

void bounds(Plan& p) {
  p.rig.collate = [](Batch& batch) { batch.starts = {0, static_cast<Index>(batch.inputs.size())}; };
}

void start_token(Plan& p) { p.rig.model.config.prepend_bos = false; }

void alpha(Plan& p) {
  const auto rank = static_cast<float>(p.rig.adapter->config.rank);
  p.rig.after_attach = [rank](Decoder<float>& m) {
    for (auto& block : m.blocks) {
      for (auto* projection : {&block.attention.qkv, &block.attention.out, &block.mlp.up, &block.mlp.down}) {
        for (auto& lora : projection->adapters) lora.scale *= rank;
      }
    }
  };
}

// A model without dropout (the small one) gets some first: in an evaluation it would not act.
void dropout(Plan& p) {
  Decoder<float>& m = p.rig.model;
  if (m.config.dropout == 0) m.config.dropout = 0.1;
  for (auto& block : m.blocks) block.attention.config.dropout = block.mlp.dropout = m.config.dropout;
  p.rig.evaluates_as_training = true;
}

void temperature_twice(Plan& p) {
  const auto temperature = static_cast<float>(p.rig.writing.sampling.temperature);
  p.drawing.at("logits", [temperature](const Site&, MatrixRef<float> logits) { logits /= temperature; });
}

// The mass is counted from the wrong end: the likeliest tokens go.
void top_p(Plan& p) {
  const double kept = p.rig.writing.sampling.top_p;
  p.drawing.at("logits", [kept](const Site&, MatrixRef<float> logits) {
    SamplingOptions rest;
    rest.temperature = 1, rest.top_p = 1 - kept;
    for (Index n = 0; n < logits.rows(); ++n) {
      for (const Token t : sampling_distribution({logits.row(n).data(), static_cast<std::size_t>(logits.cols())}, {}, rest).ids) {
        logits(n, t) = -std::numeric_limits<float>::infinity();
      }
    }
  });
}

const std::map<std::string_view, void (*)(Plan&)>& faults_by_id() {
  static const std::map<std::string_view, void (*)(Plan&)> all = {
      {"scale", scale},         {"next", mask_one_off}, {"axis", softmax_axis},      {"groups", grouped_heads},
      {"head", head_off},       {"pairs", rope_pairs},  {"place", decode_place},     {"stale", stale_row},
      {"residual", residual},   {"epsilon", epsilon},   {"untied", untied},          {"transposed", transposed},
      {"uncleared", uncleared}, {"rate", huge_rate},    {"targets", targets_by_two}, {"bounds", bounds},
      {"start", start_token},   {"alpha", alpha},       {"dropout", dropout},        {"temperature", temperature_twice},
      {"nucleus", top_p}};
  return all;
}

// Sees what the pass goes on with, or what it had where a planted edit only lays a value out otherwise.
class Watched : public Trace<float> {
 public:
  Watched(Trace<float>* planted, Trace<float>* look) : planted_(planted), look_(look), edits_(dynamic_cast<FaultEdits<float>*>(planted)) {}
  bool wants(std::string_view site) const override { return (planted_ && planted_->wants(site)) || (look_ && look_->wants(site)); }
  void visit(const Site& site, MatrixRef<float> value) override {
    const bool before = edits_ && edits_->hides(site.name);
    if (before) show(site, value);
    if (planted_ && planted_->wants(site.name)) planted_->visit(site, value);
    if (!before) show(site, value);
  }

 private:
  void show(const Site& site, MatrixRef<float> value) {
    if (look_ && look_->wants(site.name)) look_->visit(site, value);
  }
  Trace<float>*planted_, *look_;
  FaultEdits<float>* edits_;
};

}  // namespace

struct PlantedFault::Kept {
  Rig& rig;
  Rig before;
  Arena<float> weights;
  FaultEdits<float> passes, writing, drawing;
  std::vector<std::shared_ptr<void>> keepsakes;
};

PlantedFault::PlantedFault(const Fault& fault, Rig& rig) {
  require(!rig.planted, "plant: expected a healthy rig, found one with a fault in it");
  const std::string why = obstacle(fault, rig);
  require(why.empty(), "fault {}: {}", fault.number, why);
  kept_.reset(new Kept{rig, rig, rig.model.arena.clone(), {}, {}, {}, {}});
  rig.planted = true;
  Plan plan{rig, kept_->passes, kept_->writing, kept_->drawing, kept_->keepsakes};
  if (const auto backward = backward_faults<float>().find(fault.id); backward != backward_faults<float>().end()) {
    backward->second(kept_->passes);
  } else {
    faults_by_id().at(fault.id)(plan);
  }
  if (!kept_->passes.empty()) rig.trace = rig.writing.trace = &kept_->passes;
  if (!kept_->writing.empty()) rig.writing.trace = &kept_->writing;
  if (!kept_->drawing.empty()) rig.drawing_trace = &kept_->drawing;
}

PlantedFault::~PlantedFault() {
  kept_->rig = kept_->before;
  restore(kept_->rig.model, kept_->weights);
}

std::unique_ptr<PlantedFault> plant(const Fault& fault, Rig& rig) { return std::make_unique<PlantedFault>(fault, rig); }

std::string obstacle(const Fault& fault, const Rig& rig) {
  const ModelConfig& c = rig.model.config;
  const auto is = [&](std::initializer_list<const char*> ids) { return std::ranges::find(ids, fault.id) != ids.end(); };
  if (fault.probe == Probe::training && !rig.fresh) return "it is about training, which needs the small model: leave --model out";
  if (fault.probe == Probe::adapter && !rig.adapter) return "it is about an adapter, which only the small model has: leave --model out";
  if (is({"pairs", "place", "unturned"}) && c.position != Position::rope) return "this model has no RoPE";
  if (is({"untied"}) && !c.tied) return "this model's head is not tied to its embedding";
  if (is({"groups"}) && (c.kv_heads == 1 || c.kv_heads == c.heads)) return "this model has no grouped heads";
  if (is({"residual"}) && c.placement != NormPlacement::pre) return "it is about pre-norm, which this model has not";
  if (is({"transposed"}) && c.heads * c.head_dim != c.width) return "this model's attn.out is not square";
  if (is({"start", "bounds"}) && !c.prepend_bos) return "this model was trained without a start token";
  return "";
}

std::unique_ptr<Trace<double>> backward_mistake(const Fault& fault, const ModelConfig&) {
  const auto found = backward_faults<double>().find(fault.id);
  if (found == backward_faults<double>().end()) return nullptr;
  auto edits = std::make_unique<FaultEdits<double>>();
  found->second(*edits);
  return edits;
}

std::unique_ptr<Trace<float>> watched(Trace<float>* planted, Trace<float>* look) { return std::make_unique<Watched>(planted, look); }

}  // namespace glassformer
