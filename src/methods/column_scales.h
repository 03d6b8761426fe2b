#pragma once

#include <span>
#include <vector>

namespace fewbits {

/// How columns are scaled before a matrix is rounded.
enum class ColumnScaling {
  kNone,
  kBalanced,  ///< column_scales
  kAwq,       ///< the best of awq_candidates
};

/// Scales s for the columns of a matrix that is rounded as w s and fed x / s, so that columns that
/// matter more are rounded finer than those that share a block with them.
///
/// A block's rounding error is as large as its largest weights allow, so the output error is
/// proportional to mean (w s)^2 times the sum of (x / s)^2: least where s^2 = |x| / |w|, by Cauchy
/// and Schwarz.
///
/// `inputs` are mean squares of x, `weights` sums of squares of w, both by column, both up to a
/// factor. The scales' geometric mean is 1 and none is further than 16 from it; columns without
/// inputs or weights get 1.
std::vector<float> column_scales(std::span<const double> inputs, std::span<const double> weights);

/// What AWQ tries, for r = 0, 1/20, .., 19/20: s = |x|^r and s = |x|^r / |w|^(1 - r), with the root
/// mean square in place of the mean magnitude; which is best, rounding has to tell. Inputs, weights
/// and scales as in column_scales. The first has no scales but 1.
/// (Lin et al. 2023, arXiv 2306.00978)
std::vector<std::vector<float>> awq_candidates(std::span<const double> inputs,
                                               std::span<const double> weights);

}  // namespace fewbits
