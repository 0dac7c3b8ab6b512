// Legend: N tokens (rows), I inputs, O outputs. Work is cut by shape alone, never by the number of threads.
#include "ops/quantized_linear.hpp"

#include "glassformer/ops/reference/linear.hpp"
#include "glassformer/quantize/block.hpp"
#include "glassformer/quantize/row.hpp"
#include "ops/counting.hpp"
#include "ops/gemm.hpp"
#include "ops/kernels/kernels.hpp"

namespace glassformer::ops {
namespace {

// A tile of W in floating point: as much as half of a small second-level cache holds (256 KB of floats).
constexpr Index kTileNumbers = 65536;
constexpr Index kUnit = 16;  // tile edges fall on the vector width of the kernels
constexpr Index kTasks = 8;  // enough for the threads of a laptop

// Rows of a tile that is `width` wide.
Index tile_rows(Index width) { return std::max(kUnit, kTileNumbers / std::max<Index>(width, 1) / kUnit * kUnit); }

// This thread's memory for a tile: allocated once, then used again by every product.
template <class S>
S* tile_memory(Index numbers) {
  static thread_local Vector<S> memory;
  if (memory.size() < numbers) memory.resize(numbers);
  return memory.data();
}

// Rows [begin, end) of w as the kernels take them. nf4's scales are computed here, into this thread's memory.
kernels::QuantizedRows rows_of(const Weight<float>& w, Index begin, Index end) {
  const QuantizedMatrix& q = *w.quantized;
  const Index row_blocks = q.cols / block_length(q.type), first = (w.first_row + begin) * row_blocks;
  kernels::QuantizedRows rows{static_cast<kernels::Format>(q.type),
                              reinterpret_cast<const std::uint8_t*>(q.blocks.data()) + first * block_bytes(q.type), nullptr, end - begin,
                              q.cols};
  if (q.type != QuantizedType::nf4) return rows;
  static thread_local Vector<float> scales;
  if (scales.size() < (end - begin) * row_blocks) scales.resize((end - begin) * row_blocks);
  for (Index j = 0; j < (end - begin) * row_blocks; ++j) scales(j) = nf4_absmax(q, first + j);
  rows.scales = scales.data();
  rows.levels = nf4_levels().data();
  return rows;
}
static_assert(static_cast<int>(QuantizedType::q8_0) == static_cast<int>(kernels::Format::q8_0) &&
              static_cast<int>(QuantizedType::q4_0) == static_cast<int>(kernels::Format::q4_0) &&
              static_cast<int>(QuantizedType::int4) == static_cast<int>(kernels::Format::int4) &&
              static_cast<int>(QuantizedType::nf4) == static_cast<int>(kernels::Format::nf4));

// Rows of W a task, where each is a dot product: some 128 KB, which are read in several pieces at once, and shorter pieces more slowly.
Index row_block(const QuantizedMatrix& w, Index O) {
  const Index row_bytes = w.cols / block_length(w.type) * block_bytes(w.type);
  return std::max<Index>(1, std::min((O + kTasks - 1) / kTasks, (Index{1} << 17) / std::max<Index>(row_bytes, 1) + 1));
}

// By the formula, one row of W at a time.
template <class S>
void reference_nt(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y) {
  Matrix<S> row(1, w.cols());
  for (Index o = 0; o < w.rows(); ++o) {
    dequantize<S>(*w.quantized, w.first_row + o, row);
    reference::multiply_nt<S>(1, x, row, 0, y.middleCols(o, 1));
  }
}
template <class S>
void reference_nn(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y) {
  Matrix<S> row(1, w.cols());
  y.setZero();
  for (Index o = 0; o < w.rows(); ++o) {
    dequantize<S>(*w.quantized, w.first_row + o, row);
    reference::multiply_nn<S>(1, x.middleCols(o, 1), row, 1, y);
  }
}

// In double, which the kernels do not know: dot products of R rows of x with one row of W, 64 numbers of W at a time, which never leave the processor's nearest memory. The order of
// each sum depends on I alone, as in row_dot.
template <class Format, int R>
void dots(const QuantizedMatrix& w, Index row, const double* x, Index ldx, double* result) {
  constexpr Index L = 8, kSpan = 64;
  using Lane = Eigen::Array<double, 1, L>;
  using Load = Eigen::Map<const Lane>;
  const Index row_blocks = w.cols / Format::kLength;
  Lane sum[R][4];
  for (int r = 0; r < R; ++r) {
    for (auto& lane : sum[r]) lane.setZero();
  }
  const auto add = [&](Index i, auto blocks) {
    alignas(64) double numbers[blocks * Format::kLength];
    for (Index b = 0; b < blocks; ++b) read_block<Format>(w, row * row_blocks + i / Format::kLength + b, numbers + b * Format::kLength);
    for (Index u = 0; u < blocks * Format::kLength / L; ++u) {
      const Lane v = Load(numbers + u * L);
      for (int r = 0; r < R; ++r) sum[r][u % 4] += Load(x + r * ldx + i + u * L) * v;
    }
  };
  Index i = 0;
  for (; i + kSpan <= w.cols; i += kSpan) add(i, std::integral_constant<Index, kSpan / Format::kLength>{});
  if constexpr (Format::kLength < kSpan) {
    if (i < w.cols) add(i, std::integral_constant<Index, 1>{});  // 32 left over
  }
  for (int r = 0; r < R; ++r) result[r] = ((sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3])).sum();
}

// x as the kernels of 4 bits take it, [N, arranged size], in this thread's memory.
kernels::Rows arranged(ConstMatrixRef<float> x, QuantizedType type) {
  const kernels::Kernels& k = kernels::chosen();
  const Index size = k.arranged_size(x.cols());
  static thread_local Vector<float> memory;
  if (memory.size() < x.rows() * size) memory.resize(x.rows() * size);
  for (Index n = 0; n < x.rows(); ++n)
    k.arrange(static_cast<kernels::Format>(type), x.data() + n * x.outerStride(), x.cols(), memory.data() + n * size);
  return {memory.data(), x.rows(), size};
}

void row_exact_float(ConstMatrixRef<float> x, const Weight<float>& w, MatrixRef<float> y, const Exec& exec) {
  const Index N = x.rows(), I = w.cols(), O = w.rows();
  const QuantizedType type = w.quantized->type;
  const kernels::Kernels& k = kernels::chosen();
  const kernels::Rows rows = type == QuantizedType::q8_0 ? kernels::Rows{x.data(), N, x.outerStride()} : arranged(x, type);
  const auto product = type == QuantizedType::q8_0 ? k.q8_0 : k.nibbles;
  parallel_blocks(N * I * O < 32768 ? 1 : exec.threads, O, row_block(*w.quantized, O), [&](Index begin, Index end) {
    count_linear(N, end - begin, I);
    product(rows, rows_of(w, begin, end), {y.data() + begin, y.outerStride()});
  });
}

// x in 8 bits, a block of 32 as q8_0 has it, in this thread's memory.
kernels::QuantizedInput quantized_input(ConstMatrixRef<float> x, QuantizedType type, const Exec& exec) {
  const Index N = x.rows(), I = x.cols(), blocks = I / 32;
  static thread_local Vector<std::int8_t> codes;
  static thread_local Vector<float> scales;
  static thread_local Vector<std::int32_t> sums;
  if (codes.size() < N * I) codes.resize(N * I);
  if (scales.size() < N * blocks) scales.resize(N * blocks), sums.resize(N * blocks);
  const auto put = [c = codes.data(), s = scales.data(), u = sums.data(), &x, I, blocks](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      for (Index b = 0; b < blocks; ++b) {
        std::int8_t* block = c + n * I + b * 32;
        s[n * blocks + b] = quantize_row<float>({x.data() + n * x.outerStride() + b * 32, 32}, block);
        std::int32_t sum = 0;
        for (Index i = 0; i < 32; ++i) sum += block[i];
        u[n * blocks + b] = sum;
      }
    }
  };
  parallel_blocks(N * I < 32768 ? 1 : exec.threads, N, 16, put);
  kernels::QuantizedInput input{codes.data(), scales.data(), sums.data(), N};
  const kernels::Kernels& k = kernels::chosen();
  // One token a lane where that is faster (docs/performance.md): not for fewer than four, nor for many of q8_0. The bits are the same.
  const Index last = N % 8 < 4 ? N / 8 * 8 : N, lanes = type == QuantizedType::q8_0 && N > 16 ? 0 : last;
  if (k.turn && lanes > 0) {
    static thread_local Vector<std::byte> memory;
    const kernels::Format format = type == QuantizedType::q8_0 ? kernels::Format::q8_0 : kernels::Format::q4_0;
    const Index size = k.turned_size(format, I), groups = (lanes + 7) / 8;
    if (memory.size() < groups * size + 64) memory.resize(groups * size + 64);
    auto* turned = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64);
    parallel_blocks(N * I < 32768 ? 1 : exec.threads, groups, 2, [&](Index begin, Index end) {
      for (Index g = begin; g < end; ++g) {
        const Index n = 8 * g;
        k.turn(format, {input.codes + n * I, input.scales + n * blocks, input.sums + n * blocks, std::min<Index>(8, N - n)}, I, turned + g * size);
      }
    });
    input.turned = turned, input.turned_tokens = lanes;
  }
  return input;
}

