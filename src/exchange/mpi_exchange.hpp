// The exchange by MPI; where it was built without, there is only an error to throw.
#pragma once
#include "glassformer/exchange/exchange.hpp"

namespace glassformer {

std::unique_ptr<Exchange> join_by_mpi(ExchangeEvents events);

}  // namespace glassformer
