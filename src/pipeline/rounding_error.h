#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace fewbits {

/// What rounding lost of some weights, as sums that add up over the parts of a tensor.
struct RoundingError {
  double error = 0;   ///< of squared errors
  double square = 0;  ///< of squared weights

  void add(const RoundingError& part) {
    error += part.error;
    square += part.square;
  }
  double relative() const { return square > 0 ? error / square : 0; }
};

/// REQUIRES: equal sizes. Eight sums side by side, which compilers make vectors of.
inline RoundingError rounding_error(std::span<const float> values, std::span<const float> rounded) {
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
