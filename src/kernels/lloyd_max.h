#pragma once

#include <cstdint>
#include <vector>

namespace fewbits {

/// The 2^bits levels that code one coordinate of a random unit vector in R^dim, times sqrt(dim),
/// with the least mean square error (Lloyd 1957, Max 1960). Ascending, symmetric. Such a coordinate
/// has the density
///
///     f(t) ~ (1 - t^2)^((dim - 3) / 2)
///
/// which is nearly a normal one of variance 1 / dim. REQUIRES: 1 <= bits <= 4, dim >= 4.
std::vector<double> lloyd_max_levels(int bits, int64_t dim);

}  // namespace fewbits
