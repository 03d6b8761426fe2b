#pragma once

#include <span>
#include <vector>

namespace fewbits {

/// Scales s for the columns of a matrix that is rounded as w s and fed x / s, so that columns that
/// matter more are rounded finer than those that share a block with them.
///
/// A block's rounding error is as large as its largest weights allow, so the output error is
/// proportional to mean (w s)^2 times the sum of (x / s)^2: least where s^2 = |x| / |w|, by Cauchy
/// and Schwarz. (AWQ, Lin et al. 2023, arXiv 2306.00978, searches a power of |x| instead.)
///
/// `inputs` are mean squares of x, `weights` sums of squares of w, both by column, both up to a
/// factor. The scales' geometric mean is 1 and none is further than 16 from it; columns without
/// inputs or weights get 1.
std::vector<float> column_scales(std::span<const double> inputs, std::span<const double> weights);

}  // namespace fewbits
