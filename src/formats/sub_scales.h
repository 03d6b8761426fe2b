#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "formats/format.h"
#include "formats/lanes.h"

// Two-level scales: sub-block scale = half d * small integer.
namespace fewbits {

/// The nearest half that is finite.
inline uint16_t finite_half(float value) {
  constexpr float kLargest = 65504.0f;
  return half_from_float(std::clamp(value, -kLargest, kLargest));
}

/// Stores `count` wanted scales as d * integer, integers from kLowest to kHighest. The scale of
/// largest magnitude gets the extreme integer, so d may be negative where integers are signed.
/// Returns d.
template <int kLowest, int kHighest, class Integer>
uint16_t snap_sub_scales(const float* wanted, int count, Integer* integers) {
  const float* largest = std::max_element(
      wanted, wanted + count, [](float a, float b) { return std::abs(a) < std::abs(b); });
  const uint16_t d = finite_half(*largest / static_cast<float>(kLowest < 0 ? kLowest : kHighest));
  const float scale = half_to_float(d);
  for (int i = 0; i < count; ++i) {
    const float ratio = scale == 0 ? 0.0f : wanted[i] / scale;
    const float within =
        std::min(static_cast<float>(kHighest), std::max(static_cast<float>(kLowest), ratio));
    integers[i] = static_cast<Integer>(round_to_even(within));
  }
  return d;
}

/// snap for formats with signed sub-scales and no offset.
template <int kLowest, int kHighest>
void snap_signed(const Grid* wanted, int sub_blocks, BlockParameters& parameters) {
  std::array<float, kMaxSubBlocks> scales{};
  for (int i = 0; i < sub_blocks; ++i) scales[static_cast<size_t>(i)] = wanted[i].scale;
  parameters = {};
  parameters.scale =
      snap_sub_scales<kLowest, kHighest>(scales.data(), sub_blocks, parameters.sub_scale.data());
}

/// snap for formats with a sub-scale and a sub-minimum, both unsigned. A grid whose offset is above
/// zero is stored with offset zero.
template <int kHighest>
void snap_with_minimum(const Grid* wanted, int sub_blocks, BlockParameters& parameters) {
  std::array<float, kMaxSubBlocks> scales{};
  std::array<float, kMaxSubBlocks> minimums{};
  for (int i = 0; i < sub_blocks; ++i) {
    scales[static_cast<size_t>(i)] = std::max(wanted[i].scale, 0.0f);
    minimums[static_cast<size_t>(i)] = std::max(-wanted[i].offset, 0.0f);
  }
  parameters = {};
  parameters.scale =
      snap_sub_scales<0, kHighest>(scales.data(), sub_blocks, parameters.sub_scale.data());
  parameters.minimum =
      snap_sub_scales<0, kHighest>(minimums.data(), sub_blocks, parameters.sub_minimum.data());
}

}  // namespace fewbits
