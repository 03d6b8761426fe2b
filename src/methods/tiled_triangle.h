#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace fewbits {

/// The lower triangle of a matrix of doubles, cut into square tiles, so that its factorization is
/// products of tiles, which a pool's threads share out (Buttari et al. 2009, "A class of parallel
/// tiled linear algebra algorithms for multicore architectures"). It takes half the memory of the
/// square and a row of tiles. The tiles' size follows from the matrix's alone: the same bits for
/// any number of threads.
class TiledTriangle {
 public:
  /// All zero.
  explicit TiledTriangle(int64_t size);

  int64_t size() const { return size_; }

  /// REQUIRES: row >= column.
  double& at(int64_t row, int64_t column) { return values_[index(row, column)]; }
  double at(int64_t row, int64_t column) const { return values_[index(row, column)]; }

  /// Elements that lie one behind the other, from this one on: columns of `row`, none behind `row`.
  std::span<double> run(int64_t row, int64_t column);

  /// Of a symmetric A: becomes L with A = L L^T. False where A is not positive definite; what is
  /// left is then of no use.
  bool factor(ThreadPool& pool);

  /// Of such an L: becomes L^-1.
  void invert(ThreadPool& pool);

  static int64_t memory(int64_t size);

 private:
  size_t index(int64_t row, int64_t column) const;
  /// REQUIRES: i >= j.
  double* tile(int64_t i, int64_t j) { return values_.data() + (i * (i + 1) / 2 + j) * area(); }
  int64_t area() const { return side_ * side_; }

  bool factor_tile(int64_t k);
  void divide_by_tile(int64_t i, int64_t k);
  void subtract_product(int64_t i, int64_t j, int64_t k);
  void invert_tile(int64_t j);
  void invert_column(int64_t i, int64_t j, double* sum);

  int64_t size_, side_, tiles_;
  std::vector<double> values_;  ///< tiles of the first row, of the second ..; in each its rows
};

}  // namespace fewbits
