#pragma once

#include <cstdint>
#include <cstring>

// Four floats side by side. Every machine has registers for these, lanes never mix, and nothing is
// fused, so that the encoders give the same bytes everywhere. A comparison gives a mask for `mask ?
// a : b`.
namespace fewbits {

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

inline constexpr int kLanes = 4;

inline Float4 splat(float value) {
  return Float4{value, value, value, value};
}

inline Float4 load4(const float* from) {
  Float4 lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

inline void store4(Float4 lanes, float* to) {
  std::memcpy(to, &lanes, sizeof(lanes));
}

inline Float4 min4(Float4 a, Float4 b) {
  return a < b ? a : b;
}
inline Float4 max4(Float4 a, Float4 b) {
  return a > b ? a : b;
}
inline Float4 clamp4(Float4 value, float low, float high) {
  return min4(max4(value, splat(low)), splat(high));
}
inline Float4 abs4(Float4 value) {
  return (Float4)((Int4)value & 0x7fffffff);
}

/// Nearest integer, ties to even, for |value| < 2^22: the sum has no bits left for a fraction.
template <class Number>
Number round_to_even(Number value) {
  constexpr float kShifter = 12582912.0f;  // 1.5 * 2^23
  return (value + kShifter) - kShifter;
}

}  // namespace fewbits
