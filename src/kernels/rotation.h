#pragma once

#include <cstdint>
#include <vector>

namespace fewbits {

/// An orthonormal map that spreads a vector over all its dimensions in O(n log n): random signs,
/// then a Walsh-Hadamard transform. Where n is no power of two, transforms of the largest power of
/// two below it are applied to the front, to the back and to the front again.
class Rotation {
 public:
  /// REQUIRES: dims >= 1. The same seed gives the same rotation.
  Rotation(int64_t dims, uint32_t seed);

  int64_t dims() const { return static_cast<int64_t>(signs_.size()); }
  void apply(float* x) const;
  void undo(float* x) const;

 private:
  std::vector<float> signs_;
  int64_t block_;  ///< largest power of two that is not above dims
};

}  // namespace fewbits
