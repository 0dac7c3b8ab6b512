#include "cli/recipes.hpp"

#include <algorithm>

namespace glassformer::cli {
namespace {

struct Recipe {
  const char* preset;
  Index steps, batch, accumulate, warmup;
  double rate, min_rate, beta2;
  double muon_adamw_rate;  // with Muon: the rate of what stays with AdamW; its lowest is a tenth
};

// clang-format off
//                             steps  batch  micro  warm-up  rate  lowest   β2   with Muon
constexpr Recipe kRecipes[] = {
    /* nanoGPT for a CPU */ {"nano", 2000, 12, 1, 100, 1e-3, 1e-4, 0.99, 3e-3},
    /* the same */          {"nano-llama", 2000, 12, 1, 100, 1e-3, 1e-4, 0.99, 3e-3},
    /* the demonstration */ {"stories", 1400, 16, 1, 50, 3e-3, 3e-4, 0.99, 3e-3},
    /* nanoGPT for a GPU */ {"shakespeare", 5000, 64, 1, 100, 1e-3, 1e-4, 0.99, 3e-3},
    /* GPT-2, 124M */       {"gpt2", 100000, 12, 40, 700, 6e-4, 6e-5, 0.95, 6e-4},
};
// clang-format on

}  // namespace

TrainOptions recipe(const std::string& preset, bool muon) {
  TrainOptions t;  // weight decay 0.1, clip 1, β1 0.9, Muon's rate 0.02 unless said
  t.muon = muon;
  if (preset == "stories") t.muon_rate = 0.012;  // at 0.035 the heads that find words again do not form
  const auto at = std::ranges::find_if(kRecipes, [&](const Recipe& r) { return preset == r.preset; });
  if (at == std::end(kRecipes)) return t;
  t.steps = at->steps, t.batch = at->batch, t.accumulate = at->accumulate, t.warmup = at->warmup;
  t.rate = muon ? at->muon_adamw_rate : at->rate;
  t.min_rate = muon ? t.rate / 10 : at->min_rate;
  t.beta2 = at->beta2;
  return t;
}

void declare_training_options(Options& o, const std::string& standards) {
  o.group("Training (" + standards + ")");
  o.integer("steps", {}, 1, "updates of the parameters");
  o.integer("batch", {}, 1, "sequences a batch");
  o.integer("accumulate", {}, 1, "batches a step: their gradients are summed; N processes (mpirun -n N) share them out");
  o.positive("rate", {}, "highest learning rate");
  o.real("min-rate", {}, 0, 100, "learning rate at the end of the cosine; keeps its share of --rate unless given");
  o.integer("warmup", {}, 0, "steps of linear rise at the start");
  o.real("weight-decay", {}, 0, 99, "decoupled decay of matrices and embeddings; with --muon of embeddings only");
  o.real("beta1", {}, 0, 0.999999, "AdamW: memory of the gradient");
  o.real("beta2", {}, 0, 0.999999, "AdamW: memory of its square");
  o.real("clip", {}, 0, 1e9, "largest norm of the whole gradient; 0: no clipping");
  o.flag("muon", "Muon for the hidden matrices, AdamW for the rest");
  o.positive("muon-rate", {}, "Muon's highest learning rate");
  o.real("muon-momentum", {}, 0, 0.999999, "Muon's momentum");
}

TrainOptions training_options(const Options& o, TrainOptions t) {
  t.steps = o.integer_or("steps", t.steps);
  t.batch = o.integer_or("batch", t.batch);
  t.accumulate = o.integer_or("accumulate", t.accumulate);
  const double share = t.min_rate / t.rate;
  t.rate = o.real_or("rate", t.rate);
  t.min_rate = o.real_or("min-rate", o.given("rate") ? t.rate * share : t.min_rate);
  t.warmup = o.integer_or("warmup", o.given("steps") ? std::min(t.warmup, t.steps / 10) : t.warmup);
  t.weight_decay = o.real_or("weight-decay", t.weight_decay);
  t.beta1 = o.real_or("beta1", t.beta1);
  t.beta2 = o.real_or("beta2", t.beta2);
  t.clip = o.real_or("clip", t.clip);
  t.muon = o.is_set("muon");
  for (const char* name : {"muon-rate", "muon-momentum"}) require_usage(t.muon || !o.given(name), "--{}: expected --muon beside it", name);
  t.muon_rate = o.real_or("muon-rate", t.muon_rate);
  t.muon_momentum = o.real_or("muon-momentum", t.muon_momentum);
  t.seed = o.seed();
  t.exec = o.exec();
  require_usage(t.min_rate <= t.rate, "--min-rate: expected at most the rate {:g}, found {:g}", t.rate, t.min_rate);
  return t;
}

}  // namespace glassformer::cli
