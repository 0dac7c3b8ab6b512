#include "glassformer/bench/operations.hpp"

#include <algorithm>

namespace glassformer {

std::vector<OperationTime> operation_times(const Profile& profile, double steps) {
  std::vector<OperationTime> all;
  const double total = profile.seconds();
  for (std::size_t o = 1; o < kOperationNames.size(); ++o) {
    const double seconds = profile.seconds(static_cast<Operation>(o));
    if (seconds > 0) all.push_back({kOperationNames[o], 1e3 * seconds / steps, seconds / total});
  }
  std::ranges::sort(all, std::ranges::greater(), &OperationTime::ms);
  const double rest = profile.seconds(Operation::rest);
  all.push_back({kOperationNames[0], 1e3 * rest / steps, rest / total});
  return all;
}

}  // namespace glassformer
