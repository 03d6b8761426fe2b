#include "formats/reference.h"

#include <algorithm>
#include <cmath>

namespace fewbits::reference {
namespace {

template <int kSize>
void store_codes(const Lanes<kSize>& lanes, uint8_t* codes) {
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t lane = 0; lane < kLanesOf<Float4>; ++lane) {
      codes[lane * kSize + i] = static_cast<uint8_t>(lanes[i][lane]);
    }
  }
}

// --- scale and minimum ---------------------------------------------------------------------------

template <int kSize>
struct Extent {
  Float4 lowest, highest, sum_w, sum_x;
};

template <int kSize>
Extent<kSize> extent_of(const Lanes<kSize>& x, const Lanes<kSize>& w) {
  Extent<kSize> extent{x[0], x[0], w[0], w[0] * x[0]};
  for (size_t i = 1; i < kSize; ++i) {
    extent.lowest = lane_min(x[i], extent.lowest);
    extent.highest = lane_max(x[i], extent.highest);
    extent.sum_w += w[i];
    extent.sum_x += w[i] * x[i];
  }
  extent.lowest = extent.lowest > 0.0f ? splat(0) : extent.lowest;
  return extent;
}

struct Line {
  Float4 scale, minimum;
};

template <int kSize, bool kAbsolute>
Float4 error_of(const Lanes<kSize>& x, const Lanes<kSize>& w, const Lanes<kSize>& l, Line line) {
  Float4 error = splat(0);
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 difference = line.scale * l[i] + line.minimum - x[i];
    error += w[i] * (kAbsolute ? lane_abs(difference) : difference * difference);
  }
  return error;
}

template <int kSize>
Line least_squares(const Lanes<kSize>& x, const Lanes<kSize>& w, const Lanes<kSize>& l,
                   const Extent<kSize>& extent, Int4& solvable) {
  Float4 sum_l = splat(0), sum_l2 = splat(0), sum_xl = splat(0);
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 wl = w[i] * l[i];
    sum_l += wl;
    sum_l2 += wl * l[i];
    sum_xl += wl * x[i];
  }
  const Float4 determinant = extent.sum_w * sum_l2 - sum_l * sum_l;
  solvable = determinant > 0.0f;
  Line line{(extent.sum_w * sum_xl - extent.sum_x * sum_l) / determinant,
            (sum_l2 * extent.sum_x - sum_l * sum_xl) / determinant};
  const Int4 positive = line.minimum > 0.0f;
  line.scale = positive ? sum_xl / sum_l2 : line.scale;
  line.minimum = positive ? splat(0) : line.minimum;
  return line;
}

template <int kSize>
Lanes<kSize> codes_of(const Lanes<kSize>& x, Float4 inverse, Float4 minimum, int limit) {
  Lanes<kSize> codes;
  for (size_t i = 0; i < kSize; ++i) {
    codes[i] = lane_clamp(nearest_int(inverse * (x[i] - minimum)), 0, static_cast<float>(limit));
  }
  return codes;
}

/// The same where no product reaches 2^22, so that plain rounding does.
template <int kSize>
Lanes<kSize> codes_of_small(const Lanes<kSize>& x, Float4 inverse, Float4 minimum, int limit) {
  Lanes<kSize> codes;
  for (size_t i = 0; i < kSize; ++i) {
    codes[i] = lane_clamp(round_to_even(inverse * (x[i] - minimum)), 0, static_cast<float>(limit));
  }
  return codes;
}

template <int kSize>
bool are_small(const Extent<kSize>& extent, Float4 inverse, Float4 minimum) {
  const Float4 farthest =
      lane_max(lane_abs(extent.lowest - minimum), lane_abs(extent.highest - minimum));
  const Int4 small = lane_abs(inverse) * farthest < 2e6f;
  return (small[0] & small[1] & small[2] & small[3]) != 0;
}

// The best so far of each lane. The codes of the winner come back from `inverse` and `base`.
struct BestLine {
  Line line;
  Float4 error, inverse, base;
};

