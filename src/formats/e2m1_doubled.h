#pragma once

#include <array>

#include "formats/lanes.h"
#include "formats/levels.h"
#include "formats/small_floats.h"

namespace fewbits {

/// The values of FP4 (E2M1) times two, as GGUF has them: integers, and no negative zero.
inline constexpr std::array<float, 16> kDoubledE2M1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                                       0, -1, -2, -3, -4, -6, -8, -12};

inline constexpr std::array<uint8_t, 15> kDoubledE2M1Ascending = {15, 14, 13, 12, 11, 10, 9, 0,
                                                                  1,  2,  3,  4,  5,  6,  7};

/// Ties to even codes.
inline constexpr auto kDoubledE2M1Bounds = [] {
  std::array<float, 14> bounds{};
  for (size_t i = 0; i < bounds.size(); ++i) {
    const uint8_t low = kDoubledE2M1Ascending[i], high = kDoubledE2M1Ascending[i + 1];
    const float middle = 0.5f * (kDoubledE2M1[low] + kDoubledE2M1[high]);
    bounds[i] = high % 2 == 0 ? small_floats::just_below(middle) : middle;
  }
  return bounds;
}();

struct DoubledE2M1Rounding {
  template <class Lanes>
  static Lanes levels(Lanes value) {
    return 2.0f * small_floats::E2M1::Rounding::levels(0.5f * value);
  }
};

}  // namespace fewbits
