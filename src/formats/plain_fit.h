#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/format.h"

namespace fewbits {

/// The grid on which the value of largest magnitude is the lowest level.
inline Grid symmetric_range(const Format& format, const float* values, float offset) {
  float largest = 0;
  for (int i = 0; i < format.sub_block_values; ++i) {
    if (std::abs(values[i]) > std::abs(largest)) largest = values[i];
  }
  return {largest / static_cast<float>(format.levels.front()), offset};
}

/// The grid from the least to the greatest value, zero included.
inline Grid asymmetric_range(const Format& format, const float* values) {
  const auto [low, high] = std::minmax_element(values, values + format.sub_block_values);
  const float minimum = std::min(*low, 0.0f);
  return {(std::max(*high, 0.0f) - minimum) / static_cast<float>(format.levels.back()), minimum};
}

template <const Format& format, bool kSymmetric>
void plain_fit(const float* values, const float*, BlockParameters& parameters) {
  std::array<Grid, kMaxSubBlocks> grids;
  for (int s = 0; s < format.sub_blocks(); ++s) {
    const float* part = values + s * format.sub_block_values;
    grids[static_cast<size_t>(s)] =
        kSymmetric ? symmetric_range(format, part, -0.0f) : asymmetric_range(format, part);
  }
  format.snap(grids.data(), parameters);
}

}  // namespace fewbits
