#include "glassformer/ops/count.hpp"

#include <stdexcept>

#include "ops/counting.hpp"

namespace glassformer::ops {

std::atomic<Counters*> counters{nullptr};
namespace {
Counters the_counters;
}

CountOperations::CountOperations() {
  Counters* nobody = nullptr;
  if (!counters.compare_exchange_strong(nobody, &the_counters)) throw std::logic_error("CountOperations: expected one at a time, found another that counts");
  the_counters.linear = the_counters.attention = the_counters.pairs = 0;
}
CountOperations::~CountOperations() { counters = nullptr; }
OperationCount CountOperations::count() const { return {the_counters.linear, the_counters.attention, the_counters.pairs}; }

}  // namespace glassformer::ops
