#include "glassformer/position/position.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "glassformer/core/profile.hpp"
#include "glassformer/core/require.hpp"

namespace glassformer {

template <class S> void sinusoidal_encoding(Index place, MatrixRef<S> y) {
  const Index C = y.cols();
  for (Index c = 0; c < C; ++c) {
    const double angle = static_cast<double>(place) * std::pow(10000.0, -static_cast<double>(c / 2 * 2) / static_cast<double>(C));
    y(0, c) = static_cast<S>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
  }
}

namespace {

constexpr double kSlowTurns = 1, kFastTurns = 32;  // YaRN: a pair that turns less in L is interpolated, one that turns more is left alone
constexpr double kMostStretch = 1e6;
constexpr Index kMostTrained = 1 << 24;

// The pair, a real number, that turns `turns` times in L places: L·base^(−2i/D)/2π = turns, solved for i.
double pair_of_turns(double turns, Index head_dim, double base, double trained) {
  return static_cast<double>(head_dim) * std::log(trained / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
}

// γ of each pair: how much of its own frequency it keeps.
std::vector<double> kept_shares(const std::vector<double>& theta, double base, const RopeStretch& stretch) {
  const auto trained = static_cast<double>(stretch.trained_context);
  const Index head_dim = 2 * static_cast<Index>(theta.size());
  std::vector<double> gamma(theta.size());
  // The authors' code rounds the ramp's ends to whole pairs, outwards, and holds them inside 0 … D − 1.
  const double first = std::max(std::floor(pair_of_turns(kFastTurns, head_dim, base, trained)), 0.0);
  double last = std::min(std::ceil(pair_of_turns(kSlowTurns, head_dim, base, trained)), static_cast<double>(head_dim - 1));
  if (last == first) last += 0.001;
  for (std::size_t i = 0; i < theta.size(); ++i) {
    const double turns = trained * theta[i] / (2 * std::numbers::pi);  // r_i
    const double rise = stretch.scaling == RopeScaling::yarn ? (turns - kSlowTurns) / (kFastTurns - kSlowTurns)
                                                             : 1 - (static_cast<double>(i) - first) / (last - first);
    gamma[i] = std::clamp(rise, 0.0, 1.0);
  }
  return gamma;
}

}  // namespace

bool is_yarn(const RopeStretch& s) { return s.scaling == RopeScaling::yarn || s.scaling == RopeScaling::yarn_pairs; }

void validate(const RopeStretch& s, Index head_dim, double base) {
  require(s.factor >= 1 && s.factor <= kMostStretch, "rope-factor: expected a number from 1 to {:g}, found {}", kMostStretch, s.factor);
  require(s.scaling != RopeScaling::none || s.factor == 1, "rope-factor: expected a scaling of RoPE beside {}, found none", s.factor);
  require(s.scaling != RopeScaling::ntk || head_dim > 2, "NTK scaling of RoPE: expected a head width above 2, found {}", head_dim);
  require(s.scaling != RopeScaling::yarn_pairs || base > 1, "YaRN by pairs: expected a base of RoPE above 1, found {}", base);
  require(!is_yarn(s) || (s.trained_context >= 1 && s.trained_context <= kMostTrained),
          "YaRN: expected the context that the model was trained on, 1 to {} tokens, found {}", kMostTrained, s.trained_context);
}

std::vector<double> rope_frequencies(Index head_dim, double base, const RopeStretch& stretch) {
  require(head_dim > 0 && head_dim % 2 == 0, "RoPE turns pairs: expected an even head width, found {}", head_dim);
  validate(stretch, head_dim, base);
  const auto D = static_cast<double>(head_dim);
  const double s = stretch.factor;
  if (stretch.scaling == RopeScaling::ntk) base *= std::pow(s, D / (D - 2));
  std::vector<double> theta(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < theta.size(); ++i) theta[i] = std::pow(base, -2.0 * static_cast<double>(i) / D);
  if (stretch.scaling == RopeScaling::linear) {
    for (double& t : theta) t /= s;
  } else if (is_yarn(stretch)) {
    const std::vector<double> gamma = kept_shares(theta, base, stretch);
    for (std::size_t i = 0; i < theta.size(); ++i) theta[i] *= (1 - gamma[i]) / s + gamma[i];
  }
  return theta;
}

double rope_length(const RopeStretch& stretch) { return is_yarn(stretch) ? 0.1 * std::log(stretch.factor) + 1 : 1; }

template <class S> RopeTable<S> rope_table(Index places, Index head_dim, double base, const RopeStretch& stretch) {
  RopeTable<S> table{rope_frequencies(head_dim, base, stretch), rope_length(stretch), Matrix<S>(places, head_dim / 2), Matrix<S>(places, head_dim / 2)};
  for (Index p = 0; p < places; ++p) {
    for (Index i = 0; i < head_dim / 2; ++i) {
      const double angle = static_cast<double>(p) * table.frequencies[static_cast<std::size_t>(i)];
      table.cosine(p, i) = static_cast<S>(table.length * std::cos(angle));
      table.sine(p, i) = static_cast<S>(table.length * std::sin(angle));
    }
  }
  return table;
}

template <class S>
void rope_rotate(const RopeTable<S>& table, std::span<const Index> places, Index heads, bool transposed, MatrixRef<S> x, const Exec& exec) {
  const Timed timed(Operation::position);
  const Index half = static_cast<Index>(table.frequencies.size());
  require_shape("rope_rotate", x.rows(), x.cols(), static_cast<Index>(places.size()), heads * 2 * half);
  for (const Index place : places) require(place >= 0, "rope_rotate: expected places of 0 and above, found {}", place);
  const S sign = transposed ? S(-1) : S(1);
  parallel_blocks(exec.threads, x.rows(), 32, [&](Index begin, Index end) {
    Vector<S> beyond;  // [2·half] cosines and sines of a place that the table has not
    for (Index n = begin; n < end; ++n) {
      const Index p = places[static_cast<std::size_t>(n)];
      const bool known = p < table.cosine.rows();
      if (!known) {
        beyond.resize(2 * half);
        for (Index i = 0; i < half; ++i) {
          const double angle = static_cast<double>(p) * table.frequencies[static_cast<std::size_t>(i)];
          beyond(i) = static_cast<S>(table.length * std::cos(angle)), beyond(half + i) = static_cast<S>(table.length * std::sin(angle));
        }
      }
      const S* __restrict cosine = known ? table.cosine.row(p).data() : beyond.data();
      const S* __restrict sine = known ? table.sine.row(p).data() : beyond.data() + half;
      for (Index h = 0; h < heads; ++h) {
        S* __restrict a = &x(n, h * 2 * half);
        S* __restrict b = a + half;
        for (Index i = 0; i < half; ++i) {
          const S c = cosine[i], s = sign * sine[i], ai = a[i], bi = b[i];
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
template RopeTable<float> rope_table<float>(Index, Index, double, const RopeStretch&);
template RopeTable<double> rope_table<double>(Index, Index, double, const RopeStretch&);
template void rope_rotate<float>(const RopeTable<float>&, std::span<const Index>, Index, bool, MatrixRef<float>, const Exec&);
template void rope_rotate<double>(const RopeTable<double>&, std::span<const Index>, Index, bool, MatrixRef<double>, const Exec&);

}  // namespace glassformer
