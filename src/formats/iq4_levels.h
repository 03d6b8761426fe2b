#pragma once

#include <array>
#include <cstdint>

#include "formats/float4.h"
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

/// The nearest of kIq4Levels, the higher of two equally near. Half-way points are multiples of 1/2,
/// so the level is a function of floor(2 x) and comes from a table.
class Iq4Rounding {
 public:
  static Float4 levels(Float4 value) {
    const Int4 at = index(value);
    return Float4{entry(at[0]).level, entry(at[1]).level, entry(at[2]).level, entry(at[3]).level};
  }

  static Int4 codes(Float4 value) {
    const Int4 at = index(value);
    return Int4{entry(at[0]).code, entry(at[1]).code, entry(at[2]).code, entry(at[3]).code};
  }

 private:
  struct Entry {
    float level;
    int32_t code;
  };
  static constexpr int kLowest = 2 * kIq4Levels.front();
  static constexpr int kHighest = 2 * kIq4Levels.back();

  static Int4 index(Float4 value) {
    const Float4 twice = clamp4(value + value, kLowest, kHighest);
    const Int4 toward_zero = __builtin_convertvector(twice, Int4);
    const Int4 above = __builtin_convertvector(toward_zero, Float4) > twice;  // -1 where true
    return toward_zero + above - kLowest;
  }

  static constexpr auto kTable = [] {
    std::array<Entry, kHighest - kLowest + 1> table{};
    for (int i = kLowest; i <= kHighest; ++i) {
      size_t code = 0;
      while (code < 15 && i >= kIq4Levels[code] + kIq4Levels[code + 1]) ++code;
      table[static_cast<size_t>(i - kLowest)] = {static_cast<float>(kIq4Levels[code]),
                                                 static_cast<int32_t>(code)};
    }
    return table;
  }();

  static const Entry& entry(int32_t index) { return kTable[static_cast<size_t>(index)]; }
};

}  // namespace fewbits
