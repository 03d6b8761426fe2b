#pragma once

#include <array>
#include <cstdint>

#include "formats/format.h"
#include "formats/lanes.h"

// The arithmetic of ggml's encoders, operation by operation, so that our bytes are the reference's.
// Sums run value by value in single precision without fused operations, which is what its sources
// mean when compiled with their default flags. Speed comes from searching four sub-blocks side by
// side, one in each lane, which changes no sum.
namespace fewbits::reference {

/// Below this a sub-block counts as zero.
inline constexpr float kZero = 1e-15f;

/// ggml's rounding: to even by adding 1.5 * 2^23, from whose bits the integer is cut out. Beyond
/// 2^22 the result is arbitrary, but the same arbitrary one.
inline int nearest_int(float value) {
  const float shifted = value + 12582912.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  return (bits & 0x007fffff) - 0x00400000;
}

inline Float4 nearest_int(Float4 value) {
  const Int4 bits = (Int4)(value + 12582912.0f);
  return __builtin_convertvector((bits & 0x007fffff) - 0x00400000, Float4);
}

/// The inverse scales that a search tries: (limit + first + step * k) / range for k = 0 .. count.
struct Tries {
  int limit;  ///< greatest code
  float first;
  float step;
  int count;
};

/// What four sub-blocks of kSize values, one after another, hold lane by lane.
template <int kSize>
using Lanes = std::array<Float4, kSize>;

/// Scale and -minimum of four sub-blocks.
struct FourLines {
  std::array<float, kLanesOf<Float4>> scales;
  std::array<float, kLanesOf<Float4>> minimums;
};

/// Grids with a minimum for four sub-blocks: least weighted square (or, kAbsolute, absolute) error.
/// Codes are those of the search, before the scales are rounded to what is stored.
template <int kSize, bool kAbsolute>
FourLines search_asymmetric(const float* values, const float* weights, const Tries& tries,
                            uint8_t* codes);

/// Scales for levels -limit .. limit - 1, four sub-blocks; codes are levels + limit, 0 throughout
/// for a zero sub-block.
template <int kSize>
void search_symmetric(const float* values, const float* weights, int limit, float* scales,
                      uint8_t* codes);

/// As search_symmetric for levels -4 .. 3 and weights value^2, by coordinate descent on single
/// codes.
void search_q3(const float* values, float* scales, uint8_t* codes);

/// Codes 0 .. limit and a scale for the non-negative scales or minimums of a super-block. Returns
/// the scale.
float search_positive(const float* values, const float* weights, int count, int limit,
                      uint8_t* codes);

/// Weights of the reference where columns have an importance: importance * sqrt(spread + value^2).
void importance_weights(const float* values, const float* importance, int64_t count, float spread,
                        float* weights);

/// Sum of squares, value by value.
float sum_of_squares(const float* values, int64_t count);

/// The codes of one sub-block on a stored grid; none change where its scale is 0.
template <int kSize>
void requantize(const float* values, Grid grid, int lowest, int highest, uint8_t* codes) {
  if (grid.scale == 0) return;
  for (int i = 0; i < kSize; i += kLanesOf<Float4>) {
    const Float4 level = nearest_int((load_lanes<Float4>(values + i) - grid.offset) / grid.scale);
    const Float4 code = lane_clamp(level, static_cast<float>(lowest), static_cast<float>(highest)) -
                        static_cast<float>(lowest);
    for (int lane = 0; lane < kLanesOf<Float4>; ++lane)
      codes[i + lane] = static_cast<uint8_t>(code[lane]);
  }
}

}  // namespace fewbits::reference
