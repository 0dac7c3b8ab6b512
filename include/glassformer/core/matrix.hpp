// Matrices: row-major Eigen, so that a row is one token and lies contiguous in memory.
#pragma once
#include <Eigen/Core>
#include <cstdint>
#include <type_traits>

namespace glassformer {

using Index = Eigen::Index;
using Token = std::int32_t;

template <class S> using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class S> using Vector = Eigen::Matrix<S, 1, Eigen::Dynamic, Eigen::RowMajor>;

// Function parameters. They take a whole matrix or a block of one without a copy; S is never deduced from them.
template <class S> using MatrixRef = std::type_identity_t<Eigen::Ref<Matrix<S>, 0, Eigen::OuterStride<>>>;
template <class S> using ConstMatrixRef = std::type_identity_t<const Eigen::Ref<const Matrix<S>, 0, Eigen::OuterStride<>>&>;

// A matrix that lives elsewhere (in an arena, a cache, a workspace): pointer and shape, rows contiguous.
// A vector is a view of one row. An absent matrix (no bias, a frozen gradient) has a null pointer.
template <class S> struct MatrixView {
  S* data = nullptr;
  Index rows = 0, cols = 0;

  explicit operator bool() const { return data != nullptr; }
  Index size() const { return rows * cols; }
  // The view as an Eigen expression: `*view` reads like the matrix that it stands for.
  auto operator*() const {
    using Plain = std::conditional_t<std::is_const_v<S>, const Matrix<std::remove_const_t<S>>, Matrix<S>>;
    return Eigen::Map<Plain>(data, rows, cols);
  }
};

}  // namespace glassformer
