#include "glassformer/plot/svg.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "glassformer/core/require.hpp"
#include "glassformer/plot/text.hpp"
#include "plot/axis.hpp"
#include "plot/labels.hpp"
#include "plot/ramp.hpp"

namespace glassformer::plot {
namespace {

constexpr const char* kInk = "#767676";  // as far from white as from black
constexpr double kColumn = 7;            // pixels that a column of 12-pixel text takes, about

// Blue, vermilion, green, purple, orange, sky blue.
constexpr std::array<const char*, 6> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
constexpr std::array<const char*, 4> kDashes{"", "7 3", "2 3", "9 3 2 3"};
const char* colour_of(std::size_t series) { return kColours[series % kColours.size()]; }
std::string dashes_of(std::size_t series) {
  const char* dashes = kDashes[series % kDashes.size()];
  return *dashes ? fmt::format(" stroke-dasharray=\"{}\"", dashes) : "";
}

enum class Anchor { start, middle, end };
std::string text_at(double x, double y, std::string_view text, Anchor anchor = Anchor::start, std::string_view more = "") {
  static constexpr std::array<const char*, 3> names{"", " text-anchor=\"middle\"", " text-anchor=\"end\""};
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}{}>{}</text>\n", x, y, names[static_cast<std::size_t>(anchor)], more, escaped(text));
}
std::string rule(double x0, double y0, double x1, double y1, double opacity) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-opacity=\"{}\"/>\n", x0, y0, x1, y1, kInk, opacity);
}
double text_width(std::string_view text) { return kColumn * static_cast<double>(display_width(text)); }

std::string element(double width, double height, std::string_view label, const std::string& inside) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" role=\"img\" aria-label=\"{2}\" "
      "style=\"max-width:100%;height:auto\" font-family=\"system-ui,'DejaVu Sans',sans-serif\" font-size=\"12\" fill=\"{3}\">\n{4}</svg>\n",
      width, height, escaped(label), kInk, inside);
}

// Lines of the title, then rows of the legend. `y` moves below them.
std::string heading(const Chart& c, double width, double left, double& y) {
  std::string out;
  for (const std::string& line : wrap(c.title, static_cast<Index>((width - left) / (kColumn + 1)))) {
    if (!line.empty()) out += text_at(left, y += 20, line, Anchor::start, " font-size=\"14\" font-weight=\"600\"");
  }
  if (c.series.size() < 2) return out;
  double x = left;
  y += 20;
  for (std::size_t s = 0; s < c.series.size(); ++s) {
    const double need = 30 + text_width(c.series[s].name) + 18;
    if (x > left && x + need > width) x = left, y += 18;
    if (c.kind == Chart::Kind::bars) {
      out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n", x + 6, y - 10, colour_of(s));
    } else {
      out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2.5\"{}/>\n", x, y - 4, x + 24, y - 4,
                         colour_of(s), dashes_of(s));
    }
    out += text_at(x + 30, y, c.series[s].name);
    x += need;
  }
  return out;
}

struct Frame {
  double left, right, top, bottom;
};

// A curve, broken where a value is missing; marks where there are few points, and where one stands alone.
std::string curve(const Chart& c, std::size_t s, const Axis& x, const Axis& y, const Frame& f) {
  std::string path, marks;
  const auto& values = c.series[s].y;
  const bool mark_all = c.x.size() <= 30;
  bool drawing = false;
  for (std::size_t i = 0; i < c.x.size(); ++i) {
    if (!std::isfinite(values[i])) {
      drawing = false;
      continue;
    }
    const double px = f.left + x.share(c.x[i]) * (f.right - f.left), py = f.bottom - y.share(values[i]) * (f.bottom - f.top);
    path += fmt::format("{}{:.1f} {:.1f}", drawing ? "L" : "M", px, py);
    const bool alone = !drawing && (i + 1 == c.x.size() || !std::isfinite(values[i + 1]));
    if (mark_all || alone) marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", px, py, colour_of(s));
    drawing = true;
  }
  return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\"{}/>\n{}", path, colour_of(s), dashes_of(s), marks);
}

