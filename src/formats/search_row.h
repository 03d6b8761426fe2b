#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

#include "formats/format.h"
#include "formats/search.h"

// Searches for the one grid of a whole row.
namespace fewbits::search {

struct RowMoments {
  double w = 0, wx = 0, l = 0, l2 = 0, xl = 0;
};

inline double sum_of(Float4 lanes) {
  return (static_cast<double>(lanes[0]) + static_cast<double>(lanes[1])) +
         (static_cast<double>(lanes[2]) + static_cast<double>(lanes[3]));
}

/// Sums over the levels of a row on a grid, a few values at a time: floats would lose digits over
/// long rows. REQUIRES: columns is a multiple of 4.
template <class Rounding>
RowMoments row_moments(const float* values, const float* weights, int64_t columns, float inverse,
                       float zero) {
  constexpr int64_t kStretch = 128;
  RowMoments total;
  for (int64_t begin = 0; begin < columns; begin += kStretch) {
    Float4 sum_w = splat(0), wx = splat(0), l = splat(0), l2 = splat(0), xl = splat(0);
    const int64_t end = std::min(begin + kStretch, columns);
    for (int64_t i = begin; i < end; i += kLanesOf<Float4>) {
      const Float4 x = lane_clamp(load_lanes<Float4>(values + i), -kLargestValue, kLargestValue);
      const Float4 w = weights ? load_lanes<Float4>(weights + i) + 1e-30f : splat(1);
      const Float4 level = Rounding::levels(x * inverse + zero) - zero;
      sum_w += w;
      wx += w * x;
      l += w * level;
      l2 += w * level * level;
      xl += w * x * level;
    }
    total.w += sum_of(sum_w);
    total.wx += sum_of(wx);
    total.l += sum_of(l);
    total.l2 += sum_of(l2);
    total.xl += sum_of(xl);
  }
  return total;
}

/// The best grid among `firsts` (scale and zero), then least squares and rounding in turn.
template <class Rounding>
Outer best_of_row(const float* values, const float* weights, int64_t columns,
                  std::span<const Outer> firsts) {
  Outer best{.scale = 0, .zero = firsts.empty() ? 0 : firsts.front().zero};
  double gain = 0;
  const auto consider = [&](Outer grid) {
    const float inverse = std::abs(grid.scale) > 1e-30f ? 1 / grid.scale : 0.0f;
    const RowMoments sums = row_moments<Rounding>(values, weights, columns, inverse, grid.zero);
    if (!(sums.l2 > 0) || !(sums.xl * sums.xl > gain * sums.l2)) return;
    gain = sums.xl * sums.xl / sums.l2;
    best = {static_cast<float>(sums.xl / sums.l2), grid.zero};
  };
  for (const Outer& first : firsts) consider(first);
  for (int i = 0; i < 2; ++i) consider(best);
  return best;
}

}  // namespace fewbits::search
