#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace fewbits {

/// The mean of x x^T over the tokens seen: what a layer's rounding needs to know of its inputs.
/// Sums run in a fixed order, so every thread count gives the same bits.
class GramAccumulator {
 public:
  explicit GramAccumulator(int64_t columns);

  int64_t columns() const { return columns_; }
  int64_t tokens() const { return tokens_; }

  /// Adds rows of inputs, [tokens][columns].
  void add(const float* inputs, int64_t tokens, ThreadPool& pool);

  /// [columns][columns], symmetric. REQUIRES: tokens() > 0.
  std::vector<float> mean() const;

  /// The same without a second matrix in memory; the sums are gone then.
  std::vector<float> take_mean();

 private:
  int64_t columns_;
  int64_t tokens_ = 0;
  std::vector<float> sum_;  ///< only tiles on and above the diagonal are kept up to date
};

/// The mean of y x^T over the tokens seen, likewise.
class CrossAccumulator {
 public:
  CrossAccumulator(int64_t rows, int64_t columns);

  /// Adds rows of y [tokens][rows] and x [tokens][columns].
  void add(const float* y, const float* x, int64_t tokens, ThreadPool& pool);

  /// [rows][columns]; the sums are gone then. REQUIRES: a token was seen.
  std::vector<float> take_mean();

 private:
  int64_t rows_, columns_;
  int64_t tokens_ = 0;
  std::vector<float> sum_;
};

}  // namespace fewbits
