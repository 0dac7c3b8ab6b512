#include "plot/axis.hpp"

#include <algorithm>
#include <cmath>

#include "glassformer/core/require.hpp"

namespace glassformer::plot {

void check(const Chart& c) {
  const std::size_t count = c.kind == Chart::Kind::bars ? c.names.size() : c.x.size();
  for (const Series& s : c.series) require(s.y.size() == count, "chart: expected {} values in {}, found {}", count, s.name, s.y.size());
}

void Axis::take(double v) {
  if (!std::isfinite(v)) return;
  require(!log || v > 0, "chart: expected values above zero on a logarithmic axis, found {}", v);
  low = std::min(low, v), high = std::max(high, v);
}

void Axis::widen() {
  if (low > high) low = log ? 1 : 0, high = 1;
  if (low == high) log ? (low /= 2, high *= 2) : (low -= 0.5, high += 0.5);
}

double Axis::share(double v) const {
  const auto place = [this](double x) { return log ? std::log10(x) : x; };
  return (place(v) - place(low)) / (place(high) - place(low));
}

std::pair<Axis, Axis> axes_of(const Chart& c) {
  for (std::size_t i = 1; i < c.x.size(); ++i)
    require(c.x[i] > c.x[i - 1], "chart: expected ascending x, found {} after {}", c.x[i], c.x[i - 1]);
  Axis x{.log = c.x_log}, y{.log = c.y_log};
  for (const double v : c.x) x.take(v);
  for (const Series& s : c.series) {
    for (const double v : s.y) y.take(v);
  }
  x.widen(), y.widen();
  return {x, y};
}

std::vector<Tick> ticks(const Axis& axis, int count) {
  std::vector<Tick> out;
  const auto inside = [&](double v) { return v >= axis.low - 1e-9 * std::abs(axis.low) && v <= axis.high + 1e-9 * std::abs(axis.high); };
  if (axis.log) {
    const int first = static_cast<int>(std::floor(std::log10(axis.low))), last = static_cast<int>(std::ceil(std::log10(axis.high)));
    const bool between = std::log10(axis.high / axis.low) < 2;  // few decades: 2 and 5 too
    const int every = std::max(1, (last - first) / count);
    for (int decade = first; decade <= last; ++decade) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double v = factor * std::pow(10.0, decade);
        if (inside(v) && (factor == 1 ? (decade - first) % every == 0 : between)) out.push_back({v, short_number(v)});
      }
    }
    if (out.size() >= 2) return out;
    out.clear();
  }
  const double rough = (axis.high - axis.low) / count, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double step = power * (rough / power > 5 ? 10 : rough / power > 2 ? 5 : rough / power > 1 ? 2 : 1);
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  for (double n = std::ceil(axis.low / step - 1e-9); n * step <= axis.high + step * 1e-9; ++n) {
    const double v = n * step;
    out.push_back({v, decimals > 4 || std::abs(v) >= 1e7 ? short_number(v) : fmt::format("{:.{}f}", v == 0 ? 0.0 : v, decimals)});
  }
  return out;
}

std::string short_number(double v) {
  const double size = std::abs(v);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return fmt::format("{:.1e}", v);
  return size >= 1000 ? fmt::format("{:.0f}", v) : fmt::format("{:.4g}", v);
}

}  // namespace glassformer::plot
