#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "formats/lanes.h"

// What our own searches for better parameters share. As in the reference encoders, a lane is a
// sub-block, here of eight that are searched side by side. The error is always sum weight * (value
// - stored value)^2.
namespace fewbits::search {

using Floats = Float8;
using Ints = Int8;
inline constexpr int kLanes = kLanesOf<Floats>;

/// Nearest level of a uniform format, for values of any size.
template <int kLowest, int kHighest>
struct UniformRounding {
  template <class Lanes>
  static Lanes levels(Lanes value) {
    // Searches with minimums have no registers left for bounds.
    if constexpr (kLowest == 0) return round_to_even(lane_clamp(value, kLowest, kHighest));
    return round_to_even(lane_clamp<kLowest, kHighest>(value));
  }
};

/// Sub-blocks lane by lane, as many as `Lanes` has.
template <int kSize, class Lanes = Floats>
struct SubBlocks {
  std::array<Lanes, kSize> x, w, wx;
  Lanes sum_w, sum_wx;
};

/// Beyond this every format saturates; nearer the end of float, squares would overflow.
inline constexpr float kLargestValue = 1e9f;

/// Loads consecutive sub-blocks; null weights are all 1. A weight of zero still counts a little, so
/// that columns without importance keep sane values.
template <int kSize, class Lanes>
void load(const float* values, const float* weights, SubBlocks<kSize, Lanes>& blocks) {
  blocks.x = transposed<kSize, Lanes>(values);
  if (weights) {
    blocks.w = transposed<kSize, Lanes>(weights);
  } else {
    blocks.w.fill(splat<Lanes>(1));
  }
  Lanes sum{};
  for (const Lanes w : blocks.w) sum += w;
  const Lanes least = sum * 1e-7f + 1e-30f;
  constexpr int kBound = static_cast<int>(kLargestValue);
  Lanes sum_w{}, sum_wx{};
  for (size_t i = 0; i < kSize; ++i) {
    blocks.x[i] = lane_clamp<-kBound, kBound>(blocks.x[i]);
    blocks.w[i] += least;
    blocks.wx[i] = blocks.w[i] * blocks.x[i];
    sum_w += blocks.w[i];
    sum_wx += blocks.wx[i];
  }
  blocks.sum_w = sum_w;
  blocks.sum_wx = sum_wx;
}

/// The value of largest magnitude of each lane.
template <size_t kSize, class Lanes>
Lanes largest(const std::array<Lanes, kSize>& x) {
  Lanes highest = x[0], lowest = x[0];
  for (const Lanes value : x) {
    highest = lane_max(value, highest);
    lowest = lane_min(value, lowest);
  }
  return -lowest > highest ? lowest : highest;
}

template <class Lanes>
Lanes inverse_or_zero(Lanes value) {
  return lane_abs(value) > 1e-30f ? 1.0f / value : Lanes{};
}

/// Error of each lane on the grid scale * level + offset.
template <class Rounding, int kSize, class Lanes>
Lanes error_on_grid(const SubBlocks<kSize, Lanes>& blocks, Lanes scale, Lanes offset) {
  const Lanes inverse = inverse_or_zero(scale);
  Lanes error{};
  for (size_t i = 0; i < kSize; ++i) {
    const Lanes level = Rounding::levels((blocks.x[i] - offset) * inverse);
    const Lanes difference = scale * level + offset - blocks.x[i];
    error += blocks.w[i] * difference * difference;
  }
  return error;
}

/// The same of several grids without an offset, which share what they load.
template <class Rounding, int kSize, size_t kGrids, class Lanes>
std::array<Lanes, kGrids> errors_on_grids(const SubBlocks<kSize, Lanes>& blocks,
                                          const std::array<Lanes, kGrids>& scales) {
  std::array<Lanes, kGrids> inverses, errors{};
  for (size_t g = 0; g < kGrids; ++g) inverses[g] = inverse_or_zero(scales[g]);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t g = 0; g < kGrids; ++g) {
      const Lanes level = Rounding::levels(blocks.x[i] * inverses[g]);
      const Lanes difference = scales[g] * level - blocks.x[i];
      errors[g] += blocks.w[i] * difference * difference;
    }
  }
  return errors;
}

/// Sums over the levels l that values take on a grid: what least squares needs.
struct Moments {
  Floats l, l2, xl;
};

template <class Rounding, int kSize>
Moments moments(const SubBlocks<kSize>& blocks, Floats inverse, Floats offset) {
  Moments sums{};
  for (size_t i = 0; i < kSize; ++i) {
    const Floats level = Rounding::levels((blocks.x[i] - offset) * inverse);
    const Floats wl = blocks.w[i] * level;
    sums.l += wl;
    sums.l2 += wl * level;
    sums.xl += blocks.wx[i] * level;
  }
  return sums;
}

}  // namespace fewbits::search
