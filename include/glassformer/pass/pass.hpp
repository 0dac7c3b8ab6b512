// How to run a pass through the layers: where each sequence lies, the KV cache, randomness, threads and kernels, and who watches.
// Activations are packed [ΣT, C]: sequences lie one after another, bounded by `starts`. The same layout serves training
// batches, ragged decoding, and document bounds (each document is a sequence of its own).
#pragma once
#include <span>
#include <string>

#include "glassformer/cache/kv_cache.hpp"
#include "glassformer/core/parallel.hpp"
#include "glassformer/core/random.hpp"
#include "glassformer/core/workspace.hpp"
#include "glassformer/ops/activation.hpp"
#include "glassformer/trace/trace.hpp"

namespace glassformer {

// CMake's GLASSFORMER_TRACE=OFF builds an engine without any site, against which the cost of having them is measured (tests/bench).
#ifdef GLASSFORMER_NO_TRACE
inline constexpr bool kHasSites = false;
#else
inline constexpr bool kHasSites = true;
#endif

template <class S> struct Pass {
  Exec exec;
  std::span<const Index> starts;      // sequence s is rows starts[s] … starts[s+1]
  std::span<const Index> places;      // [ΣT] place of each row in its sequence; filled in by the decoder
  KvCache<S>* cache = nullptr;        // null: all keys are in this pass
  std::span<const Index> slots;       // slot of each sequence in the cache
  MatrixView<const S> mix;            // [sequences, adapters]: how much each sequence gets of each attached adapter; null: the weights they were attached with
  bool training = false;              // dropout acts
  RandomStream random;                // of this step and micro-batch
  Trace<S>* trace = nullptr;          // null: nobody looks
  Workspace* workspace = nullptr;     // scratch; never null
  Index layer = 0;
  std::string prefix;                 // of site names, "blocks.3."; only filled in when somebody looks

  Index sequences() const { return static_cast<Index>(starts.size()) - 1; }
  Index tokens() const { return starts.back(); }

  // The random stream of one dropout in one layer.
  ops::Dropout dropout(double rate, std::string_view name) const {
    if (!training || rate <= 0) return {};
    return {rate, random.at(static_cast<std::uint64_t>(layer)).at(name)};
  }
  bool wants(std::string_view site) const { return kHasSites && trace != nullptr && trace->wants(prefix + std::string(site)); }
  // Shows a value to the trace, which may change it.
  void visit(std::string_view site, MatrixRef<S> value, Index sequence = -1, Index head = -1) const {
    if (!kHasSites || trace == nullptr) return;
    const std::string name = prefix + std::string(site);
    if (trace->wants(name)) trace->visit({name, sequence, head}, value);
  }
};

}  // namespace glassformer
