#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "formats/lanes.h"

// Floats of 4 to 8 bits: a sign, kExponent bits, kMantissa bits.
//
//     value = (-1)^sign * 2^(e - kBias) * (1 + m / 2^kMantissa)         e above 0
//           = (-1)^sign * 2^(1 - kBias) * m / 2^kMantissa               e = 0: subnormal, and zero
//
// Codes are the bits themselves. Rounding is to nearest, ties to the code that is even, and ends at
// the largest finite value. Source: OCP 8-bit Floating Point Specification 1.0, OCP Microscaling
// Formats 1.0.
namespace fewbits::small_floats {

/// Which codes are no numbers.
enum class Special {
  kNone,
  kNan,   ///< all ones: NaN, with either sign; no infinity
  kIeee,  ///< the highest exponent: infinity where m is 0, else NaN
};

constexpr float power_of_two(int exponent) {
  float value = 1;
  for (; exponent > 0; --exponent) value *= 2;
  for (; exponent < 0; ++exponent) value /= 2;
  return value;
}

/// The next float below.
constexpr float just_below(float value) {
  if (value == 0) return -std::bit_cast<float>(uint32_t{1});
  const auto bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>(value > 0 ? bits - 1 : bits + 1);
}

template <int kExponent, int kMantissa, int kBias, Special kSpecial>
struct SmallFloat {
  static constexpr int kSign = 1 << (kExponent + kMantissa);
  static constexpr int kCodes = 2 * kSign;
  /// Magnitudes are the codes from 0 to this.
  static constexpr int kHighestFinite = kSpecial == Special::kNone  ? kSign - 1
                                        : kSpecial == Special::kNan ? kSign - 2
                                                                    : kSign - 1 - (1 << kMantissa);
  static constexpr int kFiniteCodes = 2 * (kHighestFinite + 1);  // zero has two

  static constexpr float magnitude(int code) {
    const int exponent = code >> kMantissa, mantissa = code & ((1 << kMantissa) - 1);
    if (code == kHighestFinite + 1 && kSpecial == Special::kIeee)
      return std::bit_cast<float>(0x7f800000u);
    if (code > kHighestFinite) return std::bit_cast<float>(0x7fc00000u);
    const int whole = exponent == 0 ? mantissa : mantissa + (1 << kMantissa);
    return static_cast<float>(whole) *
           power_of_two((exponent == 0 ? 1 : exponent) - kBias - kMantissa);
  }

  static constexpr float kLargest = magnitude(kHighestFinite);

  static constexpr auto kLevels = [] {
    std::array<float, kCodes> levels{};
    for (int code = 0; code < kSign; ++code) {
      levels[static_cast<size_t>(code)] = magnitude(code);
      levels[static_cast<size_t>(code + kSign)] = -magnitude(code);
    }
    return levels;
  }();

  static constexpr auto kAscending = [] {
    std::array<uint8_t, kFiniteCodes> codes{};
    for (int i = 0; i <= kHighestFinite; ++i) {
      codes[static_cast<size_t>(kHighestFinite - i)] = static_cast<uint8_t>(kSign + i);
      codes[static_cast<size_t>(kHighestFinite + 1 + i)] = static_cast<uint8_t>(i);
    }
    return codes;
  }();

  static constexpr auto kBounds = [] {
    std::array<float, kFiniteCodes - 1> bounds{};
    for (size_t i = 0; i < bounds.size(); ++i) {
      const uint8_t low = kAscending[i], high = kAscending[i + 1];
      const float middle = 0.5f * kLevels[low] + 0.5f * kLevels[high];
      // Codes next to each other differ in parity, but for the two zeros: +0 goes to +0.
      bounds[i] = high % 2 == 0 ? just_below(middle) : middle;
    }
    return bounds;
  }();

  /// The nearest value, for searches.
  struct Rounding {
    template <class Lanes>
    static Lanes levels(Lanes value) {
      using Bits = MaskOf<Lanes>;
      const Lanes a = lane_clamp(lane_abs(value), 0, kLargest);
      const Lanes power =
          lane_max((Lanes)((Bits)a & 0x7f800000), splat<Lanes>(power_of_two(1 - kBias)));
      const Lanes shifter = power * (1.5f * power_of_two(23 - kMantissa));
      const Lanes rounded = (a + shifter) - shifter;
      return (Lanes)((Bits)rounded | ((Bits)value & static_cast<int32_t>(0x80000000)));
    }
  };
};

using E4M3 = SmallFloat<4, 3, 7, Special::kNan>;
using E5M2 = SmallFloat<5, 2, 15, Special::kIeee>;
using E2M3 = SmallFloat<2, 3, 1, Special::kNone>;
using E3M2 = SmallFloat<3, 2, 3, Special::kNone>;
using E2M1 = SmallFloat<2, 1, 1, Special::kNone>;

}  // namespace fewbits::small_floats
