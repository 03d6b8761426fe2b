#include "pipeline/rounding_error.h"

#include <array>
#include <cstddef>

#include "formats/lanes.h"

namespace fewbits {

// Eight sums side by side, which compilers make vectors of.
FEWBITS_WIDE_LANES RoundingError rounding_error(std::span<const float> values,
                                                std::span<const float> rounded) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> errors{}, squares{};
  const size_t whole = values.size() / kLanes * kLanes;
  const auto add = [&](size_t i, size_t lane) {
    const double value = values[i + lane], lost = value - rounded[i + lane];
    errors[lane] += lost * lost;
    squares[lane] += value * value;
  };
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) add(i, lane);
  }
  for (size_t lane = 0; lane < values.size() - whole; ++lane) add(whole, lane);
  RoundingError sums;
  for (size_t lane = 0; lane < kLanes; ++lane) sums.add({errors[lane], squares[lane]});
  return sums;
}

}  // namespace fewbits