template <int kSize, bool kAbsolute>
BestLine best_line(const Lanes<kSize>& x, const Lanes<kSize>& w, const Extent<kSize>& extent,
                   const Tries& tries) {
  const Float4 inverse = static_cast<float>(tries.limit) / (extent.highest - extent.lowest);
  const Line start{1.0f / inverse, extent.lowest};
  Lanes<kSize> codes = codes_of<kSize>(x, inverse, start.minimum, tries.limit);
  BestLine best{start, error_of<kSize, kAbsolute>(x, w, codes, start), inverse, start.minimum};
  for (int k = 0; k <= tries.count; ++k) {
    const float levels =
        tries.first + tries.step * static_cast<float>(k) + static_cast<float>(tries.limit);
    // The reference measures, range and codes, from the best minimum so far.
    const Float4 base = best.line.minimum;
    const Float4 tried = levels / (extent.highest - base);
    codes = are_small<kSize>(extent, tried, base)
                ? codes_of_small<kSize>(x, tried, base, tries.limit)
                : codes_of<kSize>(x, tried, base, tries.limit);
    Int4 better;
    const Line line = least_squares<kSize>(x, w, codes, extent, better);
    const Float4 error = error_of<kSize, kAbsolute>(x, w, codes, line);
    better &= error < best.error;
    best.line.scale = better ? line.scale : best.line.scale;
    best.line.minimum = better ? line.minimum : best.line.minimum;
    best.error = better ? error : best.error;
    best.inverse = better ? tried : best.inverse;
    best.base = better ? base : best.base;
  }
  return best;
}

// --- scale alone ---------------------------------------------------------------------------------

/// The value of largest magnitude; the first of equals.
template <int kSize>
Float4 largest_of(const Lanes<kSize>& x) {
  Float4 largest = splat(0), magnitude = splat(0);
  for (const Float4 value : x) {
    const Int4 larger = lane_abs(value) > magnitude;
    largest = larger ? value : largest;
    magnitude = larger ? lane_abs(value) : magnitude;
  }
  return largest;
}

/// |inverse * x| is at most limit + 1 here, so that plain rounding is the reference's.
inline Float4 level_of(Float4 x, Float4 inverse, int limit) {
  const auto levels = static_cast<float>(limit);
  return lane_clamp(round_to_even(inverse * x), -levels, levels - 1);
}

template <int kSize>
Lanes<kSize> levels_of(const Lanes<kSize>& x, Float4 inverse, int limit) {
  Lanes<kSize> levels;
  for (size_t i = 0; i < kSize; ++i) levels[i] = level_of(x[i], inverse, limit);
  return levels;
}

struct Sums {
  Float4 lx, l2;
};

template <int kSize>
Sums sums_of(const Lanes<kSize>& w, const Lanes<kSize>& wx, const Lanes<kSize>& l) {
  Sums sums{splat(0), splat(0)};
  for (size_t i = 0; i < kSize; ++i) {
    sums.lx += wx[i] * l[i];
    sums.l2 += w[i] * l[i] * l[i];
  }
  return sums;
}

/// The same for the levels that an inverse scale gives, without keeping these.
template <int kSize>
Sums sums_for(const Lanes<kSize>& x, const Lanes<kSize>& w, const Lanes<kSize>& wx, Float4 inverse,
              int limit) {
  Sums sums{splat(0), splat(0)};
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 l = level_of(x[i], inverse, limit);
    sums.lx += wx[i] * l;
    sums.l2 += w[i] * l * l;
  }
  return sums;
}

struct BestScale {
  Float4 scale, inverse;
};

/// Tries 19 inverse scales, -(limit + 0.1 k) / largest, and takes the least squares scale of the
/// best codes.
template <int kSize>
BestScale best_scale(const Lanes<kSize>& x, const Lanes<kSize>& w, Float4 largest, int limit) {
  Lanes<kSize> wx;
  for (size_t i = 0; i < kSize; ++i) wx[i] = w[i] * x[i];
  const auto levels = static_cast<float>(limit);
  BestScale best{splat(0), -levels / largest};
  const Sums start = sums_for<kSize>(x, w, wx, best.inverse, limit);
  best.scale = start.l2 != 0.0f ? start.lx / start.l2 : splat(0);
  Float4 gain = best.scale * start.lx;
  for (int k = -9; k <= 9; ++k) {
    if (k == 0) continue;
    const Float4 inverse = -(levels + 0.1f * static_cast<float>(k)) / largest;
    const Sums sums = sums_for<kSize>(x, w, wx, inverse, limit);
    const Int4 better = (sums.l2 > 0.0f) & (sums.lx * sums.lx > gain * sums.l2);
    best.scale = better ? sums.lx / sums.l2 : best.scale;
    best.inverse = better ? inverse : best.inverse;
    gain = better ? best.scale * sums.lx : gain;
  }
  return best;
}

template <int kSize>
void shift_codes(Lanes<kSize>& levels, int limit, Int4 zero) {
  for (Float4& level : levels) level = zero ? splat(0) : level + static_cast<float>(limit);
}

