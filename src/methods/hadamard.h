#pragma once

#include <cstdint>
#include <vector>

// Orthogonal matrices that spread every coordinate over all others and cost little to apply: random
// signs, then a Hadamard matrix (entries +-1 / sqrt(n)). Sizes are 2^m K: Sylvester's doubling
// makes the power of two, Paley's constructions the K x K matrix, so no table is stored:
//
//   I   K = q + 1,   q = 3 mod 4:  I + [0 1; -1 Q]
//   II  K = 2(q + 1), q = 1 mod 4:  [0 1; 1 Q] (x) [1 1; 1 -1] + I (x) [1 -1; -1 -1]
//
// with Q_ij = chi(i - j), chi the quadratic character of the field of q elements; q is a prime or
// the square of one. Other sizes are cut into equal blocks, each with a matrix of its own size.
// Source: Paley 1933, "On orthogonal matrices"; for weights: Ashkboos et al., "QuaRot" (arXiv
// 2404.00456).
namespace fewbits {

/// A K x K matrix of +1 and -1 with orthogonal rows, K up to 256; empty where neither construction
/// gives one. K = 1 counts as one.
std::vector<int8_t> paley_matrix(int64_t size);

/// The largest divisor of `size` that is a power of two times a size paley_matrix knows.
int64_t hadamard_block(int64_t size);

/// An orthogonal matrix R, never written out.
class HadamardRotation {
 public:
  /// The same for the same numbers everywhere. `keeps_mean`: the vector of ones is left as it is,
  /// and with it the mean of every other, which layer norms subtract; a reflection sees to it.
  HadamardRotation(int64_t size, uint64_t seed, bool keeps_mean = false);

  int64_t size() const { return static_cast<int64_t>(signs_.size()); }

  /// v becomes v R for each of `width` vectors side by side: element i of vector j is
  /// values[i * stride + j].
  void apply(float* values, int64_t width = 1, int64_t stride = 1) const;

 private:
  void transform_block(float* values, int64_t width, int64_t stride) const;
  void multiply_factor(float* values, int64_t width, int64_t stride) const;
  void reflect(float* values, int64_t width, int64_t stride) const;

  std::vector<float> signs_;    ///< 1 or -1, over the root of the block's size
  int64_t block_ = 1;           ///< factor_size_ times a power of two
  int64_t factor_size_ = 1;     ///< K
  std::vector<int8_t> factor_;  ///< K x K
  std::vector<float> mirror_;   ///< of unit length; empty: no reflection
};

}  // namespace fewbits
