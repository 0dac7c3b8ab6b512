// How fast the engine trains on this machine, and what share of the machine's limit that is.
#pragma once
#include "glassformer/bench/operations.hpp"
#include "glassformer/model/config.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer {

struct TrainBench {
  Index parameters = 0;
  double step_ms = 0;  // median of the steps after the first
  double tokens_per_s = 0;
  double gflops_per_s = 0;         // FLOPs = (6·(parameters − position table) + 12·layers·width·context)·tokens, the peers' formula
  double useful_gflops_per_s = 0;  // with 6·layers·width·context: masked scores are not work
  double fma_peak_gflops_per_s = 0;
  std::vector<OperationTime> operations;  // of a step, in steps of their own after the timed ones
  double share_of_fma_peak() const { return useful_gflops_per_s / fma_peak_gflops_per_s; }
};

// `steps` whole training steps (forward, backward, clipping, AdamW) on random tokens, timed one by one after a first.
TrainBench bench_train(const ModelConfig&, Index batch, Index steps, const Exec&);

}  // namespace glassformer
