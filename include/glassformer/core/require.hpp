// What goes wrong: a caller's mistake throws std::invalid_argument; a file's mistake is returned as Expected.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <tl/expected.hpp>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

// A value, or the whole sentence that a user should read ("FILE: what was expected, what was found").
template <class T> using Expected = tl::expected<T, std::string>;

template <class... A> tl::unexpected<std::string> unexpected(fmt::format_string<A...> message, A&&... arguments) {
  return tl::unexpected<std::string>(fmt::format(message, std::forward<A>(arguments)...));
}

// Throws std::invalid_argument with the formatted message unless `ok`.
template <class... A> void require(bool ok, fmt::format_string<A...> message, A&&... arguments) {
  if (!ok) throw std::invalid_argument(fmt::format(message, std::forward<A>(arguments)...));
}

// Throws std::invalid_argument naming the expected and the actual shape.
inline void require_shape(const char* name, Index rows, Index cols, Index expected_rows, Index expected_cols) {
  require(rows == expected_rows && cols == expected_cols, "{}: expected shape [{}, {}], found [{}, {}]", name, expected_rows, expected_cols, rows, cols);
}

}  // namespace glassformer
