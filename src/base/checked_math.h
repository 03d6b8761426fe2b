#pragma once

#include <cstdint>
#include <optional>

// Arithmetic on sizes that come from a file: nothing here can overflow silently. An empty result
// means that the true value does not fit into int64_t.
namespace fewbits {

inline std::optional<int64_t> checked_add(int64_t a, int64_t b) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<int64_t> checked_multiply(int64_t a, int64_t b) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// ceil(a / b) for a >= 0, b > 0.
constexpr int64_t divide_up(int64_t a, int64_t b) {
  return a / b + (a % b != 0);
}

/// The smallest multiple of `step` that is not below `a`. REQUIRES: a >= 0, step > 0, result fits.
constexpr int64_t round_up(int64_t a, int64_t step) {
  return divide_up(a, step) * step;
}

}  // namespace fewbits
