#include "evaluate/logit_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace fewbits {
namespace {

// Sums run in lanes side by side, so that compilers can keep them in vector registers without being
// allowed to reorder anything.
constexpr size_t kLanes = 8;
// Exponentials are made a piece at a time, small enough for the first-level cache.
constexpr size_t kPiece = 512;

/// exp(x) for x <= 0, relative error below 1.5e-7; what is below exp(-86) = 5e-38 becomes that.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n exp(r). Adding 1.5 * 2^23 rounds to a whole
/// number and leaves it in the low bits; ln 2 is split in two so that n times its first part is
/// exact. The polynomial is the minimax fit of degree 6, error 2e-9.
inline float exp_of_negative(float x) {
  constexpr float kRound = 12582912.0f;
  constexpr float kLog2e = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  // x is negative, so its bits without the sign grow as it falls; a float minimum would not be
  // vectorised.
  const int32_t fall =
      std::min(std::bit_cast<int32_t>(x) & 0x7fffffff, std::bit_cast<int32_t>(86.0f));
  x = -std::bit_cast<float>(fall);
  const float shifted = x * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float y = 0.00138368353f;
  y = y * r + 0.00837482419f;
  y = y * r + 0.0416682251f;
  y = y * r + 0.166664198f;
  y = y * r + 0.499999911f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) +
                              (std::bit_cast<uint32_t>(shifted) << 23));
}

using Lanes = std::array<double, kLanes>;

double total(const Lanes& lanes) {
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

// The largest float is found among their bits, as integers: compilers may not reorder float
// comparisons (NaN, the two zeros) and so leave them one by one.

/// Whether no exponent field is all ones.
bool all_finite(std::span<const float> values) {
  int32_t largest = 0;
  for (const float value : values)
    largest = std::max(largest, std::bit_cast<int32_t>(value) & 0x7fffffff);
  return largest < 0x7f800000;
}

/// REQUIRES: finite values.
float max_of(std::span<const float> values) {
  // Flipping the magnitude of negative numbers makes the bits ascend as the floats do; flipping
  // again brings them back.
  const auto flip = [](int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); };
  int32_t largest = std::numeric_limits<int32_t>::min();
  for (const float value : values) largest = std::max(largest, flip(std::bit_cast<int32_t>(value)));
  return std::bit_cast<float>(flip(largest));
}

/// finite, max and top; log_sum_exp is left.
LogitRow find_top(std::span<const float> logits) {
  LogitRow row;
  if (!all_finite(logits)) return row;
  row.finite = true;
  size_t best =
      0;  // where the first piece with the largest value begins: only that one is searched
  for (size_t start = 0; start < logits.size(); start += kPiece) {
    const float max = max_of(logits.subspan(start, std::min(kPiece, logits.size() - start)));
    if (start == 0 || max > row.max) {
      row.max = max;
      best = start;
    }
  }
  row.top = std::find(logits.begin() + static_cast<std::ptrdiff_t>(best), logits.end(), row.max) -
            logits.begin();
  return row;
}

template <class Value>
using Piece = std::array<Value, kPiece>;

/// What lies beyond `count` weighs nothing.
void exponentials(const float* x, size_t count, float max, Piece<float>& out) {
  for (size_t i = 0; i < count; ++i) out[i] = exp_of_negative(x[i] - max);
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(), 0.0f);
}

void differences(const float* a, const float* b, size_t count, Piece<double>& out) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<double>(a[i]) - static_cast<double>(b[i]);
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(), 0.0);
}

void add_up(const Piece<float>& values, Lanes& sums) {
  for (size_t i = 0; i < kPiece; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += static_cast<double>(values[i + lane]);
  }
}

void add_products(const Piece<float>& weights, const Piece<double>& values, Lanes& sums) {
  for (size_t i = 0; i < kPiece; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(weights[i + lane]) * values[i + lane];
    }
  }
}

double log_sum_exp(std::span<const float> logits, float max) {
  Piece<float> weights;
  Lanes sums{};
  for (size_t start = 0; start < logits.size(); start += kPiece) {
    exponentials(logits.data() + start, std::min(kPiece, logits.size() - start), max, weights);
    add_up(weights, sums);
  }
  return static_cast<double>(max) + std::log(total(sums));
}

/// The reference's log_sum_exp, and the mean under its distribution of its logits less the model's.
struct MeanDifference {
  double log_sum_exp;
  double mean;
};
MeanDifference mean_difference(std::span<const float> reference, std::span<const float> model,
                               float max) {
  Piece<float> weights;
  Piece<double> values;
  Lanes sums{};
  Lanes weighted{};
  for (size_t start = 0; start < reference.size(); start += kPiece) {
    const size_t count = std::min(kPiece, reference.size() - start);
    exponentials(reference.data() + start, count, max, weights);
    differences(reference.data() + start, model.data() + start, count, values);
    add_up(weights, sums);
    add_products(weights, values, weighted);
  }
  const double sum = total(sums);
  return {static_cast<double>(max) + std::log(sum), total(weighted) / sum};
}

}  // namespace

LogitRow summarize(std::span<const float> logits) {
  check(!logits.empty());
  LogitRow row = find_top(logits);
  if (row.finite) row.log_sum_exp = log_sum_exp(logits, row.max);
  return row;
}

LogitPair compare(std::span<const float> reference, std::span<const float> model) {
  check(!reference.empty() && reference.size() == model.size());
  LogitPair pair{.reference = find_top(reference), .model = summarize(model)};
  if (!pair.reference.finite || !pair.model.finite) return pair;
  const MeanDifference difference = mean_difference(reference, model, pair.reference.max);
  pair.reference.log_sum_exp = difference.log_sum_exp;
  // sum p (log p - log q) = sum p (x_p - x_q) - (lse_p - lse_q)
  const double divergence = difference.mean - (pair.reference.log_sum_exp - pair.model.log_sum_exp);
  pair.divergence = std::max(0.0, divergence);
  return pair;
}

}  // namespace fewbits
