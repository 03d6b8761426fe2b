#pragma once

#include <cstdint>
#include <random>
#include <vector>

// For tests and benchmarks.
namespace fewbits {

/// The same values for the same seed, with one standard library.
inline std::vector<float> normal_values(int64_t count, uint32_t seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace fewbits
