// Multiply-adds of a forward pass, counted as it runs: every value that a matrix product leaves is seen by the trace, and each of its
// elements cost as many multiply-adds as the product's inner dimension, the width of what was read.
#pragma once
#include "glassformer/model/config.hpp"
#include "glassformer/trace/trace.hpp"

namespace glassformer::learn {

// Watching scores makes the formulas' kernel run, which computes masked ones too: `scores` counts what was computed, `seen` the finite
// ones.
class OperationCounter : public Trace<float> {
 public:
  explicit OperationCounter(const ModelConfig& resolved_config) : head_dim_(resolved_config.head_dim) {}
  bool wants(std::string_view site) const override;
  void visit(const Site&, MatrixRef<float> value) override;

  Index linear = 0;     // multiply-adds of the projections and the MLP
  Index attention = 0;  // of q·k and p·v
  Index head = 0;       // of the output head
  Index scores = 0;     // products q·k
  Index seen = 0;       // of them not masked
  Index rows = 0;       // tokens that entered the model
  Index flops() const { return 2 * (linear + attention + head); }

 private:
  Index head_dim_ = 1;
  Index stream_ = 0, z_ = 0, post_ = 0;  // widths: what the projections read
};

}  // namespace glassformer::learn
