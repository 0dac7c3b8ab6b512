// Looking into a faulty engine: all values of one pass, and what theory says of them.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "glassformer/learn/fault_rig.hpp"

namespace glassformer {

// The values of a pass in the order in which they fired. Token by token, rows of one site follow one another.
class Album : public Trace<float> {
 public:
  bool wants(std::string_view) const override { return true; }
  void visit(const Site& site, MatrixRef<float> value) override;
  const std::vector<std::string>& names() const { return names_; }
  const Matrix<float>* find(const std::string& name, Index sequence = -1, Index head = -1) const;  // null: nothing there
  bool by_head(const std::string& name) const { return find(name, 0, 0) != nullptr; }
  const std::map<Site, Matrix<float>>& values() const { return values_; }

 private:
  std::vector<std::string> names_;
  std::map<Site, Matrix<float>> values_;
};

struct Law {
  std::string sentence;  // "each row sums to 1"
  double deviation = 0;  // largest
};

struct Look {
  Album album;
  Batch batch;                            // what was read
  bool decode = false;                    // token by token: no gradients and no laws
  std::map<Site, std::vector<Law>> laws;  // what theory expects of a site's values, given those before it: by the engine's operations
};
// Two documents forward and backward (with the fresh weights and a training batch, where the fault shows in training; with the adapter,
// where it shows there), or one document through the cache: the first half at once, then token by token. `number` tells looks apart
// where chance plays a part.
Look look_at(Rig&, Probe, bool decode, std::uint64_t number);

}  // namespace glassformer
