// The streaming attention kernels: blocks of queries against blocks of keys, with a running maximum and sum.
#pragma once
#include "glassformer/ops/attention_core.hpp"

namespace glassformer::ops {

template <class S> void stream_forward(const AttentionShape&, std::span<const AttentionSequence<S>>, const Exec&);
template <class S> void stream_backward(const AttentionShape&, std::span<const AttentionSequence<S>>, std::span<const AttentionGradients<S>>, const Exec&);

}  // namespace glassformer::ops
