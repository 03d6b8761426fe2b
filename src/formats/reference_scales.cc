#include <algorithm>
#include <cmath>

#include "formats/reference.h"

// The searches over the 8 or 16 scales of a super-block.
namespace fewbits::reference {
namespace {

/// What is rounded: the scales or minimums, each with the summed weights of its sub-block.
struct Scales {
  const float* values;
  const float* weights;
  int count;
  int limit;  ///< greatest code
};

float squared_error(const Scales& scales, float inverse) {
  const float scale = 1 / inverse;
  float error = 0;
  for (int i = 0; i < scales.count; ++i) {
    const int code = std::min(scales.limit, nearest_int(inverse * scales.values[i]));
    const float difference = scales.values[i] - scale * static_cast<float>(code);
    error += scales.weights[i] * difference * difference;
  }
  return error;
}

/// The best of nine inverse scales around limit / largest. The first is not capped at the limit,
/// which it cannot exceed.
float best_inverse(const Scales& scales, float largest) {
  const auto levels = static_cast<float>(scales.limit);
  float inverse = levels / largest;
  float least = squared_error(scales, inverse);
  for (int k = -4; k <= 4; ++k) {
    if (k == 0) continue;
    const float tried = (0.1f * static_cast<float>(k) + levels) / largest;
    const float error = squared_error(scales, tried);
    if (error < least) {
      least = error;
      inverse = tried;
    }
  }
  return inverse;
}

struct Sums {
  float lx = 0, l2 = 0;
};

Sums with(Sums sums, float w, float x, int code, float sign) {
  const auto level = static_cast<float>(code);
  return {sums.lx + sign * (w * x * level), sums.l2 + sign * (w * level * level)};
}

/// One pass of coordinate descent over single codes; false when none changed.
bool descend(const Scales& scales, uint8_t* codes, Sums& sums) {
  bool changed = false;
  for (int i = 0; i < scales.count; ++i) {
    const float w = scales.weights[i];
    const float x = scales.values[i];
    const Sums others = with(sums, w, x, codes[i], -1);
    if (!(others.lx > 0 && others.l2 > 0)) continue;
    const int code = std::min(scales.limit, nearest_int(x * others.l2 / others.lx));
    if (code == codes[i]) continue;
    const Sums moved = with(others, w, x, code, 1);
    if (moved.lx * moved.lx * sums.l2 > sums.lx * sums.lx * moved.l2) {
      codes[i] = static_cast<uint8_t>(code);
      sums = moved;
      changed = true;
    }
  }
  return changed;
}

}  // namespace

float search_positive(const float* values, const float* weights, int count, int limit,
                      uint8_t* codes) {
  const float largest = std::max(0.0f, *std::max_element(values, values + count));
  std::fill_n(codes, count, uint8_t{0});
  if (largest < kZero) return 0;
  const Scales scales{values, weights, count, limit};
  const float inverse = best_inverse(scales, largest);
  Sums sums;
  for (int i = 0; i < count; ++i) {
    codes[i] = static_cast<uint8_t>(std::min(limit, nearest_int(inverse * values[i])));
    sums = with(sums, weights[i], values[i], codes[i], 1);
  }
  for (int pass = 0; pass < 5; ++pass) {
    if (!descend(scales, codes, sums)) break;
  }
  return sums.l2 > 0 ? sums.lx / sums.l2 : 0.0f;
}

}  // namespace fewbits::reference
