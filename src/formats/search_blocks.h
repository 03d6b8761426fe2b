#pragma once

#include "formats/search_minimum.h"
#include "formats/search_symmetric.h"
#include "formats/search_zero_point.h"

// Format::fit for blocks of kSize values with one grid: eight blocks in the lanes.
namespace fewbits::search {

/// Loads as many blocks as there are lanes; lanes beyond the last are zero.
template <int kSize, class Lanes>
void load_up_to(int64_t blocks, const float* values, const float* weights,
                SubBlocks<kSize, Lanes>& lanes) {
  constexpr int64_t kCapacity = kLanesOf<Lanes> * kSize;
  if (blocks >= kLanesOf<Lanes>) return load(values, weights, lanes);
  const int64_t count = blocks * kSize;
  std::array<float, kCapacity> padded_values{};
  std::array<float, kCapacity> padded_weights{};
  std::copy_n(values, count, padded_values.begin());
  if (weights) std::copy_n(weights, count, padded_weights.begin());
  load(padded_values.data(), weights ? padded_weights.data() : nullptr, lanes);
}

struct ScaleSearch {
  std::span<const float> starts;
  int refinements;
};

template <int kSize, class Rounding, const ScaleSearch& how>
FEWBITS_WIDE_LANES void fit_scale(const float* values, const float* weights, int64_t blocks,
                                  BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kSize;
    SubBlocks<kSize> side_by_side;
    load_up_to(blocks - b, values + at, weights ? weights + at : nullptr, side_by_side);
    const Floats scale = find_scales<Rounding, kSize>(side_by_side, how.starts, how.refinements);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].scale = finite_half(scale[lane]);
    }
  }
}

struct LineSearch {
  std::span<const Narrowing> starts;
  int refinements;
};

/// Levels 0 to kLimit, whose zero point is a level too.
template <int kSize, int kLimit>
FEWBITS_WIDE_LANES void fit_zero_points(const float* values, const float* weights, int64_t blocks,
                                        BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kSize;
    SubBlocks<kSize> side_by_side;
    load_up_to(blocks - b, values + at, weights ? weights + at : nullptr, side_by_side);
    const ZeroPoints found = find_zero_points<kSize, kLimit>(side_by_side);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].scale = finite_half(found.scale[lane]);
      parameters[b + lane].sub_minimum[0] = static_cast<uint8_t>(found.zero[lane]);
    }
  }
}

template <int kSize, int kLimit, const LineSearch& how>
FEWBITS_WIDE_LANES void fit_lines(const float* values, const float* weights, int64_t blocks,
                                  BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kSize;
    SubBlocks<kSize> side_by_side;
    load_up_to(blocks - b, values + at, weights ? weights + at : nullptr, side_by_side);
    const Lines lines = find_lines<kSize, kLimit>(side_by_side, how.starts, false, how.refinements);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].scale = finite_half(lines.scale[lane]);
      parameters[b + lane].minimum = finite_half(lines.offset[lane]);
    }
  }
}

}  // namespace fewbits::search
