#pragma once

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

/// REQUIRES: equal sizes.
RoundingError rounding_error(std::span<const float> values, std::span<const float> rounded);

}  // namespace fewbits
