#pragma once

#include <array>

#include "base/half.h"
#include "formats/search.h"
#include "formats/sub_scales.h"

// Searches for integer formats with a zero point: value = scale * (level - zero), levels and zero
// from 0 to kLimit, so that 0 is always stored exactly.
namespace fewbits::search {

struct ZeroPoints {
  Floats scale, zero;
};

/// What codes on a grid with a zero point save of the error of all zeros, and their best scale.
struct Centred {
  Floats gain, scale;
};

template <int kSize, int kLimit>
Centred centred(const SubBlocks<kSize>& blocks, Floats scale, Floats zero) {
  const Moments sums =
      moments<UniformRounding<0, kLimit>, kSize>(blocks, inverse_or_zero(scale), -(scale * zero));
  const Floats xl = sums.xl - zero * blocks.sum_wx;
  const Floats l2 = sums.l2 - 2.0f * zero * sums.l + zero * zero * blocks.sum_w;
  const Floats best = xl * inverse_or_zero(l2);
  return {best * xl, best};
}

/// Grids of some blocks: of some first grids, which cut ever more of the range off, the best; then
/// zero points near it, rounding and least squares in turn.
template <int kSize, int kLimit>
ZeroPoints find_zero_points(const SubBlocks<kSize>& blocks) {
  Floats low = Floats{}, high = Floats{};
  for (const Floats value : blocks.x) {
    low = lane_min(value, low);
    high = lane_max(value, high);
  }
  ZeroPoints best{Floats{}, Floats{}};
  Floats gain = Floats{};
  const auto consider = [&](Floats scale, Floats zero) {
    const Floats inside = lane_clamp(zero, 0, kLimit);
    const Centred found = centred<kSize, kLimit>(blocks, scale, inside);
    const Ints better = found.gain > gain;
    best.scale = better ? found.scale : best.scale;
    best.zero = better ? inside : best.zero;
    gain = better ? found.gain : gain;
  };
  // Two bits leave out more than half of the range of bell-shaped values, eight hardly any.
  const float last = kLimit <= 3 ? 0.4f : kLimit <= 7 ? 0.6f : kLimit <= 15 ? 0.7f : 0.95f;
  for (int i = 0; i <= 8; ++i) {
    const float kept = 1.0f + (last - 1.0f) * static_cast<float>(i) / 8.0f;
    const Floats scale = (high - low) * (kept / kLimit);
    const Floats zero = round_to_even(-low * kept * inverse_or_zero(scale));
    for (const float step : {0.0f, -1.0f, 1.0f}) consider(scale, zero + step);
  }
  for (int i = 0; i < 3; ++i) {
    const ZeroPoints middle = best;
    for (const float step : {0.0f, -1.0f, 1.0f}) consider(middle.scale, middle.zero + step);
  }
  return best;
}

}  // namespace fewbits::search
