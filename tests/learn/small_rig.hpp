// One trained small model for all tests of faults: each test leaves it as it was.
#pragma once
#include "glassformer/learn/fault_rig.hpp"

namespace glassformer {

inline Rig& rig() {
  static Rig r = make_rig(1);
  return r;
}

}  // namespace glassformer
