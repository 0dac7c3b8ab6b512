// A model read, or trained on, at another length than it was trained for.
#pragma once
#include "glassformer/model/decoder.hpp"

namespace glassformer {

// The model with another context and another scaling of RoPE, which replaces the one it has. Weights, adapters and the hook are shared with
// the model, not copied: training one trains the other. A scaling that reads the trained context and is given none takes the model's: that
// of its own YaRN, else its context.
// Throws std::invalid_argument as `resolved` does, and for another context with a learned position table, which has a row for each place.
//   Decoder<float> longer = stretched(model, 4 * model.config.context, {RopeScaling::ntk, 4});
template <class S> Decoder<S> stretched(const Decoder<S>&, Index context, RopeStretch);

}  // namespace glassformer
