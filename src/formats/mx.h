#pragma once

#include <algorithm>
#include <array>

#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/levels.h"
#include "formats/search_blocks.h"

// OCP Microscaling (MX 1.0): 32 values share a power of two, stored as a byte e (E8M0): 2^(e -
// 127). 255 stands for no number and is never written.
//
// The standard's rule for e, floor(log2 largest) minus the exponent of the largest element, clips
// what lies between that element and the next power of two. Of this e and its two neighbours the
// one of least error is taken here.
namespace fewbits::mx {

inline constexpr int kValues = 32;
inline constexpr int kBias = 127;
inline constexpr int kSmallest = 2;  // the inverse of the scale must be a float

/// 2^(e - 127 - shift), subnormal floats included; infinite where e is 255 and shift 0.
inline float scale_of(int e, int shift) {
  return e == 255 && shift == 0 ? INFINITY : std::ldexp(1.0f, e - kBias - shift);
}

/// Levels are element * 2^kShift; kExponent is the exponent of the largest element.
template <class Rounding, int kExponent, int kShift>
FEWBITS_WIDE_LANES void fit(const float* values, const float* weights, int64_t blocks,
                            BlockParameters* parameters) {
  using search::Floats, search::Ints, search::kLanes;
  constexpr int kGreatest = 254 - kExponent - 1;  // largest element * scale must be finite
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kValues;
    search::SubBlocks<kValues> side_by_side;
    search::load_up_to(blocks - b, values + at, weights ? weights + at : nullptr, side_by_side);
    const Floats largest = lane_abs(search::largest(side_by_side.x));
    const Ints standard = ((Ints)largest >> 23) - kExponent;
    Floats least = splat<Floats>(INFINITY);
    Ints chosen{};
    for (const int step : {0, 1, -1}) {
      Ints e{};
      Floats scale{};
      for (int lane = 0; lane < kLanes; ++lane) {
        e[lane] = std::clamp(standard[lane] + step, kSmallest, kGreatest);
        scale[lane] = scale_of(e[lane], kShift);
      }
      const Floats error = search::error_on_grid<Rounding, kValues>(side_by_side, scale, Floats{});
      const Ints better = error < least;
      chosen = better ? e : chosen;
      least = better ? error : least;
    }
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].scale = static_cast<uint16_t>(chosen[lane]);
    }
  }
}

template <int kShift>
void grids(const BlockParameters& parameters, Grid* grids) {
  grids[0] = {scale_of(parameters.scale, kShift), kNoOffset};
}

template <int kShift>
void snap(const Grid* wanted, BlockParameters& parameters) {
  int exponent = 0;
  const float magnitude = std::abs(wanted[0].scale);
  const bool finite = magnitude > 0 && magnitude < INFINITY;
  const float fraction = finite ? std::frexp(magnitude, &exponent) : 0.5f;  // in [1/2, 1)
  // The nearer in value of 2^(exponent - 1) and 2^exponent.
  const int e = exponent - 1 + (fraction > 0.75f ? 1 : 0) + kShift + kBias;
  parameters.scale = static_cast<uint16_t>(std::clamp(e, kSmallest, 254));
}

}  // namespace fewbits::mx
