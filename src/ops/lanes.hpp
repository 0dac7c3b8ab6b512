// One register of numbers, for kernels that go along a row from its first element: what they compute does not depend on where the row lies.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "glassformer/core/matrix.hpp"
#include "glassformer/core/register.hpp"

namespace glassformer::ops {

namespace detail {
template <class S, Index L> struct VectorOf {
  typedef S Type __attribute__((vector_size(static_cast<std::size_t>(L) * sizeof(S))));
};
}  // namespace detail
template <class S, Index L> using SomeLanes = typename detail::VectorOf<S, L>::Type;  // L: a power of two
template <class S> constexpr Index kLanes = static_cast<Index>(kRegisterBytes / sizeof(S));
template <class S> using Lanes = SomeLanes<S, kLanes<S>>;

// How many lanes are meant: a constant for all of them, a number at the end of a row.
template <class S> using AllLanes = std::integral_constant<Index, kLanes<S>>;

// Lanes beyond `n` are zero.
template <class S, class N> Lanes<S> load(const S* from, N n) {
  Lanes<S> v{};
  std::memcpy(&v, from, static_cast<std::size_t>(n) * sizeof(S));
  return v;
}
template <class S, class N> void store(S* to, N n, Lanes<S> v) { std::memcpy(to, &v, static_cast<std::size_t>(n) * sizeof(S)); }

// f(i, n) for the registers of a row in order: its lanes are elements i … i + n.
template <class S, class F> [[gnu::always_inline]] inline void for_lanes(Index length, F&& f) {
  Index i = 0;
  for (; i + kLanes<S> <= length; i += kLanes<S>) f(i, AllLanes<S>{});
  if (i < length) f(i, length - i);
}

// Σ of the lanes, by halves.
template <class S> S lanes_sum(Lanes<S> v) {
  S lane[kLanes<S>];
  std::memcpy(lane, &v, sizeof v);
  for (Index half = kLanes<S> / 2; half > 0; half /= 2) {
    for (Index l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

namespace detail {
// Of each `group` lanes every second `unit`, from the first or, if `odd`, from the second one: first those of a, then those of b.
template <class S, Index L, Index unit, Index group, bool odd> SomeLanes<S, L> every_second(SomeLanes<S, L> a, SomeLanes<S, L> b) {
  constexpr auto from = [](Index lane) {
    const Index half = group / 2, within = lane % half, place = lane / group * group + within / unit * 2 * unit + within % unit;
    return static_cast<int>(place + (odd ? unit : 0) + (lane % group < half ? 0 : L));
  };
  return [&]<Index... lane>(std::integer_sequence<Index, lane...>) { return __builtin_shufflevector(a, b, from(lane)...); }(std::make_integer_sequence<Index, L>{});
}
template <class S, Index L, Index unit, Index group, Index n> SomeLanes<S, L> fold(const SomeLanes<S, L>* v) {
  if constexpr (n == 1) {
    return *v;
  } else {
    SomeLanes<S, L> sum[n / 2];
    for (Index i = 0; i < n / 2; ++i) {
      sum[i] = every_second<S, L, unit, group, false>(v[2 * i], v[2 * i + 1]) + every_second<S, L, unit, group, true>(v[2 * i], v[2 * i + 1]);
    }
    if constexpr (n > 2 * L / group) return fold<S, L, unit, group, n / 2>(sum);
    else return fold<S, L, group, L, n / 2>(sum);
  }
}
}  // namespace detail

// {Σ v[0], …, Σ v[L − 1]}: vectors are added by pairs, first within each 16 bytes, where lanes move at less cost than between them.
template <class S, Index L> SomeLanes<S, L> sums_of(const SomeLanes<S, L> (&v)[L]) {
  return detail::fold<S, L, 1, std::min<Index>(L, 16 / sizeof(S)), L>(v);
}

// Σ over registers, in two chains in turn, so that an addition need not wait for the one before.
template <class S> class RowSum {
 public:
  void add(Lanes<S> v) {
    const Lanes<S> sum = next_ + v;
    next_ = other_;
    other_ = sum;
  }
  S total() const { return lanes_sum<S>(next_ + other_); }

 private:
  Lanes<S> next_{}, other_{};
};

// Σ of f(i, n) over the registers of a row; lanes beyond n must be zero.
template <class S, class F> S row_sum(Index length, F&& f) {
  RowSum<S> sum;
  for_lanes<S>(length, [&](Index i, auto n) { sum.add(f(i, n)); });
  return sum.total();
}

// The first n lanes, the others zero.
template <class S> Lanes<S> only(AllLanes<S>, Lanes<S> v) { return v; }
template <class S> Lanes<S> only(Index n, Lanes<S> v) { return load(reinterpret_cast<const S*>(&v), n); }

// eˣ. In float by eˣ = 2ⁿ·eʳ with n = round(x/ln 2), |r| ≤ ln 2/2, and a polynomial of degree 7 for eʳ (Cephes' expf): within 1.1 units in the last
// place from −87 to 88 (tests/ops/lanes.cpp). Below, where float has no normal number for it, it is 0; where it is more than the largest float, infinity; NaN stays NaN.
inline Lanes<float> exp(Lanes<float> x) {
  typedef std::uint32_t Bits __attribute__((vector_size(kRegisterBytes)));
  constexpr float kLeast = -87, kMost = 88.7228F, kRound = 12582912;  // 1.5·2²³: adding it rounds to a whole number, which then fills the low bits
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  const Lanes<float> bounded = x > kMost ? Lanes<float>{} + kMost : x;
  const Lanes<float> shifted = bounded * kLog2E + kRound, n = shifted - kRound;
  const Lanes<float> r = bounded - n * kLn2High - n * kLn2Low;
  Lanes<float> p = 1.9875691500e-4F * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  Bits power, bits;
  std::memcpy(&power, &shifted, sizeof power);
  std::memcpy(&bits, &p, sizeof bits);
  bits += power << 23;  // the exponent of p grows by n
  std::memcpy(&p, &bits, sizeof p);
  p = x > kMost ? Lanes<float>{} + std::numeric_limits<float>::infinity() : p;
  p = x != x ? x : p;
  return x < kLeast ? Lanes<float>{} : p;
}
inline Lanes<double> exp(Lanes<double> x) {
  for (Index l = 0; l < kLanes<double>; ++l) x[l] = std::exp(x[l]);  // double is for checks
  return x;
}

// row ← exp(row − shift), and its sum. −∞ becomes 0 (Eigen's exp leaves 4e-309 of it, or 4e-39 in float).
template <class S> S exponentials(S* row, Index length, S shift) {
  return row_sum<S>(length, [&](Index i, auto n) {
    const Lanes<S> e = only<S>(n, exp(load(row + i, n) - shift));
    store<S>(row + i, n, e);
    return e;
  });
}

}  // namespace glassformer::ops
