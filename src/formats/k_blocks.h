#pragma once

#include "base/half.h"
#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/levels.h"
#include "formats/sub_scales.h"

// What the K-quants have in common: super-blocks of 256 values whose sub-blocks have small integer
// scales, multiples of one half d, and with a minimum also integer minimums, multiples of one half
// dmin:
//
//     value = (d * sub_scale) * level                              Q3_K, Q6_K, IQ4_XS
//     value = (d * sub_scale) * level - (dmin * sub_minimum)       Q2_K, Q4_K, Q5_K
namespace fewbits::k_blocks {

inline constexpr int kValues = 256;

template <int kSubBlocks>
void grids(const BlockParameters& parameters, Grid* grids) {
  const float d = half_to_float(parameters.scale);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    grids[s] = {d * static_cast<float>(parameters.sub_scale[s]), kNoOffset};
  }
}

template <int kSubBlocks>
void grids_with_minimum(const BlockParameters& parameters, Grid* grids) {
  const float d = half_to_float(parameters.scale);
  const float dmin = half_to_float(parameters.minimum);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    grids[s] = {d * static_cast<float>(parameters.sub_scale[s]),
                -(dmin * static_cast<float>(parameters.sub_minimum[s]))};
  }
}

/// Q4_K and Q5_K: 8 scales and 8 minimums of 6 bits in 12 bytes.
///
///     byte j      (j < 4)   [ scale j+4, top 2 | scale j, 6 bits ]
///     byte j + 4  (j < 4)   [ minimum j+4, top 2 | minimum j, 6 bits ]
///     byte j + 8  (j < 4)   [ minimum j+4, low 4 | scale j+4, low 4 ]
void pack_scales(const BlockParameters& parameters, std::byte* out);
void unpack_scales(const std::byte* in, BlockParameters& parameters);

}  // namespace fewbits::k_blocks