std::string lines_svg(const Chart& c, const SvgOptions& o) {
  const auto [x, y] = axes_of(c);
  const std::vector<Tick> x_ticks = ticks(x, 8), y_ticks = ticks(y, 6);
  double margin = 0, at = 0;
  for (const Tick& t : y_ticks) margin = std::max(margin, text_width(t.label));
  Frame f{margin + 14 + (c.y_label.empty() ? 0 : 20), o.width - 16, 0, o.height - (c.x_label.empty() ? 26 : 44)};
  std::string out = heading(c, o.width, f.left, at);
  f.top = at + 14;
  f.bottom += at, f.bottom = std::max(f.bottom, f.top + 60);  // a heading takes nothing from the plot
  for (const Tick& t : y_ticks) {
    const double py = f.bottom - y.share(t.value) * (f.bottom - f.top);
    out += rule(f.left, py, f.right, py, 0.25) + text_at(f.left - 6, py + 4, t.label, Anchor::end);
  }
  for (const Tick& t : x_ticks) {
    const double px = f.left + x.share(t.value) * (f.right - f.left);
    out += rule(px, f.bottom, px, f.bottom + 5, 1) + text_at(px, f.bottom + 18, t.label, Anchor::middle);
  }
  out += rule(f.left, f.bottom, f.right, f.bottom, 1) + rule(f.left, f.top, f.left, f.bottom, 1);
  if (!c.x_label.empty()) out += text_at((f.left + f.right) / 2, f.bottom + 38, c.x_label + (c.x_log ? " (logarithmic)" : ""), Anchor::middle);
  if (!c.y_label.empty()) {
    const double middle = (f.top + f.bottom) / 2;
    out += text_at(12, middle, c.y_label + (c.y_log ? " (logarithmic)" : ""), Anchor::middle, fmt::format(" transform=\"rotate(-90 12 {:.1f})\"", middle));
  }
  for (std::size_t s = 0; s < c.series.size(); ++s) out += curve(c, s, x, y, f);
  return element(o.width, f.bottom + (c.x_label.empty() ? 26 : 44), c.title, out);
}

std::string bars_svg(const Chart& c, const SvgOptions& o) {
  constexpr double bar = 16, gap = 8;
  Axis x;
  x.take(0);
  double margin = 0, at = 0;
  for (const std::string& name : c.names) margin = std::max(margin, text_width(name_of(name, 32)));
  for (const Series& s : c.series) {
    for (const double v : s.y) x.take(v);
  }
  x.widen();
  Frame f{margin + 14, o.width - 70, 0, 0};  // room for a number at the end of the longest bar
  std::string out = heading(c, o.width, 0, at);
  f.top = at + 10;
  f.bottom = f.top + static_cast<double>(c.names.size()) * (bar * static_cast<double>(c.series.size()) + gap);
  for (const Tick& t : ticks(x, 6)) {
    const double px = f.left + x.share(t.value) * (f.right - f.left);
    out += rule(px, f.top, px, f.bottom, 0.25) + text_at(px, f.bottom + 16, t.label, Anchor::middle);
  }
  const double zero = f.left + x.share(0) * (f.right - f.left);
  for (std::size_t i = 0; i < c.names.size(); ++i) {
    double y = f.top + gap / 2 + static_cast<double>(i) * (bar * static_cast<double>(c.series.size()) + gap);
    out += text_at(f.left - 8, y + bar * static_cast<double>(c.series.size()) / 2 + 4, name_of(c.names[i], 32), Anchor::end);
    for (std::size_t s = 0; s < c.series.size(); ++s, y += bar) {
      const double v = c.series[s].y[i];
      if (!std::isfinite(v)) continue;
      const double px = f.left + x.share(v) * (f.right - f.left);
      out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", std::min(zero, px), y + 1, std::abs(px - zero),
                         bar - 2, colour_of(s));
      out += text_at(std::max(zero, px) + 5, y + bar - 4, short_number(v));
    }
  }
  out += rule(zero, f.top, zero, f.bottom, 1);
  const double below = c.x_label.empty() && c.y_label.empty() ? 0 : 20;
  if (below > 0) out += text_at((f.left + f.right) / 2, f.bottom + 34, c.y_label.empty() ? c.x_label : c.y_label, Anchor::middle);
  return element(o.width, f.bottom + 24 + below, c.title, out);
}

std::string fill_of(const Rgb& c) {
  return fmt::format("#{:02x}{:02x}{:02x}", std::lround(c.red), std::lround(c.green), std::lround(c.blue));
}

