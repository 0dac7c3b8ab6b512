#include "glassformer/trace/trace.hpp"

#include "glassformer/core/require.hpp"

namespace glassformer {

template <class S> const Matrix<S>& Recorder<S>::at(std::string_view name, Index sequence, Index head) const {
  const auto it = values_.find(Site{std::string(name), sequence, head});
  if (it != values_.end()) return it->second;
  std::string recorded;
  for (const auto& [site, value] : values_) {
    if (!recorded.ends_with(site.name)) recorded += (recorded.empty() ? "" : ", ") + site.name;
  }
  require(false, "no value at site {} (sequence {}, head {}); recorded: {}", name, sequence, head, recorded.empty() ? "nothing" : recorded);
  return it->second;
}

template class Recorder<float>;
template class Recorder<double>;

}  // namespace glassformer
