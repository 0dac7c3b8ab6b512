#include "glassformer/position/position.hpp"

#include <bit>
#include <cmath>

#include "glassformer/core/require.hpp"

namespace glassformer {

template <class S> void sinusoidal_encoding(Index place, MatrixRef<S> y) {
  const Index C = y.cols();
  for (Index c = 0; c < C; ++c) {
    const double angle = static_cast<double>(place) * std::pow(10000.0, -static_cast<double>(c / 2 * 2) / static_cast<double>(C));
    y(0, c) = static_cast<S>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
  }
}

std::vector<double> rope_frequencies(Index head_dim, double base) {
  require(head_dim > 0 && head_dim % 2 == 0, "RoPE turns pairs: expected an even head width, found {}", head_dim);
  std::vector<double> theta(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < theta.size(); ++i) theta[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  return theta;
}

template <class S> RopeTable<S> rope_table(Index places, Index head_dim, double base) {
  RopeTable<S> table{rope_frequencies(head_dim, base), Matrix<S>(places, head_dim / 2), Matrix<S>(places, head_dim / 2)};
  for (Index p = 0; p < places; ++p) {
    for (Index i = 0; i < head_dim / 2; ++i) {
      const double angle = static_cast<double>(p) * table.frequencies[static_cast<std::size_t>(i)];
      table.cosine(p, i) = static_cast<S>(std::cos(angle));
      table.sine(p, i) = static_cast<S>(std::sin(angle));
    }
  }
  return table;
}

template <class S>
void rope_rotate(const RopeTable<S>& table, std::span<const Index> places, Index heads, bool inverse, MatrixRef<S> x, const Exec& exec) {
  const Index half = static_cast<Index>(table.frequencies.size());
  require_shape("rope_rotate", x.rows(), x.cols(), static_cast<Index>(places.size()), heads * 2 * half);
  for (const Index place : places) require(place >= 0, "rope_rotate: expected places of 0 and above, found {}", place);
  const S sign = inverse ? S(-1) : S(1);
  parallel_blocks(exec.threads, x.rows(), 32, [&](Index begin, Index end) {
    Vector<S> cosine(half), sine(half);
    for (Index n = begin; n < end; ++n) {
      const Index p = places[static_cast<std::size_t>(n)];
      if (p < table.cosine.rows()) {
        cosine = table.cosine.row(p), sine = table.sine.row(p);
      } else {
        for (Index i = 0; i < half; ++i) {
          const double angle = static_cast<double>(p) * table.frequencies[static_cast<std::size_t>(i)];
          cosine(i) = static_cast<S>(std::cos(angle)), sine(i) = static_cast<S>(std::sin(angle));
        }
      }
      for (Index h = 0; h < heads; ++h) {
        S* a = &x(n, h * 2 * half);
        S* b = a + half;
        for (Index i = 0; i < half; ++i) {
          const S c = cosine(i), s = sign * sine(i), ai = a[i], bi = b[i];
          a[i] = ai * c - bi * s;
          b[i] = ai * s + bi * c;
        }
      }
    }
  });
}

std::vector<double> alibi_slopes(Index heads) {
  require(heads > 0, "ALiBi: expected at least one head, found {}", heads);
  const auto power_of_two = [](Index n) {
    std::vector<double> slopes;
    for (Index h = 1; h <= n; ++h) slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(n)));
    return slopes;
  };
  const auto lower = static_cast<Index>(std::bit_floor(static_cast<std::uint64_t>(heads)));
  std::vector<double> slopes = power_of_two(lower);
  const std::vector<double> twice = power_of_two(2 * lower);
  for (Index h = 0; static_cast<Index>(slopes.size()) < heads; h += 2) slopes.push_back(twice[static_cast<std::size_t>(h)]);
  return slopes;
}

template void sinusoidal_encoding<float>(Index, MatrixRef<float>);
template void sinusoidal_encoding<double>(Index, MatrixRef<double>);
template RopeTable<float> rope_table<float>(Index, Index, double);
template RopeTable<double> rope_table<double>(Index, Index, double);
template void rope_rotate<float>(const RopeTable<float>&, std::span<const Index>, Index, bool, MatrixRef<float>, const Exec&);
template void rope_rotate<double>(const RopeTable<double>&, std::span<const Index>, Index, bool, MatrixRef<double>, const Exec&);

}  // namespace glassformer
