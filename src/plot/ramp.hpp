// The colours of heat maps.
#pragma once
#include <algorithm>
#include <array>

namespace glassformer::plot {

struct Rgb {
  double red, green, blue;  // 0 … 255
};

// From dark violet over green to yellow, evenly brighter all the way, so that it also reads in grey (after matplotlib's viridis).
inline Rgb ramp(double share) {
  static constexpr std::array<Rgb, 5> stops{{{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}}};
  const double at = std::clamp(share, 0.0, 1.0) * (stops.size() - 1);
  const std::size_t i = std::min(static_cast<std::size_t>(at), stops.size() - 2);
  const double f = at - static_cast<double>(i);
  const auto mix = [f](double a, double b) { return a + f * (b - a); };
  return {mix(stops[i].red, stops[i + 1].red), mix(stops[i].green, stops[i + 1].green), mix(stops[i].blue, stops[i + 1].blue)};
}

// Whether black is easier to read on it than white.
inline bool is_bright(const Rgb& c) { return 0.299 * c.red + 0.587 * c.green + 0.114 * c.blue > 120; }

}  // namespace glassformer::plot
