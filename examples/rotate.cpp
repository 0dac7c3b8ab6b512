// RoPE: q and k are turned by angles proportional to their places, so their product depends on the distance between them alone.
// The same q and k, set down at many places: each row of the table has one distance, each column another place.
//   build/release/examples/rotate
#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "glassformer/core/random.hpp"
#include "glassformer/position/position.hpp"

using namespace glassformer;

int main() {
  constexpr Index D = 8;
  const RopeTable<double> table = rope_table<double>(2048, D, 10000);
  fmt::print("radians a step, pair by pair:");
  for (const double theta : table.frequencies) fmt::print(" {:g}", theta);

  Matrix<double> q(1, D), k(1, D);
  for (Index i = 0; i < D; ++i) {
    q(0, i) = random_normal(RandomStream{1}.at("q"), static_cast<std::uint64_t>(i));
    k(0, i) = random_normal(RandomStream{1}.at("k"), static_cast<std::uint64_t>(i));
  }
  const auto turned = [&](Matrix<double> x, Index place) {
    rope_rotate<double>(table, std::array{place}, 1, false, x, Exec{});
    return x;
  };

  constexpr std::array<Index, 4> places = {0, 10, 100, 1000};
  fmt::print("\n\nq·k with q at place p + distance, k at place p\ndistance");
  for (const Index p : places) fmt::print("   p = {:<4}", p);
  double spread = 0;
  for (const Index distance : {0, 1, 2, 5, 20, 100}) {
    std::array<double, places.size()> products{};
    for (std::size_t i = 0; i < places.size(); ++i) products[i] = turned(q, places[i] + distance).row(0).dot(turned(k, places[i]).row(0));
    fmt::print("\n{:8}", distance);
    for (const double product : products) fmt::print("{:11.5f}", product);
    spread = std::max(spread, *std::max_element(products.begin(), products.end()) - *std::min_element(products.begin(), products.end()));
  }
  fmt::print("\n\nlargest difference within a row below 1e-10: {}\n", spread < 1e-10 ? "yes" : "NO");
  fmt::print("length of q kept: {}\n", std::abs(turned(q, 1000).norm() - q.norm()) < 1e-10 ? "yes" : "NO");
}