// The colours of the scale from low to high, with both numbers.
std::string scale_bar(double left, double y, double width, double low, double high) {
  std::string out;
  constexpr int steps = 40;
  for (int i = 0; i < steps; ++i) {
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"10\" fill=\"{}\"/>\n", left + width * i / steps, y, width / steps + 0.3,
                       fill_of(ramp((i + 0.5) / steps)));
  }
  return out + text_at(left - 6, y + 9, short_number(low), Anchor::end) + text_at(left + width + 6, y + 9, short_number(high));
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string chart_svg(const Chart& c, const SvgOptions& o) {
  check(c);
  require(o.width >= 200 && o.height >= 120, "chart: expected 200 by 120 pixels or more, found {} by {}", o.width, o.height);
  return c.kind == Chart::Kind::bars ? bars_svg(c, o) : lines_svg(c, o);
}

std::string heat_map_svg(ConstMatrixRef<double> values, const HeatMapOptions& h, const SvgOptions& o) {
  require(h.high > h.low, "heat map: expected a scale from low to high, found {} to {}", h.low, h.high);
  const auto rows = labels_of("row", h.row_labels, values.rows(), h.label_width), columns = labels_of("column", h.column_labels, values.cols(), h.label_width);
  const double count = static_cast<double>(std::max<Index>(values.cols(), 1));
  const double row_label = kColumn * static_cast<double>(widest(rows)) + 24, column_label = kColumn * static_cast<double>(widest(columns));
  const double cell = std::clamp((o.width - row_label - 20) / count, 2.0, 44.0), high = std::min(cell, 28.0);
  const bool numbers = cell >= 36, upright = column_label > cell - 4;
  const bool tips = !numbers && values.size() <= 1024;
  const auto step_of = [](double size, double need) { return std::max<Index>(1, static_cast<Index>(std::ceil(need / size))); };
  const Index column_step = step_of(cell, 14), row_step = step_of(high, 13);
  const double left = row_label, top = (upright ? column_label : 14) + 10;
  std::string out;
  for (Index j = 0; j < values.cols(); j += column_step) {
    const double x = left + (static_cast<double>(j) + 0.5) * cell;
    const std::string& label = columns[static_cast<std::size_t>(j)];
    out += upright ? text_at(x + 4, top - 5, label, Anchor::start, fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", x + 4, top - 5))
                   : text_at(x, top - 5, label, Anchor::middle);
  }
  for (Index i = 0; i < values.rows(); ++i) {
    const double y = top + static_cast<double>(i) * high;
    if (i % row_step == 0 || i == h.marked_row)
      out += text_at(left - 6, y + high / 2 + 4, (i == h.marked_row ? "▸ " : "") + rows[static_cast<std::size_t>(i)], Anchor::end);
    for (Index j = 0; j < values.cols(); ++j) {
      const double v = values(i, j), x = left + static_cast<double>(j) * cell;
      if (std::isnan(v)) {
        if (cell >= 6) out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"1.2\" fill-opacity=\"0.6\"/>\n", x + cell / 2, y + high / 2);
        continue;
      }
      const Rgb colour = ramp((v - h.low) / (h.high - h.low));
      const std::string tip = tips ? fmt::format("<title>{}, {}: {}</title>", escaped(rows[static_cast<std::size_t>(i)]), escaped(columns[static_cast<std::size_t>(j)]), number(v, 3)) : "";
      out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"{}", x, y, cell - (cell > 8 ? 1 : 0), high - (cell > 8 ? 1 : 0),
                         fill_of(colour), tip.empty() ? "/>\n" : ">" + tip + "</rect>\n");
      if (numbers)
        out += text_at(x + cell / 2, y + high / 2 + 4, number(v, 2), Anchor::middle, fmt::format(" fill=\"{}\" font-size=\"11\"", is_bright(colour) ? "#000" : "#fff"));
    }
  }
  const double bottom = top + high * static_cast<double>(values.rows());
  if (h.scale) out += scale_bar(left + 50, bottom + 14, 160, h.low, h.high);
  return element(std::max(left + cell * count + 20, 300.0), bottom + (h.scale ? 34 : 10), "heat map", out);
}

}  // namespace glassformer::plot
