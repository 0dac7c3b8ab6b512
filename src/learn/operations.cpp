#include "learn/operations.hpp"

#include <cmath>

namespace glassformer::learn {

bool OperationCounter::wants(std::string_view) const { return true; }

void OperationCounter::visit(const Site& site, MatrixRef<float> value) {
  const std::string_view name = site.name;
  if (name == "embed") rows += value.rows(), stream_ = value.cols();
  if (name.ends_with("attn.q") || name.ends_with("attn.k") || name.ends_with("attn.v") || name.ends_with("mlp.pre"))
    linear += value.size() * stream_;
  if (name.ends_with("attn.attn_scores")) {
    scores += value.size(), attention += value.size() * head_dim_;
    for (Index i = 0; i < value.rows(); ++i) {
      for (Index j = 0; j < value.cols(); ++j) seen += std::isfinite(value(i, j));
    }
  }
  if (name.ends_with("attn.pattern")) attention += value.size() * head_dim_;
  if (name.ends_with("attn.z")) z_ = value.cols();
  if (name.ends_with("attn_out")) linear += value.size() * z_;
  if (name.ends_with("mlp.post")) post_ = value.cols();
  if (name.ends_with("mlp_out")) linear += value.size() * post_;
  if (name == "logits") head += value.size() * stream_;
}

}  // namespace glassformer::learn
