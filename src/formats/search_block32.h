#pragma once

#include "formats/block32.h"
#include "formats/search_minimum.h"
#include "formats/search_symmetric.h"

// Format::fit for blocks of 32 values with one grid: four blocks in the four lanes.
namespace fewbits::search {

/// Loads up to four blocks; lanes beyond them are zero.
inline void load_up_to_four(const float* values, const float* weights, int64_t blocks,
                            SubBlocks<block32::kValues>& four) {
  constexpr int64_t kCapacity = kLanes * block32::kValues;
  if (blocks >= kLanes) return load<block32::kValues>(values, weights, four);
  const int64_t count = blocks * block32::kValues;
  std::array<float, kCapacity> padded_values{};
  std::array<float, kCapacity> padded_weights{};
  std::copy_n(values, count, padded_values.begin());
  if (weights) std::copy_n(weights, count, padded_weights.begin());
  load<block32::kValues>(padded_values.data(), weights ? padded_weights.data() : nullptr, four);
}

struct Scale32 {
  std::span<const float> starts;
  int refinements;
};

template <class Rounding, const Scale32& how>
void fit_scale32(const float* values, const float* weights, int64_t blocks,
                 BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * block32::kValues;
    SubBlocks<block32::kValues> four;
    load_up_to_four(values + at, weights ? weights + at : nullptr, blocks - b, four);
    const Float4 scale = find_scales<Rounding, block32::kValues>(four, how.starts, how.refinements);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane] = {.scale = finite_half(scale[lane])};
    }
  }
}

struct Line32 {
  std::span<const Narrowing> starts;
  int refinements;
};

template <int kLimit, const Line32& how>
void fit_line32(const float* values, const float* weights, int64_t blocks,
                BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * block32::kValues;
    SubBlocks<block32::kValues> four;
    load_up_to_four(values + at, weights ? weights + at : nullptr, blocks - b, four);
    const Lines lines =
        find_lines<block32::kValues, kLimit>(four, how.starts, false, how.refinements);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane] = {.scale = finite_half(lines.scale[lane]),
                              .minimum = finite_half(lines.offset[lane])};
    }
  }
}

}  // namespace fewbits::search
