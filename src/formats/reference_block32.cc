#include "formats/reference_block32.h"

#include <cmath>

namespace fewbits::reference {
namespace {

using block32::kValues;

float largest_of(const float* values) {
  float largest = 0;
  for (int i = 0; i < kValues; ++i) {
    if (std::abs(largest) < std::abs(values[i])) largest = values[i];
  }
  return largest;
}

/// Rounds down. What overflow made no number becomes the highest code.
uint8_t capped_code(const Format& format, float code) {
  const auto highest = static_cast<float>(format.levels.size() - 1);
  return static_cast<uint8_t>(std::max(0.0f, std::min(highest, code)));
}

struct FourBlocks {
  std::array<float, kLanesOf<Float4> * kValues> values, weights;
  FourLines lines;
  std::array<uint8_t, kLanesOf<Float4> * kValues> codes;
};

void search(const Format& format, FourBlocks& four) {
  const int levels = static_cast<int>(format.levels.size());
  if (format.levels.front() == 0) {
    const Tries tries{.limit = levels - 1, .first = -0.9f, .step = 0.05f, .count = 36};
    four.lines = search_asymmetric<kValues, false>(four.values.data(), four.weights.data(), tries,
                                                   four.codes.data());
  } else {
    search_symmetric<kValues>(four.values.data(), four.weights.data(), levels / 2,
                              four.lines.scales.data(), four.codes.data());
  }
}

}  // namespace

void encode_symmetric(const Format& format, const float* values, std::byte* block) {
  const auto lowest = static_cast<float>(format.levels.front());
  const float scale = largest_of(values) / lowest;
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  std::array<uint8_t, kValues> codes;
  for (size_t i = 0; i < kValues; ++i) {
    codes[i] = capped_code(format, values[i] * inverse + (0.5f - lowest));
  }
  format.pack({.scale = half_from_float(scale)}, codes.data(), block);
}

void encode_range(const Format& format, const float* values, std::byte* block) {
  const auto [low, high] = std::minmax_element(values, values + kValues);
  const float minimum = *low;
  const float scale = (*high - minimum) / static_cast<float>(format.levels.back());
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  std::array<uint8_t, kValues> codes;
  for (size_t i = 0; i < kValues; ++i) {
    codes[i] = capped_code(format, (values[i] - minimum) * inverse + 0.5f);
  }
  format.pack({.scale = half_from_float(scale), .minimum = half_from_float(minimum)}, codes.data(),
              block);
}

void encode_weighted_row(const Format& format, const float* row, int64_t columns,
                         const float* importance, std::byte* out) {
  const float spread = sum_of_squares(row, columns) / static_cast<float>(columns);
  for (int64_t i = 0; i < columns; i += kLanesOf<Float4> * kValues) {
    const int64_t count = std::min<int64_t>(columns - i, kLanesOf<Float4> * kValues);
    FourBlocks four{};  // blocks beyond the row are zero
    std::copy_n(row + i, count, four.values.begin());
    importance_weights(row + i, importance + i, count, spread, four.weights.data());
    search(format, four);
    for (int64_t b = 0; b * kValues < count; ++b, out += format.block_bytes) {
      const auto lane = static_cast<size_t>(b);
      format.pack({.scale = half_from_float(four.lines.scales[lane]),
                   .minimum = half_from_float(-four.lines.minimums[lane])},
                  four.codes.data() + lane * kValues, out);
    }
  }
}

}  // namespace fewbits::reference
