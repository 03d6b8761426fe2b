#pragma once

#include "formats/search_minimum.h"
#include "formats/search_symmetric.h"
#include "formats/search_zero_point.h"

// Format::fit for blocks of kSize values with one grid: four blocks in the four lanes.
namespace fewbits::search {

/// Loads up to four blocks; lanes beyond them are zero.
template <int kSize>
void load_up_to_four(const float* values, const float* weights, int64_t blocks,
                     SubBlocks<kSize>& four) {
  constexpr int64_t kCapacity = kLanes * kSize;
  if (blocks >= kLanes) return load<kSize>(values, weights, four);
  const int64_t count = blocks * kSize;
  std::array<float, kCapacity> padded_values{};
  std::array<float, kCapacity> padded_weights{};
  std::copy_n(values, count, padded_values.begin());
  if (weights) std::copy_n(weights, count, padded_weights.begin());
  load<kSize>(padded_values.data(), weights ? padded_weights.data() : nullptr, four);
}

struct ScaleSearch {
  std::span<const float> starts;
  int refinements;
};

template <int kSize, class Rounding, const ScaleSearch& how>
void fit_scale(const float* values, const float* weights, int64_t blocks,
               BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kSize;
    SubBlocks<kSize> four;
    load_up_to_four<kSize>(values + at, weights ? weights + at : nullptr, blocks - b, four);
    const Float4 scale = find_scales<Rounding, kSize>(four, how.starts, how.refinements);
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
void fit_zero_points(const float* values, const float* weights, int64_t blocks,
                     BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kSize;
    SubBlocks<kSize> four;
    load_up_to_four<kSize>(values + at, weights ? weights + at : nullptr, blocks - b, four);
    const ZeroPoints found = find_zero_points<kSize, kLimit>(four);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].scale = finite_half(found.scale[lane]);
      parameters[b + lane].sub_minimum[0] = static_cast<uint8_t>(found.zero[lane]);
    }
  }
}

template <int kSize, int kLimit, const LineSearch& how>
void fit_lines(const float* values, const float* weights, int64_t blocks,
               BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kSize;
    SubBlocks<kSize> four;
    load_up_to_four<kSize>(values + at, weights ? weights + at : nullptr, blocks - b, four);
    const Lines lines = find_lines<kSize, kLimit>(four, how.starts, false, how.refinements);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].scale = finite_half(lines.scale[lane]);
      parameters[b + lane].minimum = finite_half(lines.offset[lane]);
    }
  }
}

}  // namespace fewbits::search