bool in_whole_numbers(const Weight<float>& w, const Exec& exec) {
  return exec.activations == Activations::int8 && takes_int8_activations(w.quantized->type);
}

void integer_nt(ConstMatrixRef<float> x, const Weight<float>& w, MatrixRef<float> y, const Exec& exec) {
  const Index N = x.rows(), I = w.cols(), O = w.rows();
  const kernels::Kernels& k = kernels::chosen();
  const kernels::QuantizedInput input = quantized_input(x, w.quantized->type, exec);
  parallel_blocks(N * I * O < 32768 ? 1 : exec.threads, O, round_up(row_block(*w.quantized, O), kUnit), [&](Index begin, Index end) {
    count_linear(N, end - begin, I);
    static thread_local Vector<std::byte> memory;
    const Index bytes = k.integer_scratch(I) + 64;
    if (memory.size() < bytes) memory.resize(bytes);
    const auto address = (reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64;
    k.integer(input, rows_of(w, begin, end), reinterpret_cast<void*>(address), {y.data() + begin, y.outerStride()});
  });
}

void row_exact_double(ConstMatrixRef<double> x, const Weight<double>& w, MatrixRef<double> y, const Exec& exec) {
  const Index N = x.rows(), I = w.cols(), O = w.rows(), block = row_block(*w.quantized, O);
  const int threads = N * I * O < 32768 ? 1 : exec.threads;
  with_block_format(w.quantized->type, [&](auto format) {
    using Format = decltype(format);
    parallel_blocks(threads, O, block, [&](Index begin, Index end) {
      count_linear(N, end - begin, I);
      double sums[4];
      for (Index o = begin; o < end; ++o) {
        const Index row = w.first_row + o;
        Index n = 0;
        for (; n + 4 <= N; n += 4) {
          dots<Format, 4>(*w.quantized, row, x.data() + n * x.outerStride(), x.outerStride(), sums);
          for (int r = 0; r < 4; ++r) y(n + r, o) = sums[r];
        }
        for (; n < N; ++n) dots<Format, 1>(*w.quantized, row, x.data() + n * x.outerStride(), x.outerStride(), &y(n, o));
      }
    });
  });
}

}  // namespace

