#include "formats/reference_iq4.h"

#include <array>

#include "formats/iq4_levels.h"
#include "formats/reference.h"

namespace fewbits::reference {
namespace {

constexpr int kSize = 32;

struct Sums {
  Float4 qx, q2;
};

Sums sums_of(const Lanes<kSize>& x, const Lanes<kSize>& w, Float4 inverse) {
  Sums sums{splat(0), splat(0)};
  for (size_t i = 0; i < kSize; ++i) {
    const Float4 q = Iq4Rounding::levels(inverse * x[i]);
    const Float4 wq = w[i] * q;
    sums.qx += wq * x[i];
    sums.q2 += wq * q;
  }
  return sums;
}

Float4 largest_of(const Lanes<kSize>& x) {
  Float4 largest = splat(0);
  for (const Float4 value : x) largest = lane_abs(value) > lane_abs(largest) ? value : largest;
  return largest;
}

}  // namespace

void search_iq4(const float* values, const float* weights, float* scales) {
  constexpr int kTries = 7;
  constexpr auto kLowest = static_cast<float>(kIq4Levels.front());
  const auto x = transposed<kSize>(values);
  const auto w = transposed<kSize>(weights);
  const Float4 largest = largest_of(x);
  Sums sums = sums_of(x, w, 1.0f / (-largest / kLowest));
  Float4 scale = sums.q2 > 0.0f ? sums.qx / sums.q2 : splat(0);
  Float4 gain = scale * sums.qx;
  for (int k = -kTries; k <= kTries; ++k) {
    sums = sums_of(x, w, (static_cast<float>(k) + kLowest) / largest);
    const Int4 better = (sums.q2 > 0.0f) & (sums.qx * sums.qx > gain * sums.q2);
    scale = better ? sums.qx / sums.q2 : scale;
    gain = better ? scale * sums.qx : gain;
  }
  store_lanes(lane_abs(largest) < kZero ? splat(0) : scale, scales);
}

void iq4_codes(const float* values, float inverse, uint8_t* codes) {
  for (int i = 0; i < kSize; i += kLanesOf<Float4>) {
    const Int4 four = Iq4Rounding::codes(load_lanes<Float4>(values + i) * inverse);
    for (int lane = 0; lane < kLanesOf<Float4>; ++lane)
      codes[i + lane] = static_cast<uint8_t>(four[lane]);
  }
}

void iq4_weights(const float* values, const float* importance, int count, float spread,
                 float* weights) {
  if (importance) return importance_weights(values, importance, count, spread, weights);
  for (int i = 0; i < count; ++i) weights[i] = values[i] * values[i];
}

}  // namespace fewbits::reference
