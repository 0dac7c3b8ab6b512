// How fast this machine is, and what share of that the engine reaches. Timings drift from run to run: compare ratios within one.
#pragma once
#include "glassformer/model/config.hpp"
#include "glassformer/train/trainer.hpp"

namespace glassformer {

// Fused multiply-adds in registers on all threads at once, in GFLOP/s (two operations each): the most that any kernel could reach.
double fma_peak_gflops(int threads, double seconds = 0.2);

struct TrainBench {
  Index parameters = 0;
  double step_ms = 0;        // median of the steps after the first
  double tokens_per_s = 0;
  double gflops_per_s = 0;   // FLOPs = (6·(parameters − position table) + 12·layers·width·context)·tokens, the peers' formula
  double useful_gflops_per_s = 0;  // with 6·layers·width·context: masked scores are not work
  double fma_peak_gflops_per_s = 0;
  double share_of_fma_peak() const { return useful_gflops_per_s / fma_peak_gflops_per_s; }
};

// `steps` whole training steps (forward, backward, clipping, AdamW) on random tokens, timed one by one after a first.
TrainBench bench_train(const ModelConfig&, Index batch, Index steps, const Exec&);

}  // namespace glassformer
