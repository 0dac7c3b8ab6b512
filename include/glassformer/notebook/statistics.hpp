// The little statistics that claims stand on.
#pragma once
#include <span>

#include "glassformer/core/matrix.hpp"

namespace glassformer {

struct Mean {
  double mean = 0, standard_error = 0;  // s/√n, s² = Σ(x − mean)²/(n − 1)
};
// Throws std::invalid_argument for fewer than two values.
Mean mean_with_error(std::span<const double> values);

struct ChiSquare {
  double statistic = 0;  // Σ (observed − expected)²/expected
  Index degrees = 0;     // cells − 1
  double p = 1;          // P(χ² of as many degrees ≥ statistic)
};
// Pearson's test of counts against probabilities that sum to 1. Cells with an expected count below 5 are put together (Cochran 1954), from
// the rarest up. A count where the probability is zero gives p = 0. Throws std::invalid_argument when lengths or sums do not agree.
ChiSquare chi_square_test(std::span<const Index> counts, std::span<const double> probability);

// P(χ² ≥ statistic) with so many degrees of freedom: the upper regularized incomplete gamma function Q(degrees/2, statistic/2), DLMF 8.
//   chi_square_upper(3.841458821, 1) = 0.05
double chi_square_upper(double statistic, Index degrees);

}  // namespace glassformer
