#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

// A few floats side by side. Lanes never mix and nothing is fused, so that the encoders give the
// same bytes on every machine, whatever its registers hold. A comparison gives a mask for `mask ? a
// : b`.
namespace fewbits {

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));

template <class Floats>
inline constexpr int kLanesOf = sizeof(Floats) / sizeof(float);

/// The type of comparisons of `Floats`.
template <class Floats>
using MaskOf = decltype(Floats{} < Floats{});

/// Where a function of a format does the work of many registers: compiled for AVX2 too, and chosen
/// when the program is loaded. Clang has no such clones of templates.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FEWBITS_WIDE_LANES [[gnu::target_clones("avx2", "default"), gnu::flatten]]
#else
#define FEWBITS_WIDE_LANES
#endif

template <class Floats = Float4>
inline Floats splat(float value) {
  return value - Floats{};
}

template <class Floats>
inline Floats load_lanes(const float* from) {
  Floats lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

template <class Floats>
inline void store_lanes(Floats lanes, float* to) {
  std::memcpy(to, &lanes, sizeof(lanes));
}

/// Turns a square of floats: lane j of row i becomes lane i of row j.
inline void transpose(Float4 (&rows)[4]) {
  const Float4 ab_low = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
  const Float4 ab_high = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  const Float4 cd_low = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  const Float4 cd_high = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  rows[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  rows[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  rows[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/// Value i of as many sub-blocks of kSize values as there are lanes, one sub-block in each lane.
template <int kSize, class Floats = Float4>
inline std::array<Floats, kSize> transposed(const float* sub_blocks) {
  static_assert(kSize % 4 == 0);
  std::array<Floats, kSize> lanes;
  for (size_t begin = 0; begin < kSize; begin += 4) {
    constexpr size_t kSquares = kLanesOf<Floats> / 4;
    Float4 squares[kSquares][4];
    for (size_t lane = 0; lane < kLanesOf<Floats>; ++lane)
      squares[lane / 4][lane % 4] = load_lanes<Float4>(sub_blocks + lane * kSize + begin);
    for (auto& square : squares) transpose(square);
    for (size_t i = 0; i < 4; ++i) {
      if constexpr (kSquares == 1) {
        lanes[begin + i] = squares[0][i];
      } else {
        lanes[begin + i] =
            Floats(__builtin_shufflevector(squares[0][i], squares[1][i], 0, 1, 2, 3, 4, 5, 6, 7));
      }
    }
  }
  return lanes;
}

template <class Floats>
inline Floats lane_min(Floats a, Floats b) {
  return a < b ? a : b;
}
template <class Floats>
inline Floats lane_max(Floats a, Floats b) {
  return a > b ? a : b;
}

/// Numbers that the compiler may not take for constants: beside a constant gcc takes no minimum but
/// compares and blends, which is three times the work.
template <int kNumber>
inline float kNotFolded = kNumber;

template <class Floats>
inline Floats lane_clamp(Floats value, float low, float high) {
  return lane_min(lane_max(value, splat<Floats>(low)), splat<Floats>(high));
}
/// The same, faster.
template <int kLow, int kHigh, class Floats>
inline Floats lane_clamp(Floats value) {
  return lane_clamp(value, kNotFolded<kLow>, kNotFolded<kHigh>);
}
template <class Floats>
inline Floats lane_abs(Floats value) {
  return (Floats)((MaskOf<Floats>)value & 0x7fffffff);
}

/// table[index] in each lane; indices from 0 to 7.
template <class Mask>
Float8 look_up(const float* table, Mask index) {
#if defined(__clang__)
  Float8 found;
  for (int lane = 0; lane < 8; ++lane) found[lane] = table[index[lane]];
  return found;
#else
  return __builtin_shuffle(load_lanes<Float8>(table), index);
#endif
}

/// Nearest integer, ties to even, for |value| < 2^22: the sum has no bits left for a fraction.
template <class Number>
Number round_to_even(Number value) {
  constexpr float kShifter = 12582912.0f;  // 1.5 * 2^23
  return (value + kShifter) - kShifter;
}

}  // namespace fewbits
