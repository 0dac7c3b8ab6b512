// What all sections of the backward story share. Legend: N tokens, C channels.
#include "explain/backward_teller.hpp"

#include <cmath>
#include <numeric>

namespace glassformer {
namespace {

using plot::number;

constexpr double kNothing = 1e-15;  // what is smaller is rounding

// Decimals that leave three digits of a number of this size.
int decimals_of(double size) {
  if (!(size > 0) || !std::isfinite(size)) return 3;
  return std::clamp(2 - static_cast<int>(std::floor(std::log10(size))), 3, 5);
}

// k of the power 10ᵏ that makes a number of this size readable: 0, 3, 6, …
int power_of(double size) {
  if (!(size > kNothing) || !std::isfinite(size) || size >= 0.01) return 0;
  return 3 * static_cast<int>(std::ceil(-std::log10(size) / 3));
}
std::string power_text(int k) {
  static constexpr const char* kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text;
  for (const char digit : fmt::format("{}", k)) text += kDigits[digit - '0'];
  return "·10" + text;
}

double finite_largest(const Matrix<double>& m) {
  double most = 0;
  for (Index i = 0; i < m.size(); ++i) {
    if (std::isfinite(m.data()[i])) most = std::max(most, std::abs(m.data()[i]));
  }
  return most;
}

}  // namespace

std::string in_brackets(double value) { return value < 0 ? fmt::format("({})", digits(value)) : digits(value); }

std::string digits(double value) {
  const double size = std::abs(value);
  if (size > kNothing && size < 1e-3) return fmt::format("{:.2e}", value);
  return number(value, size > kNothing ? decimals_of(size) : 3);
}

BackwardTeller::BackwardTeller(const BackwardPass& pass, const ExplainedText& text, const BackwardQuestion& question, bool example)
    : p_(pass), text_(text), q_(question), example_(example) {}

std::vector<Index> BackwardTeller::columns_of(const Matrix<double>& gradient) const {
  std::vector<Index> order(static_cast<std::size_t>(gradient.cols()));
  std::iota(order.begin(), order.end(), Index{0});
  const Index most = q_.entries, all = gradient.cols();
  if (example_ || all <= most) return order;
  // Half of them the largest, the others wherever: a gradient that is zero by mistake must not escape.
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return std::abs(gradient(row_, a)) > std::abs(gradient(row_, b)); });
  std::vector<Index> chosen(order.begin(), order.begin() + (most + 1) / 2);
  for (Index i = 0; static_cast<Index>(chosen.size()) < most; ++i) {
    const Index c = (all / most * i + all / (2 * most) + i / most) % all;
    if (std::ranges::find(chosen, c) == chosen.end()) chosen.push_back(c);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<Entry> BackwardTeller::entries_of(const Matrix<double>& gradient) const {
  std::vector<Entry> entries;
  const Index first = example_ ? 0 : row_, last = example_ ? gradient.rows() : row_ + 1;
  for (Index n = first; n < last; ++n) {
    for (const Index c : columns_of(gradient)) entries.emplace_back(n, c);
  }
  return entries;
}

Index BackwardTeller::largest_column(const Matrix<double>& gradient) const {
  Index column = 0;
  gradient.row(row_).cwiseAbs().maxCoeff(&column);
  return column;
}

const SiteCheck& BackwardTeller::check(const std::string& name) { return check(name, -1, grad(name)); }

const SiteCheck& BackwardTeller::check(const std::string& name, Index head, const Matrix<double>& gradient) {
  checks_.push_back(p_.check(name, head, gradient, entries_of(gradient), !example_));
  return checks_.back();
}

void BackwardTeller::show_rows(const std::vector<Row>& rows, const std::vector<Index>& columns) {
  Matrix<double> shown(static_cast<Index>(rows.size()), static_cast<Index>(columns.size()));
  double size = 0, smallest = std::numeric_limits<double>::infinity();  // of the rows' largest gradients
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto at = static_cast<Index>(i);
    for (std::size_t j = 0; j < columns.size(); ++j) shown(at, static_cast<Index>(j)) = rows[i].matrix(row_, columns[j]);
    const double largest_of_row = rows[i].is_gradient ? finite_largest(shown.row(at)) : 0;
    size = std::max(size, largest_of_row);
    if (largest_of_row > kNothing) smallest = std::min(smallest, largest_of_row);
  }
  const int power = power_of(size);
  std::vector<std::string> labels, names;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool scaled = rows[i].is_gradient && power > 0;
    if (scaled) shown.row(static_cast<Index>(i)) *= std::pow(10.0, power);
    labels.push_back(rows[i].label + (scaled ? "  " + power_text(power) : ""));
  }
  for (const Index c : columns) names.push_back(fmt::format("{}", c));
  put(story::Grid{.key = "",
                  .values = shown,
                  .rows = labels,
                  .columns = names,
                  .decimals = decimals_of(smallest * std::pow(10.0, power)),
                  .max_rows = 12,
                  .label_width = 30});
}

