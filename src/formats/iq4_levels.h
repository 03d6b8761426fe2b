#pragma once

#include <array>
#include <cstdint>

#include "formats/lanes.h"
#include "formats/levels.h"

namespace fewbits {

/// The code book of IQ4_NL and IQ4_XS: the public table of GGUF, spaced for bell-shaped weights. It
/// is not symmetric and has no zero.
inline constexpr std::array<int8_t, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

inline constexpr auto kIq4FloatLevels = [] {
  std::array<float, 16> levels{};
  for (size_t i = 0; i < 16; ++i) levels[i] = static_cast<float>(kIq4Levels[i]);
  return levels;
}();
inline constexpr auto kIq4Bounds = half_way(kIq4FloatLevels);

/// The nearest of kIq4Levels, the higher of two equally near.
struct Iq4Rounding {
  static Float4 levels(Float4 value) {
    Float4 level = splat(kIq4FloatLevels[0]);
    for (size_t i = 0; i < kIq4Bounds.size(); ++i) {
      const Int4 step = (Int4)splat(kIq4FloatLevels[i + 1] - kIq4FloatLevels[i]);
      level += (Float4)((value >= kIq4Bounds[i]) & step);
    }
    return level;
  }

  /// By bisection: each bound is looked up by what the comparisons before have said.
  static Float8 levels(Float8 value) {
    Int8 above = -(value >= kIq4Bounds[7]);  // a comparison gives -1
    above = above * 2 - (value >= look_up(kBisected[0].data(), above));
    above = above * 2 - (value >= look_up(kBisected[1].data(), above));
    above = above * 2 - (value >= look_up(kBisected[2].data(), above));
    const Int8 within = above & 7;
    return above > 7 ? look_up(kIq4FloatLevels.data() + 8, within)
                     : look_up(kIq4FloatLevels.data(), within);
  }

  static Int4 codes(Float4 value) {
    Int4 code{};
    for (const float bound : kIq4Bounds) code -= value >= bound;
    return code;
  }

 private:
  /// The bounds in the middle of halves, quarters and eighths of the levels.
  static constexpr auto kBisected = [] {
    std::array<std::array<float, 8>, 3> bounds{};
    for (size_t depth = 0; depth < 3; ++depth) {
      const size_t parts = size_t{2} << depth, size = 16 / parts;
      for (size_t part = 0; part < parts; ++part) {
        bounds[depth][part] = kIq4Bounds[part * size + size / 2 - 1];
      }
    }
    return bounds;
  }();
};

}  // namespace fewbits
