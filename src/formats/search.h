#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "formats/float4.h"

// What our own searches for better parameters share. As in the reference encoders, a lane is a
// sub-block, so four are searched side by side. The error is always sum weight * (value - stored
// value)^2.
namespace fewbits::search {

template <int kSize>
using Lanes = std::array<Float4, kSize>;

/// Nearest level of a uniform format, for values of any size.
template <int kLowest, int kHighest>
struct UniformRounding {
  static Float4 levels(Float4 value) { return round_to_even(clamp4(value, kLowest, kHighest)); }
};

/// Four sub-blocks, lane by lane.
template <int kSize>
struct SubBlocks {
  Lanes<kSize> x, w, wx;
  Float4 sum_w, sum_wx;
};

/// Beyond this every format saturates; nearer the end of float, squares would overflow.
inline constexpr float kLargestValue = 1e9f;

template <int kSize>
Lanes<kSize> transposed(const float* sub_blocks) {
  Lanes<kSize> lanes;
  for (int i = 0; i < kSize; ++i) {
    const float* at = sub_blocks + i;
    lanes[static_cast<size_t>(i)] = Float4{at[0], at[kSize], at[2 * kSize], at[3 * kSize]};
  }
  return lanes;
}

/// Loads four consecutive sub-blocks; null weights are all 1. A weight of zero still counts a
/// little, so that columns without importance keep sane values.
template <int kSize>
void load(const float* values, const float* weights, SubBlocks<kSize>& blocks) {
  blocks.x = transposed<kSize>(values);
  if (weights) {
    blocks.w = transposed<kSize>(weights);
  } else {
    blocks.w.fill(splat(1));
  }
  Float4 sum = splat(0);
  for (const Float4 w : blocks.w) sum += w;
  const Float4 least = sum * 1e-7f + 1e-30f;
  blocks.sum_w = blocks.sum_wx = splat(0);
  for (size_t i = 0; i < kSize; ++i) {
    blocks.x[i] = clamp4(blocks.x[i], -kLargestValue, kLargestValue);
    blocks.w[i] += least;
    blocks.wx[i] = blocks.w[i] * blocks.x[i];
    blocks.sum_w += blocks.w[i];
    blocks.sum_wx += blocks.wx[i];
  }
}

/// The value of largest magnitude of each lane.
template <int kSize>
Float4 largest(const Lanes<kSize>& x) {
  Float4 largest = splat(0);
  for (const Float4 value : x) largest = abs4(value) > abs4(largest) ? value : largest;
  return largest;
}

inline Float4 inverse_or_zero(Float4 value) {
  return abs4(value) > 1e-30f ? 1.0f / value : splat(0);
}

/// Error of each lane on the grid scale * level + offset.
template <class Rounding, int kSize>
Float4 error_on_grid(const SubBlocks<kSize>& blocks, Float4 scale, Float4 offset) {
  const Float4 inverse = inverse_or_zero(scale);
  Float4 error = splat(0);
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 level = Rounding::levels((blocks.x[i] - offset) * inverse);
    const Float4 difference = scale * level + offset - blocks.x[i];
    error += blocks.w[i] * difference * difference;
  }
  return error;
}

/// Sums over the levels l that values take on a grid: what least squares needs.
struct Moments {
  Float4 l, l2, xl;
};

template <class Rounding, int kSize>
Moments moments(const SubBlocks<kSize>& blocks, Float4 inverse, Float4 offset) {
  Moments sums{splat(0), splat(0), splat(0)};
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 level = Rounding::levels((blocks.x[i] - offset) * inverse);
    const Float4 wl = blocks.w[i] * level;
    sums.l += wl;
    sums.l2 += wl * level;
    sums.xl += blocks.wx[i] * level;
  }
  return sums;
}

}  // namespace fewbits::search
