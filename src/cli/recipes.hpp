// How to train: the recipe that belongs to each preset, and the options that change it.
#pragma once
#include "cli/options.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer::cli {

// The recipe of a preset of `model_preset`; `muon`: with Muon on the hidden matrices.
TrainOptions recipe(const std::string& preset, bool muon);

// --steps, --batch, … under the heading "Training".
void declare_training_options(Options&, const std::string& standards);

// `base` with what was given put over it, and --seed, --threads, --kernels. Where only --rate was given, the lowest rate keeps its share of
// it; where only --steps was given, the warm-up is at most a tenth of them.
TrainOptions training_options(const Options&, TrainOptions base);

}  // namespace glassformer::cli
