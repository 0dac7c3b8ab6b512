// Where the time goes, as a table.
#pragma once
#include <vector>

#include "glassformer/core/profile.hpp"

namespace glassformer {

struct OperationTime {
  const char* name;
  double ms;     // of one step
  double share;  // 0 … 1
};

// What `profile` saw in `steps` equal steps: the longest first, "rest" (all that has no name) last; operations that never ran are left out.
std::vector<OperationTime> operation_times(const Profile& profile, double steps);

}  // namespace glassformer
