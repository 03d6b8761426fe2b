#include "methods/hadamard.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr int64_t kLargestFactor = 256;
constexpr int64_t kStripe = 64;  // vectors worked on at once: 8192 rows of them stay in a cache

bool is_prime(int64_t n) {
  for (int64_t d = 2; d * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return n > 1;
}

/// 1 where n is a square modulo the odd prime p, -1 where it is none, 0 for multiples of p.
int quadratic_character(int64_t n, int64_t p) {
  n = (n % p + p) % p;
  if (n == 0) return 0;
  for (int64_t i = 1; i <= p / 2; ++i) {
    if (i * i % p == n) return 1;
  }
  return -1;
}

/// Differences and squares in the field of q elements, q an odd prime or the square of one.
class Field {
 public:
  explicit Field(int64_t q) : size_(q) {
    const auto root = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(q))));
    prime_ = is_prime(q) ? q : root * root == q && is_prime(root) ? root : 0;
    if (prime_ == q || prime_ == 0) return;
    while (quadratic_character(non_square_, prime_) != -1) ++non_square_;
  }

  bool exists() const { return prime_ > 2; }

  /// chi(a - b). An element of the square field is a + b t with t^2 no square of the prime field;
  /// it is a square where its norm a^2 - t^2 b^2 is one there.
  int character(int64_t a, int64_t b) const {
    if (prime_ == size_) return quadratic_character(a - b, prime_);
    const int64_t low = a % prime_ - b % prime_, high = a / prime_ - b / prime_;
    return quadratic_character(low * low - non_square_ * high * high, prime_);
  }

 private:
  int64_t size_, prime_ = 0;
  int64_t non_square_ = 1;
};

/// [0 1; sign Q], (q + 1) square.
std::vector<int> bordered(const Field& field, int64_t q, int sign) {
  const int64_t n = q + 1;
  std::vector<int> matrix(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      int& value = matrix[static_cast<size_t>(i * n + j)];
      if (i > 0 && j > 0) value = field.character(i - 1, j - 1);
      if (i == 0 && j > 0) value = 1;
      if (i > 0 && j == 0) value = sign;
    }
  }
  return matrix;
}

std::vector<int8_t> first_construction(const Field& field, int64_t q) {
  const int64_t n = q + 1;
  const std::vector<int> s = bordered(field, q, -1);
  std::vector<int8_t> matrix(s.begin(), s.end());
  for (int64_t i = 0; i < n; ++i) matrix[static_cast<size_t>(i * n + i)] = 1;
  return matrix;
}

std::vector<int8_t> second_construction(const Field& field, int64_t q) {
  const int64_t half = q + 1, n = 2 * half;
  const std::vector<int> c = bordered(field, q, 1);
  constexpr int kOutside[2][2] = {{1, 1}, {1, -1}}, kOnDiagonal[2][2] = {{1, -1}, {-1, -1}};
  std::vector<int8_t> matrix(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const int entry = c[static_cast<size_t>(i / 2 * half + j / 2)];
      const int sign = i / 2 == j / 2 ? kOnDiagonal[i % 2][j % 2] : entry * kOutside[i % 2][j % 2];
      matrix[static_cast<size_t>(i * n + j)] = static_cast<int8_t>(sign);
    }
  }
  return matrix;
}

