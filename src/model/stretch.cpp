#include "glassformer/model/stretch.hpp"

namespace glassformer {

template <class S> Decoder<S> stretched(const Decoder<S>& m, Index context, RopeStretch stretch) {
  const ModelConfig& c = m.config;
  require(c.position != Position::learned || context == c.context, "context: expected {}, the places that the model has learned, found {}", c.context,
          context);
  if (is_yarn(stretch) && stretch.trained_context == 0) stretch.trained_context = is_yarn(c.rope_stretch) ? c.rope_stretch.trained_context : c.context;
  Decoder<S> other = m;  // views of the same memory
  other.config.context = context, other.config.rope_stretch = stretch;
  other.config = resolved(other.config);
  if (c.position == Position::rope) other.rope = std::make_shared<RopeTable<S>>(rope_table<S>(context, c.head_dim, c.rope_base, stretch));
  for (auto& block : other.blocks) block.attention.rope = other.rope.get();
  return other;
}

template Decoder<float> stretched<float>(const Decoder<float>&, Index, RopeStretch);
template Decoder<double> stretched<double>(const Decoder<double>&, Index, RopeStretch);

}  // namespace glassformer