template <class S>
void quantized_multiply_nt(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y, const Exec& exec) {
  const Index N = x.rows(), I = w.cols(), O = w.rows();
  if (exec.kernels == Kernels::reference) return count_linear(N, O, I), reference_nt<S>(x, w, y);
  if constexpr (std::is_same_v<S, float>) {
    if (in_whole_numbers(w, exec)) return integer_nt(x, w, y, exec);
    if (exec.row_exact) return row_exact_float(x, w, y, exec);
  } else {
    if (exec.row_exact) return row_exact_double(x, w, y, exec);
  }
  // Each task turns its rows of W to floating point and multiplies with them at once.
  const Index rows = std::min(tile_rows(I), round_up((O + kTasks - 1) / kTasks, kUnit));
  parallel_blocks(exec.threads, O, std::max(rows, kUnit), [&](Index begin, Index end) {
    Eigen::Map<Matrix<S>> tile(tile_memory<S>((end - begin) * I), end - begin, I);
    dequantize<S>(*w.quantized, w.first_row + begin, tile);
    count_linear(N, end - begin, I);
    gemm<S>({false, true, N, end - begin, I, 1, x.data(), x.outerStride(), tile.data(), I, 0, y.data() + begin, y.outerStride()});
  });
}

template <class S>
void quantized_multiply_nn(ConstMatrixRef<S> x, const Weight<S>& w, MatrixRef<S> y, const Exec& exec) {
  const Index N = x.rows(), I = w.cols(), O = w.rows();
  if (exec.kernels == Kernels::reference) return count_linear(N, I, O), reference_nn<S>(x, w, y);
  if (O == 0) return y.setZero(), void();
  with_block_format(w.quantized->type, [&](auto format) {
    using Format = decltype(format);
    // Each task has columns of y to itself, whole blocks of W wide, and adds up tile after tile in order.
    const Index width = round_up((I + kTasks - 1) / kTasks, 2 * Format::kLength), rows = tile_rows(width), row_blocks = I / Format::kLength;
    parallel_blocks(exec.threads, I, std::max<Index>(width, 1), [&](Index begin, Index end) {
      const Index columns = end - begin;
      S* tile = tile_memory<S>(rows * columns);
      for (Index o = 0; o < O; o += rows) {
        const Index k = std::min(rows, O - o);
        for (Index r = 0; r < k; ++r) {
          const Index first = (w.first_row + o + r) * row_blocks + begin / Format::kLength;
          for (Index b = 0; b < columns / Format::kLength; ++b)
            read_block<Format>(*w.quantized, first + b, tile + r * columns + b * Format::kLength);
        }
        count_linear(N, columns, k);
        gemm<S>(
            {false, false, N, columns, k, 1, x.data() + o, x.outerStride(), tile, columns, S(o > 0), y.data() + begin, y.outerStride()});
      }
    });
  });
}

template void quantized_multiply_nt<float>(ConstMatrixRef<float>, const Weight<float>&, MatrixRef<float>, const Exec&);
template void quantized_multiply_nt<double>(ConstMatrixRef<double>, const Weight<double>&, MatrixRef<double>, const Exec&);
template void quantized_multiply_nn<float>(ConstMatrixRef<float>, const Weight<float>&, MatrixRef<float>, const Exec&);
template void quantized_multiply_nn<double>(ConstMatrixRef<double>, const Weight<double>&, MatrixRef<double>, const Exec&);

}  // namespace glassformer::ops
