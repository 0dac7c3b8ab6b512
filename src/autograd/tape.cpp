#include "glassformer/autograd/tape.hpp"

#include "glassformer/core/require.hpp"

namespace glassformer {

void detail::different_tapes() { throw std::invalid_argument("expected two numbers on one tape, found them on two"); }

// Nodes stand in the order in which they were computed, so whoever reads node n stands after it: going down from y, ∂y/∂(node n) is whole
// before it is handed on.
Derivatives Tape::backward(const Var& y) const {
  std::vector<double> dy(nodes_.size(), 0.0);      // ∂y/∂(node n)
  if (!y.tape) return Derivatives(std::move(dy));  // a constant
  require(y.tape == this, "expected a number on this tape, found one on another");
  require(y.node < size(), "expected one of the {} numbers on this tape, found number {}, from before it was cleared", size(), y.node);

  dy[static_cast<std::size_t>(y.node)] = 1;  // ∂y/∂y
  for (Index n = y.node; n >= 0; --n) {
    const Node& node = nodes_[static_cast<std::size_t>(n)];
    for (std::size_t i = 0; i < 2; ++i) {
      if (node.inputs[i] >= 0) dy[static_cast<std::size_t>(node.inputs[i])] += dy[static_cast<std::size_t>(n)] * node.derivative[i];
    }
  }
  return Derivatives(std::move(dy));
}

}  // namespace glassformer
