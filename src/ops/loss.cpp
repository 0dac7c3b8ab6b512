// Legend: N tokens, V vocabulary, C channels.
#include "glassformer/ops/loss.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"
#include "glassformer/ops/reference/loss.hpp"
#include "ops/lanes.hpp"

namespace glassformer::ops {
namespace {

constexpr Index kRows = 8;  // rows a task

}  // namespace

template <class S> void softmax_forward(ConstMatrixRef<S> x, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::loss);
  require_shape("softmax: y", y.rows(), y.cols(), x.rows(), x.cols());
  if (exec.kernels == Kernels::reference) return reference::softmax_forward<S>(x, y);
  parallel_blocks(exec.threads, x.rows(), kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      auto out = y.row(n).array();
      out = x.row(n).array();
      out *= S(1) / exponentials(y.row(n).data(), y.cols(), x.row(n).maxCoeff());
    }
  });
}

template <class S> void softmax_backward(ConstMatrixRef<S> y, ConstMatrixRef<S> dy, MatrixRef<S> dx, const Exec& exec) {
  const Timed timed(Operation::loss);
  require_shape("softmax: dy", dy.rows(), dy.cols(), y.rows(), y.cols());
  require_shape("softmax: dx", dx.rows(), dx.cols(), y.rows(), y.cols());
  if (exec.kernels == Kernels::reference) return reference::softmax_backward<S>(y, dy, dx);
  parallel_blocks(exec.threads, y.rows(), kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const S along = y.row(n).dot(dy.row(n));
      dx.row(n).array() = y.row(n).array() * (dy.row(n).array() - along);
    }
  });
}

template <class S>
Index cross_entropy(MatrixRef<S> logits, std::span<const Token> targets, std::span<double> losses, bool gradient, S scale, const Exec& exec) {
  const Timed timed(Operation::loss);
  const Index N = logits.rows(), V = logits.cols();
  require(static_cast<Index>(targets.size()) == N && static_cast<Index>(losses.size()) == N, "cross_entropy: {} rows of logits, {} targets, {} losses", N,
          targets.size(), losses.size());
  for (const Token t : targets) require(t >= -1 && t < V, "cross_entropy: expected a target in −1 … {}, found {}", V - 1, t);
  if (exec.kernels == Kernels::reference) return reference::cross_entropy<S>(logits, targets, losses, gradient, scale);
  std::atomic<Index> correct = 0;
  parallel_blocks(exec.threads, N, kRows, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const Token target = targets[static_cast<std::size_t>(n)];
      double& loss = losses[static_cast<std::size_t>(n)];
      auto row = logits.row(n).array();
      if (target < 0) {
        loss = 0;
        if (gradient) row.setZero();
        continue;
      }
      const S max = row.maxCoeff(), at_target = row(target);
      correct += at_target == max;
      if (gradient) {
        const S sum = exponentials(logits.row(n).data(), logits.cols(), max);
        loss = std::log(static_cast<double>(sum)) + static_cast<double>(max) - static_cast<double>(at_target);
        row *= scale / sum;
        row(target) -= scale;
      } else {
        const S sum = row_sum<S>(logits.cols(), [&](Index i, auto m) { return only<S>(m, exp(load(logits.row(n).data() + i, m) - max)); });
        loss = std::log(static_cast<double>(sum)) + static_cast<double>(max) - static_cast<double>(at_target);
      }
    }
  });
  return correct;
}

template <class S> void embedding_forward(const Weight<S>& table, std::span<const Token> ids, MatrixRef<S> y, const Exec& exec) {
  const Timed timed(Operation::embedding);
  require_shape("embedding: y", y.rows(), y.cols(), static_cast<Index>(ids.size()), table.cols());
  for (const Token id : ids) require(id >= 0 && id < table.rows(), "embedding: expected an id in 0 … {}, found {}", table.rows() - 1, id);
  parallel_blocks(exec.threads, y.rows(), 64, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const Index id = ids[static_cast<std::size_t>(n)];
      if (table.quantized) {
        dequantize<S>(*table.quantized, table.first_row + id, y.row(n));
      } else {
        y.row(n) = (*table).row(id);
      }
    }
  });
}

template <class S> void embedding_backward(std::span<const Token> ids, ConstMatrixRef<S> dy, MatrixView<S> dtable, const Exec& exec) {
  const Timed timed(Operation::embedding);
  require_shape("embedding: dy", dy.rows(), dy.cols(), static_cast<Index>(ids.size()), dtable.cols);
  for (const Token id : ids) require(id >= 0 && id < dtable.rows, "embedding: expected an id in 0 … {}, found {}", dtable.rows - 1, id);
  // Forward was: y_n = table[ids_n]. Two rows may have one id, so threads share columns, not rows.
  parallel_blocks(exec.threads, dy.cols(), 64, [&](Index begin, Index end) {
    for (Index n = 0; n < dy.rows(); ++n) {
      (*dtable).row(ids[static_cast<std::size_t>(n)]).segment(begin, end - begin) += dy.row(n).segment(begin, end - begin);
    }
  });
}

template void softmax_forward<float>(ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template void softmax_backward<float>(ConstMatrixRef<float>, ConstMatrixRef<float>, MatrixRef<float>, const Exec&);
template Index cross_entropy<float>(MatrixRef<float>, std::span<const Token>, std::span<double>, bool, float, const Exec&);
template void embedding_forward<float>(const Weight<float>&, std::span<const Token>, MatrixRef<float>, const Exec&);
template void embedding_backward<float>(std::span<const Token>, ConstMatrixRef<float>, MatrixView<float>, const Exec&);
template void softmax_forward<double>(ConstMatrixRef<double>, MatrixRef<double>, const Exec&);
template void softmax_backward<double>(ConstMatrixRef<double>, ConstMatrixRef<double>, MatrixRef<double>, const Exec&);
template Index cross_entropy<double>(MatrixRef<double>, std::span<const Token>, std::span<double>, bool, double, const Exec&);
template void embedding_forward<double>(const Weight<double>&, std::span<const Token>, MatrixRef<double>, const Exec&);
template void embedding_backward<double>(std::span<const Token>, ConstMatrixRef<double>, MatrixView<double>, const Exec&);

}  // namespace glassformer::ops