/// K for a block of `size`; 0: there is none.
int64_t factor_of(int64_t size) {
  int64_t odd = size;
  while (odd % 2 == 0) odd /= 2;
  if (odd == 1) return 1;
  for (int64_t factor = 4 * odd; factor <= kLargestFactor && size % factor == 0; factor *= 2) {
    if (!paley_matrix(factor).empty()) return factor;
  }
  return 0;
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
uint64_t next_random(uint64_t& state) {
  state += 0x9E3779B97F4A7C15u;
  uint64_t x = state;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<int8_t> paley_matrix(int64_t size) {
  if (size == 1) return {1};
  if (size < 4 || size % 4 != 0 || size > kLargestFactor) return {};
  if (const Field field(size - 1); field.exists() && (size - 1) % 4 == 3) {
    return first_construction(field, size - 1);
  }
  const int64_t q = size / 2 - 1;
  if (const Field field(q); field.exists() && q % 4 == 1) return second_construction(field, q);
  return {};
}

int64_t hadamard_block(int64_t size) {
  check(size > 0);
  for (int64_t parts = 1; parts < size; ++parts) {
    if (size % parts == 0 && factor_of(size / parts) > 0) return size / parts;
  }
  return 1;
}

HadamardRotation::HadamardRotation(int64_t size, uint64_t seed, bool keeps_mean)
    : signs_(static_cast<size_t>(size)),
      block_(hadamard_block(size)),
      factor_size_(factor_of(block_)),
      factor_(paley_matrix(factor_size_)) {
  const auto root = static_cast<float>(1 / std::sqrt(static_cast<double>(block_)));
  for (float& sign : signs_) sign = (next_random(seed) >> 63) != 0 ? root : -root;
  if (!keeps_mean) return;
  // u R is what becomes of the vector of ones, of unit length; the mirror takes that back to u.
  const auto one = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
  std::vector<float> turned(signs_.size(), one);
  apply(turned.data());
  double square = 0;
  for (float& value : turned) {
    value -= one;
    square += double{value} * value;
  }
  constexpr double kSame = 1e-12;
  if (square < kSame) return;
  for (float& value : turned) value = static_cast<float>(value / std::sqrt(square));
  mirror_ = std::move(turned);
}

void HadamardRotation::apply(float* values, int64_t width, int64_t stride) const {
  for (int64_t first = 0; first < width; first += kStripe) {
    const int64_t count = std::min(kStripe, width - first);
    float* stripe = values + first;
    for (int64_t i = 0; i < size(); ++i) {
      for (int64_t j = 0; j < count; ++j) stripe[i * stride + j] *= signs_[static_cast<size_t>(i)];
    }
    for (int64_t i = 0; i < size(); i += block_)
      transform_block(stripe + i * stride, count, stride);
    if (!mirror_.empty()) reflect(stripe, count, stride);
  }
}

void HadamardRotation::transform_block(float* values, int64_t width, int64_t stride) const {
  const int64_t power = block_ / factor_size_;
  for (int64_t step = 1; step < power; step *= 2) {
    for (int64_t i = 0; i < block_; ++i) {
      if ((i % power & step) != 0) continue;
      float* a = values + i * stride;
      float* b = a + step * stride;
      for (int64_t j = 0; j < width; ++j) {
        const float sum = a[j] + b[j], difference = a[j] - b[j];
        a[j] = sum;
        b[j] = difference;
      }
    }
  }
  if (factor_size_ == 1) return;
  for (int64_t i = 0; i < power; ++i) multiply_factor(values + i * stride, width, power * stride);
}

/// By the K x K matrix, of K elements `stride` apart.
void HadamardRotation::multiply_factor(float* values, int64_t width, int64_t stride) const {
  std::vector<float> result(static_cast<size_t>(factor_size_ * width));
  for (int64_t i = 0; i < factor_size_; ++i) {
    const float* from = values + i * stride;
    for (int64_t k = 0; k < factor_size_; ++k) {
      const float sign = factor_[static_cast<size_t>(i * factor_size_ + k)];
      float* to = result.data() + k * width;
      for (int64_t j = 0; j < width; ++j) to[j] += sign * from[j];
    }
  }
  for (int64_t k = 0; k < factor_size_; ++k) {
    std::copy_n(result.data() + k * width, width, values + k * stride);
  }
}

void HadamardRotation::reflect(float* values, int64_t width, int64_t stride) const {
  std::vector<double> products(static_cast<size_t>(width));
  for (int64_t i = 0; i < size(); ++i) {
    for (int64_t j = 0; j < width; ++j) {
      products[static_cast<size_t>(j)] +=
          double{values[i * stride + j]} * mirror_[static_cast<size_t>(i)];
    }
  }
  for (int64_t i = 0; i < size(); ++i) {
    for (int64_t j = 0; j < width; ++j) {
      values[i * stride + j] -= static_cast<float>(2 * products[static_cast<size_t>(j)] *
                                                   mirror_[static_cast<size_t>(i)]);
    }
  }
}

}  // namespace fewbits
