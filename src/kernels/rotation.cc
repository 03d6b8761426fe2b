#include "kernels/rotation.h"

#include <bit>
#include <cmath>
#include <random>

#include "base/error.h"

namespace fewbits {
namespace {

/// Its own inverse.
void hadamard(float* x, int64_t count) {
  for (int64_t half = 1; half < count; half *= 2) {
    for (int64_t begin = 0; begin < count; begin += 2 * half) {
      for (int64_t i = begin; i < begin + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const float scale = 1 / std::sqrt(static_cast<float>(count));
  for (int64_t i = 0; i < count; ++i) x[i] *= scale;
}

}  // namespace

Rotation::Rotation(int64_t dims, uint32_t seed) : signs_(static_cast<size_t>(dims)) {
  check(dims >= 1);
  block_ = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(dims)));
  std::mt19937 random(seed);
  for (float& sign : signs_) sign = (random() & 1) != 0 ? -1.0f : 1.0f;
}

void Rotation::apply(float* x) const {
  for (int64_t i = 0; i < dims(); ++i) x[i] *= signs_[static_cast<size_t>(i)];
  hadamard(x, block_);
  if (block_ == dims()) return;
  hadamard(x + dims() - block_, block_);
  hadamard(x, block_);
}

void Rotation::undo(float* x) const {
  hadamard(x, block_);
  if (block_ != dims()) {
    hadamard(x + dims() - block_, block_);
    hadamard(x, block_);
  }
  for (int64_t i = 0; i < dims(); ++i) x[i] *= signs_[static_cast<size_t>(i)];
}

}  // namespace fewbits