void BackwardTeller::show(const SiteCheck& c) {
  show_rows({{"value", c.value, false}, {"d, recorded", c.gradient}, {"Δ, measured", c.differences}}, columns_of(c.gradient));
}

void BackwardTeller::show_tokens(const SiteCheck& c) {
  Matrix<double> shown(c.gradient.rows(), 2 * c.gradient.cols());
  shown << c.gradient, c.differences;
  std::vector<std::string> columns = numbered("d", c.gradient.cols());
  for (const std::string& name : numbered("Δ", c.gradient.cols())) columns.push_back(name);
  put(story::Grid{
      .key = "", .values = shown, .rows = token_labels(text_), .columns = columns, .decimals = decimals_of(finite_largest(c.gradient))});
}

void BackwardTeller::verdict(const SiteCheck& c) {
  std::string what = fmt::format("{} number{}", c.compared, c.compared == 1 ? "" : "s one by one");
  if (example_) what = fmt::format("All {} numbers, of every token", c.compared);
  if (c.unseen_entries && !c.zero) what += ": zero, as far as differences can see";
  if (c.has_direction) what += fmt::format("{} all {} along a random direction", c.unseen_entries && !c.zero ? ";" : ",", c.gradient.size());
  say(c.zero ? fmt::format("{}: zero on both sides, as far as differences can see.", what)
             : fmt::format("{}: error {:.1e}, {}.", what, c.error, c.agrees ? "agrees" : "DISAGREES"));
}

void BackwardTeller::weight(const char* name, const MatrixView<double>& w) {
  if (!example_) return;
  std::vector<std::string> rows;
  for (Index i = 0; i < w.rows; ++i) rows.push_back(fmt::format("{} row {}", name, i));
  put(story::Grid{.key = "", .values = *w, .rows = rows, .decimals = 1, .max_rows = 12});
}

void BackwardTeller::write_sum(const std::string& name, const std::vector<std::pair<double, double>>& terms, double engine, double factor,
                               double size) {
  std::vector<std::size_t> order(terms.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto product = [&](std::size_t i) { return terms[i].first * terms[i].second; };
  const std::size_t most = 6;
  if (terms.size() > most) {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return std::abs(product(a)) > std::abs(product(b)); });
  }
  std::string sum;
  double total = 0;
  size = std::max(size, std::abs(engine));
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto [a, b] = terms[order[i]];
    total += a * b, size = std::max(size, std::abs(a * b * factor));
    if (i < most) sum += fmt::format("{}{}·{}", i == 0 ? (a < 0 ? "-" : "") : a < 0 ? " - " : " + ", digits(std::abs(a)), in_brackets(b));
  }
  if (terms.size() > most) sum += fmt::format(" + ({} smaller terms)", terms.size() - most);
  if (sum.empty()) sum = "0";
  if (factor != 1) sum = fmt::format("{}·({})", digits(factor), sum);
  hold(total * factor, engine, std::max(size, 1e-30));
  say(fmt::format("By hand: {} = {} = {}", name, sum, digits(total * factor)));
}

void BackwardTeller::write_linear(const std::string& name, const Matrix<double>& dy, const MatrixView<double>& w,
                                  const Matrix<double>& dx) {
  const Index i = largest_column(dx);
  std::vector<std::pair<double, double>> terms;
  for (Index o = 0; o < w.rows; ++o) terms.emplace_back(dy(row_, o), (*w)(o, i));
  write_sum(fmt::format("{}{}", name, i), terms, dx(row_, i));
}

}  // namespace glassformer
