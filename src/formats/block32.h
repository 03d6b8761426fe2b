#pragma once

#include "base/half.h"
#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/levels.h"

// What the formats of 32 values with one grid (Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL) have in common:
//
//     [ half d | half m, if kMinimum | 32 fifth bits, if kBits is 5 | 16 bytes of low four bits ]
//
// value = d * level + m.
namespace fewbits::block32 {

inline constexpr int kValues = 32;

template <int kBits, bool kMinimum>
struct Layout {
  static constexpr int kHighBits = kMinimum ? 4 : 2;
  static constexpr int kLowBits = kHighBits + (kBits == 5 ? 4 : 0);
  static constexpr int kBytes = kLowBits + 16;

  static void grids(const BlockParameters& parameters, Grid* grids) {
    grids[0].scale = half_to_float(parameters.scale);
    grids[0].offset = kMinimum ? half_to_float(parameters.minimum) : kNoOffset;
  }

  static void snap(const Grid* wanted, BlockParameters& parameters) {
    parameters = {};
    parameters.scale = half_from_float(wanted[0].scale);
    if (kMinimum) parameters.minimum = half_from_float(wanted[0].offset);
  }

  static void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
    store_half(parameters.scale, block);
    if (kMinimum) store_half(parameters.minimum, block + 2);
    if (kBits == 5) pack_plane<1, 1>(codes, kValues, 4, block + kHighBits);
    pack_plane<4, 16>(codes, kValues, 0, block + kLowBits);
  }

  static void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
    parameters = {};
    parameters.scale = load_half(block);
    if (kMinimum) parameters.minimum = load_half(block + 2);
    unpack_plane<4, 16>(block + kLowBits, kValues, 0, codes);
    if (kBits == 5) unpack_plane<1, 1>(block + kHighBits, kValues, 4, codes);
  }
};

}  // namespace fewbits::block32
