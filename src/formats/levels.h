#pragma once

#include <array>
#include <cstdint>

namespace fewbits {

/// Consecutive integers from kFirst to kLast: the levels of the uniform formats.
template <int kFirst, int kLast>
inline constexpr auto kConsecutive = [] {
  std::array<int8_t, kLast - kFirst + 1> levels{};
  for (int i = 0; i <= kLast - kFirst; ++i) {
    levels[static_cast<size_t>(i)] = static_cast<int8_t>(kFirst + i);
  }
  return levels;
}();

/// The offset of formats that have none. Not +0: x + -0 is x for every x, signed zeros included, so
/// that one loop decodes all formats bit for bit.
inline constexpr float kNoOffset = -0.0f;

}  // namespace fewbits
