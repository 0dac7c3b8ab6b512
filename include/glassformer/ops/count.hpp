// Multiply-adds, counted by the kernels that do them. When nobody counts, each product asks one predicted question.
#pragma once
#include "glassformer/core/matrix.hpp"

namespace glassformer::ops {

struct OperationCount {
  Index linear = 0;     // multiply-adds of matrix products: each block's rows · columns · inner length
  Index attention = 0;  // of q·k and p·v and, backward, of their derivatives, masked pairs and padding to whole vectors included
  Index pairs = 0;      // (query, key, head) whose score was not masked, once for each time that it was computed
};

// Counts all products of this process while it lives, on any thread.
//   const ops::CountOperations counting;
//   decoder_forward<float>(model, pass, ids, hidden);
//   counting.count().linear                                    by what the kernels did
// Throws std::logic_error while another one lives.
class CountOperations {
 public:
  CountOperations();
  ~CountOperations();
  CountOperations(const CountOperations&) = delete;
  CountOperations& operator=(const CountOperations&) = delete;
  OperationCount count() const;
};

}  // namespace glassformer::ops
