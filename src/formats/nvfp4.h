#pragma once

#include <algorithm>
#include <array>

#include "formats/format.h"
#include "formats/levels.h"
#include "formats/search_blocks.h"
#include "formats/small_floats.h"

// NVFP4: 16 values of FP4 (E2M1) share a positive scale that is an E4M3 itself.
namespace fewbits::nvfp4 {

inline constexpr int kGroup = 16;
inline constexpr int kHighestScale = 0x7e;  // 448; 0x7f is no number
inline constexpr float kLargestElement = 6;

/// The highest code of an E4M3 that is not above value, from 1 to kHighestScale.
inline int scale_at_most(float value) {
  const auto& levels = small_floats::E4M3::kLevels;
  const auto* end = levels.begin() + kHighestScale + 1;
  const auto* above = std::upper_bound(levels.begin() + 1, end, value);
  return std::max(1, static_cast<int>(above - levels.begin()) - 1);
}

/// Scales of some groups: of all codes that put the largest magnitude between 3.4 and 8.6 elements
/// the one of least error. (Mapping it to 6, or to 4 or 6, loses 1.4 and 0.6 dB.) `unit` is what a
/// scale of 1 is worth.
template <class Rounding, int kDoubling, class Lanes>
MaskOf<Lanes> sweep_scales(const search::SubBlocks<kGroup, Lanes>& groups, float unit) {
  constexpr int kTries = 13;  // 8 codes double the scale
  const Lanes largest = lane_abs(search::largest(groups.x));
  MaskOf<Lanes> first{}, chosen{};
  const float inverse = unit > 0 ? 1 / unit : 0.0f;
  for (int lane = 0; lane < kLanesOf<Lanes>; ++lane)
    first[lane] = scale_at_most(largest[lane] * inverse / 8.6f);
  Lanes least = splat<Lanes>(INFINITY);
  for (int step = 0; step < kTries; ++step) {
    MaskOf<Lanes> codes{};
    Lanes scale{};
    for (int lane = 0; lane < kLanesOf<Lanes>; ++lane) {
      codes[lane] = std::min(first[lane] + step, kHighestScale);
      const float decoded = small_floats::E4M3::kLevels[static_cast<size_t>(codes[lane])];
      scale[lane] = decoded * unit / kDoubling;
    }
    const Lanes error = search::error_on_grid<Rounding, kGroup>(groups, scale, Lanes{});
    const MaskOf<Lanes> better = error < least;
    chosen = better ? codes : chosen;
    least = better ? error : least;
  }
  return chosen;
}

/// The code of the E4M3 nearest to a wanted scale, from 1 to kHighestScale.
inline int8_t nearest_scale(float wanted) {
  const int low = scale_at_most(wanted), high = std::min(low + 1, kHighestScale);
  const auto& levels = small_floats::E4M3::kLevels;
  const float middle =
      0.5f * (levels[static_cast<size_t>(low)] + levels[static_cast<size_t>(high)]);
  return static_cast<int8_t>(wanted > middle ? high : low);
}

}  // namespace fewbits::nvfp4