/// One pass of coordinate descent: moves each code to the best level given all others. False when
/// none moved.
template <int kSize>
bool descend(const Lanes<kSize>& x, Lanes<kSize>& levels, Sums& sums) {
  Int4 moved{};
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 w = x[i] * x[i];
    const Float4 wx = w * x[i];
    Sums others{sums.lx - wx * levels[i], sums.l2 - w * levels[i] * levels[i]};
    Int4 better = others.lx > 0.0f;
    const Float4 level = lane_clamp(nearest_int(x[i] * others.l2 / others.lx), -4, 3);
    better &= level != levels[i];
    others.lx += wx * level;
    others.l2 += w * level * level;
    better &=
        (others.l2 > 0.0f) & (others.lx * others.lx * sums.l2 > sums.lx * sums.lx * others.l2);
    levels[i] = better ? level : levels[i];
    sums.lx = better ? others.lx : sums.lx;
    sums.l2 = better ? others.l2 : sums.l2;
    moved |= better;
  }
  return (moved[0] | moved[1] | moved[2] | moved[3]) != 0;
}

}  // namespace

float sum_of_squares(const float* values, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i] * values[i];
  return sum;
}

void importance_weights(const float* values, const float* importance, int64_t count, float spread,
                        float* weights) {
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = importance[i] * std::sqrt(spread + values[i] * values[i]);
  }
}

template <int kSize, bool kAbsolute>
FourLines search_asymmetric(const float* values, const float* weights, const Tries& tries,
                            uint8_t* codes) {
  const auto x = transposed<kSize>(values);
  const auto w = transposed<kSize>(weights);
  const auto extent = extent_of<kSize>(x, w);
  const BestLine best = best_line<kSize, kAbsolute>(x, w, extent, tries);
  const Int4 flat = extent.highest <= extent.lowest;
  auto lanes = codes_of<kSize>(x, best.inverse, best.base, tries.limit);
  for (Float4& code : lanes) code = flat ? splat(0) : code;
  store_codes<kSize>(lanes, codes);
  FourLines lines;
  store_lanes(flat ? splat(0) : best.line.scale, lines.scales.data());
  store_lanes(-(flat ? extent.lowest : best.line.minimum), lines.minimums.data());
  return lines;
}

template FourLines search_asymmetric<32, false>(const float*, const float*, const Tries&, uint8_t*);
template FourLines search_asymmetric<16, false>(const float*, const float*, const Tries&, uint8_t*);
template FourLines search_asymmetric<16, true>(const float*, const float*, const Tries&, uint8_t*);

template <int kSize>
void search_symmetric(const float* values, const float* weights, int limit, float* scales,
                      uint8_t* codes) {
  const auto x = transposed<kSize>(values);
  const auto w = transposed<kSize>(weights);
  const Float4 largest = largest_of<kSize>(x);
  const BestScale best = best_scale<kSize>(x, w, largest, limit);
  const Int4 zero = lane_abs(largest) < kZero;
  store_lanes(zero ? splat(0) : best.scale, scales);
  auto lanes = levels_of<kSize>(x, best.inverse, limit);
  shift_codes<kSize>(lanes, limit, zero);
  store_codes<kSize>(lanes, codes);
}

template void search_symmetric<32>(const float*, const float*, int, float*, uint8_t*);
template void search_symmetric<16>(const float*, const float*, int, float*, uint8_t*);

void search_q3(const float* values, float* scales, uint8_t* codes) {
  constexpr int kSize = 16, kLimit = 4;
  const auto x = transposed<kSize>(values);
  const Float4 largest = largest_of<kSize>(x);
  const Int4 zero = lane_abs(largest) < kZero;
  auto levels = levels_of<kSize>(x, -static_cast<float>(kLimit) / largest, kLimit);
  Lanes<kSize> w, wx;
  for (size_t i = 0; i < kSize; ++i) {
    w[i] = x[i] * x[i];
    wx[i] = w[i] * x[i];
  }
  Sums sums = sums_of<kSize>(w, wx, levels);
  for (int pass = 0; pass < 5; ++pass) {
    if (!descend<kSize>(x, levels, sums)) break;
  }
  store_lanes((sums.l2 > 0.0f) & ~zero ? sums.lx / sums.l2 : splat(0), scales);
  shift_codes<kSize>(levels, kLimit, zero);
  store_codes<kSize>(levels, codes);
}

}  // namespace fewbits::reference
