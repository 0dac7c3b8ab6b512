// The exchange by MPI; where it was built without, there is only an error to throw, or nobody else.
#pragma once
#include "glassformer/exchange/exchange.hpp"

namespace glassformer {

// What the launcher says in the environment.
struct Launched {
  int ranks = 0;  // 0: it does not tell
  int rank = 0;
};

std::unique_ptr<Exchange> join_by_mpi(ExchangeEvents events, Launched);

}  // namespace glassformer
