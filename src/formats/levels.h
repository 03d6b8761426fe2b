#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fewbits {

/// Consecutive integers from kFirst to kLast: the levels of the uniform formats.
template <int kFirst, int kLast>
inline constexpr auto kConsecutive = [] {
  std::array<float, kLast - kFirst + 1> levels{};
  for (int i = 0; i <= kLast - kFirst; ++i) {
    levels[static_cast<size_t>(i)] = static_cast<float>(kFirst + i);
  }
  return levels;
}();

/// Where the nearest of ascending levels changes; a tie goes to the lower.
template <size_t kCount>
constexpr std::array<float, kCount - 1> half_way(const std::array<float, kCount>& levels) {
  std::array<float, kCount - 1> bounds{};
  for (size_t i = 0; i + 1 < kCount; ++i) bounds[i] = 0.5f * (levels[i] + levels[i + 1]);
  return bounds;
}

/// Codes that are ascending already.
template <size_t kCount>
inline constexpr auto kInOrder = [] {
  std::array<uint8_t, kCount> codes{};
  for (size_t i = 0; i < kCount; ++i) codes[i] = static_cast<uint8_t>(i);
  return codes;
}();

/// The offset of formats that have none. Not +0: x + -0 is x for every x, signed zeros included, so
/// that one loop decodes all formats bit for bit.
inline constexpr float kNoOffset = -0.0f;

}  // namespace fewbits
